/// An element of a stream, and what came along with it: see ``MessageStream/events``. What nobody keeps closes when the last copy
/// of the event goes away.
///
/// Thread safety: an immutable value, if the element is one.
public struct StreamEvent<Element> {
  /// The element itself.
  public let element: Element
  private let cargo: MessageCargo?

  init(_ element: Element, _ cargo: MessageCargo?) {
    self.element = element
    self.cargo = cargo
  }

  /// See ``MessageEvent/ports``.
  public var ports: [MessagePort] { cargo?.ports ?? [] }
  /// See ``MessageEvent/descriptors``.
  public var descriptors: [Descriptor] { cargo?.freight.descriptors ?? [] }
  /// See ``MessageEvent/buffers``.
  public var buffers: [MessageBuffer] { cargo?.freight.buffers ?? [] }
}

extension StreamEvent: Sendable where Element: Sendable {}

import Synchronization

/// What handlers were called with, in the order of the calls. Any thread may use it.
public final class Collected<Element: Sendable>: Sendable {
  private let elements = Mutex<[Element]>([])

  public init() {}

  public func append(_ element: Element) { elements.withLock { $0.append(element) } }

  public var all: [Element] { elements.withLock { $0 } }
  public var count: Int { elements.withLock { $0.count } }

  /// Forgets everything; what handlers hold otherwise lives on in here.
  public func removeAll() {
    let old = elements.withLock { elements in
      defer { elements = [] }
      return elements
    }
    _ = old
  }

  /// Waits until there are at least `count`.
  @discardableResult
  public func wait(for count: Int, within limit: Duration = generousLimit) async throws -> [Element] {
    try await eventually("\(count) elements of \(Element.self)", within: limit) { self.count >= count }
    return all
  }
}

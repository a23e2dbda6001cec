// Messages that are values of one type.

extension MessagePort {
  /// Waits for the next message, takes it, and decodes it; see ``receive(timeout:)``.
  ///
  /// - Throws: as ``receive(timeout:)``; also ``PortError/decodingFailed(_:)`` for a message that is no such value, which
  ///   is consumed, and its ports close. Ports that came with a value close as well: to have them, receive the event.
  public func receive<Value: Decodable>(
    _ type: Value.Type, timeout: Duration? = nil
  ) throws(PortError) -> Value {
    try receive(timeout: timeout).decode(type)
  }

  /// Waits for the next message, takes it, and reads a value that reads itself; see `receive(_:timeout:)` of other types.
  @inlinable
  public func receive<Value: MessageValue>(
    _ type: Value.Type, timeout: Duration? = nil
  ) throws(PortError) -> Value {
    try receive(timeout: timeout).decode(type)
  }

  /// The port's messages as values of one type, which read themselves; see `messages(of:)` of other types.
  public func messages<Value: MessageValue & SendableMetatype>(of type: Value.Type) -> Values<Value> {
    Values(port: self) { (event) throws(PortError) in try event.decode(Value.self) }
  }

  /// The port's messages as values of one type. What does not decode goes to ``onMessageError``, and the next message
  /// follows; ports that came with a value close. Otherwise as ``messages``.
  public func messages<Value: Decodable & SendableMetatype>(of type: Value.Type) -> Values<Value> {
    Values(port: self) { (event) throws(PortError) in try event.decode(Value.self) }
  }

  /// See `MessagePort/messages(of:)`.
  public struct Values<Value: Decodable & SendableMetatype>: AsyncSequence, Sendable {
    public typealias Element = Value
    public typealias Failure = PortError
    fileprivate let port: MessagePort
    fileprivate let decode: @Sendable (MessageEvent) throws(PortError) -> Value

    public func makeAsyncIterator() -> AsyncIterator {
      AsyncIterator(port: port, decode: decode, messages: port.messages.makeAsyncIterator())
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
      fileprivate let port: MessagePort
      fileprivate let decode: @Sendable (MessageEvent) throws(PortError) -> Value
      fileprivate var messages: Messages.AsyncIterator

      public mutating func next() async throws(PortError) -> Value? { try await next(isolation: nil) }

      public mutating func next(isolation actor: isolated (any Actor)?) async throws(PortError) -> Value? {
        while true {
          // Beforehand: once the last message is taken, and the other end closed, the port has no handlers any more.
          let onMessageError = port.onMessageError
          guard let event = try await messages.next(isolation: actor) else { return nil }
          do throws(PortError) { return try decode(event) } catch { onMessageError?(.undecodable(error)) }
        }
      }
    }
  }

  /// Posts a message that has no content but its ports; see `postMessage(_:transfer:)`.
  public func postMessage(transfer ports: [MessagePort]) throws(PortError) {
    try postMessage(bytes: RawSpan(), transfer: ports)
  }
}

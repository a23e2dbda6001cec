import SharedRing

// A connection is a port: its messages can be taken as a port's are.

extension Connection {
  /// Takes the next message if there is one, whatever its name. Never blocks, does not start the connection, and takes from
  /// the same queue as the handlers: no message is received twice.
  ///
  /// - Returns: `nil` if nothing waits now, and more may come.
  /// - Throws: ``PortError/peerClosed(_:)`` once there will be no more; ``PortError/closed`` or
  ///   ``PortError/system(_:)``; nothing is lost. ``PortError/decodingFailed(_:)`` for a message without a name, which no
  ///   connection posts: it is consumed.
  /// - Complexity: O(bytes + ports) of the message.
  public func tryReceive() throws(PortError) -> ConnectionEvent? {
    while true {
      switch try port.tryReceive() {
      case .message(let event): if let event = try named(event) { return event }
      case .empty: return nil
      case .closed(let reason): throw .peerClosed(reason)
      }
    }
  }

  /// Waits for the next message, whatever its name, and takes it. Does not start the connection.
  ///
  /// ```swift
  /// func firstPort(of parent: Connection) throws -> MessagePort? {
  ///   try parent.receive(timeout: .seconds(5)).ports.first
  /// }
  /// ```
  ///
  /// Blocks the thread; before it sleeps it spins as ``ChannelOptions/spinPolicy`` says.
  ///
  /// - Parameter timeout: how long to wait at most; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``; otherwise as ``tryReceive()``.
  /// - Complexity: O(bytes + ports) of the message.
  public func receive(timeout: Duration? = nil) throws(PortError) -> ConnectionEvent {
    let deadline = Deadline.after(timeout)
    while true {
      if let event = try named(try port.core.receive(deadline: deadline)) { return event }
    }
  }

  /// `nil`: it was a request, or belongs to one, and is on its way.
  private func named(_ event: MessageEvent) throws(PortError) -> ConnectionEvent? {
    guard let envelope = NamedEnvelope.open(event) else { throw .decodingFailed(NamedEnvelope.Malformed()) }
    guard envelope.kind == .message else {
      requests.take(envelope, over: self, namedHandlers)
      return nil
    }
    return ConnectionEvent(name: envelope.name, message: envelope.body, connection: self)
  }

  /// The connection's messages, whatever their names, as an asynchronous sequence. Iterating it starts the connection; it
  /// ends as ``MessagePort/messages`` does. A message without a name goes to ``onMessageError``.
  ///
  /// Several iterations, and handlers, share the messages: each message goes to one of them.
  public var messages: Messages { Messages(connection: self) }

  /// See ``Connection/messages``.
  public struct Messages: AsyncSequence, Sendable {
    public typealias Element = ConnectionEvent
    public typealias Failure = PortError
    fileprivate let connection: Connection

    public func makeAsyncIterator() -> AsyncIterator {
      AsyncIterator(connection: connection, messages: connection.port.messages.makeAsyncIterator())
    }

    public struct AsyncIterator: AsyncIteratorProtocol {
      fileprivate let connection: Connection
      fileprivate var messages: MessagePort.Messages.AsyncIterator

      public mutating func next() async throws(PortError) -> ConnectionEvent? { try await next(isolation: nil) }

      public mutating func next(isolation actor: isolated (any Actor)?) async throws(PortError) -> ConnectionEvent? {
        while true {
          // Beforehand: once the last message is taken, and the other end closed, the port has no handlers any more.
          let onMessageError = connection.onMessageError
          guard let event = try await messages.next(isolation: actor) else { return nil }
          do throws(PortError) {
            if let event = try connection.named(event) { return event }
          } catch {
            onMessageError?(.undecodable(error))
          }
        }
      }
    }
  }

  // MARK: As a port's

  /// See ``MessagePort/queuedByteCount``. The names count, too.
  public var queuedByteCount: Int { port.queuedByteCount }

  /// See ``MessagePort/setEventLoop(_:)``.
  public func setEventLoop(_ loop: EventLoop) { port.setLoop(loop, keeping: self) }

  /// See ``MessagePort/eventLoop``.
  public var eventLoop: EventLoop { port.eventLoop }

  /// See ``MessagePort/waitForSpace(byteCount:)``. The name counts, too: two bytes more than it has in UTF-8.
  public func waitForSpace(byteCount: Int) async throws(PortError) { try await port.waitForSpace(byteCount: byteCount) }

  /// See ``MessagePort/waitForTransferSpace()``.
  public func waitForTransferSpace() async throws(PortError) { try await port.waitForTransferSpace() }
}

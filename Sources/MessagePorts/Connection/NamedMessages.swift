// A connection's messages under one name, for whoever would rather ask for them than be called.

extension Connection {
  /// Lets the messages with this name wait for whoever iterates what this returns, or receives from it, instead of the handler
  /// that the name had.
  ///
  /// ```swift
  /// func serve(_ connection: Connection) async throws {
  ///   for try await event in connection.messages(named: "add") {
  ///     try connection.postMessage("sum", event.decode([Int].self).reduce(0, +))
  ///   }
  /// }
  /// ```
  ///
  /// It counts as a handler, and is one from now on, whenever the iteration begins: none of its messages is lost. As the first
  /// handler does, it starts the connection, so that messages under other names are unhandled until those have handlers, too; to
  /// have several, and miss none of their messages, use ``Registration/messages(named:)``.
  public func messages(named name: String) -> NamedMessages { messages(named: name, limitBytes: NamedInbox.limitBytes) }

  func messages(named name: String, limitBytes: Int) -> NamedMessages {
    let inbox = NamedInbox(name, of: self, limitBytes: limitBytes)
    // Made in any case: after the connection's last event nobody takes it, and so the inbox hears that nothing will come.
    let handler = inbox.makeHandler()
    set { $0.named.updateValue(handler, forKey: name) }
    return NamedMessages(inbox)
  }
}

extension Connection.Registration {
  /// See ``Connection/messages(named:)``. Nothing comes before ``Connection/handle(_:)`` has returned; if it throws, nothing will.
  ///
  /// ```swift
  /// func open(_ connection: Connection) -> (NamedMessages, NamedMessages) {
  ///   connection.handle { ($0.messages(named: "questions"), $0.messages(named: "news")) }
  /// }
  /// ```
  public mutating func messages(named name: String) -> NamedMessages {
    let inbox = NamedInbox(name, of: connection)
    named[name] = inbox.makeHandler()
    return NamedMessages(inbox)
  }
}

/// The messages that come over a connection under one name, in order: see ``Connection/messages(named:)``.
///
/// They wait here, once the connection's loop has come to them, until somebody takes them. They have been received then, as those
/// that a handler is given have been, and no limit on unread data counts them. If more than 64 MiB wait (each port, descriptor and
/// buffer counting as 64 KiB), so do those behind them, whatever their names, and requests and answers, until half of that is taken.
///
/// It ends when the connection has: after the last message if the other side has closed it, and at once, with what waits
/// here, if this side has. It also ends, after what waits, once another handler has the name, or nobody holds this any more: then
/// the name has no handler. It keeps the connection open.
///
/// Thread safety: a value that may be passed to any task and thread. Its copies, and all iterations, share the messages: each
/// message goes to one of them. ``Connection/messages`` and ``Connection/receive(timeout:)`` take whatever comes before it
/// gets here.
public struct NamedMessages: AsyncSequence, Sendable {
  public typealias Element = ConnectionEvent
  public typealias Failure = PortError
  private let inbox: NamedInbox

  init(_ inbox: NamedInbox) { self.inbox = inbox }

  /// The name.
  public var name: String { inbox.name }

  /// Takes the next message if one waits here. Never blocks.
  ///
  /// - Returns: `nil` if nothing waits now, and more may come.
  /// - Throws: ``PortError/peerClosed(_:)`` once there will be no more; ``PortError/closed`` if this side has closed the connection,
  ///   or another handler has the name; ``PortError/detached``.
  public func tryReceive() throws(PortError) -> ConnectionEvent? { try inbox.tryReceive() }

  /// Waits for the next message, and takes it. Blocks the thread, which does not spin.
  ///
  /// - Parameter timeout: how long to wait at most; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``; ``PortError/notWaitable(_:)`` if nothing waits, on the thread of the connection's event loop,
  ///   by which messages get here, and when that was stopped; otherwise as ``tryReceive()``. Nothing is lost.
  public func receive(timeout: Duration? = nil) throws(PortError) -> ConnectionEvent {
    try inbox.receive(deadline: Deadline.after(timeout))
  }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(inbox: inbox) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate let inbox: NamedInbox

    public mutating func next() async throws(PortError) -> ConnectionEvent? { await inbox.next() }

    public mutating func next(isolation actor: isolated (any Actor)?) async throws(PortError) -> ConnectionEvent? {
      await inbox.next()
    }
  }
}

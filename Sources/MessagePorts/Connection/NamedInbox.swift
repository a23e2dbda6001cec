import DequeModule
import SharedRing

/// Where a connection's messages under one name wait for whoever asks for them.
///
/// The connection's table has its handler, and that has a ``Feed``: when the table lets go of it, because the name is another's,
/// or after the connection's last event, nothing more will come.
final class NamedInbox: Sendable {
  let name: String
  private let connection: Connection
  private let limitBytes: Int
  private let state = PerProcess(State()) { State(isFed: false) }

  /// What may wait here before the connection is held up.
  static let limitBytes = 64 << 20
  /// What each message counts for, besides its bytes, and what each port, descriptor and buffer does.
  private static let messageBytes = 256, cargoBytes = 64 << 10

  private struct State: Sendable {
    var events = Deque<MessageEvent>()
    var byteCount = 0
    var isFed = true
    /// The connection waits until enough was taken. It has no other handler then, and so these are kept here.
    var heldUp: Connection.NamedHandlers?
    var waiters: [Waiter] = []
    var threads = SleepingThreads()
  }

  private struct Waiter: Sendable {
    let id: UInt64
    let resumption: Resumption<MessageEvent?>
  }

  /// Goes with the handler.
  private final class Feed: Sendable {
    private let end: @Sendable () -> Void
    init(_ end: @escaping @Sendable () -> Void) { self.end = end }
    deinit { end() }
  }

  init(_ name: String, of connection: Connection, limitBytes: Int = NamedInbox.limitBytes) {
    (self.name, self.connection, self.limitBytes) = (name, connection, limitBytes)
  }

  deinit {
    connection.removeHandler(name, of: ObjectIdentifier(self))
    if let handlers = state.withLock({ $0.heldUp.take() }) { connection.holdUp(handlers, false) }
  }

  func makeHandler() -> Connection.NamedHandler {
    let feed = Feed { [weak self] in self?.end() }
    return Connection.NamedHandler(inbox: ObjectIdentifier(self)) { [weak self, feed] event in
      self?.deliver(event)
      withExtendedLifetime(feed) {}
    }
  }

  // MARK: What comes

  private static func byteCount(_ event: MessageEvent) -> Int {
    let cargo = event.ports.count + event.descriptors.count + event.buffers.count
    return event.byteCount + messageBytes + cargo * cargoBytes
  }

  /// On the connection's loop.
  private func deliver(_ event: ConnectionEvent) {
    let message = event.message
    let handlers = connection.namedHandlers
    let (waiter, threads, isFull) = state.withLock { state -> (Waiter?, PrivateWord?, Bool) in
      if !state.waiters.isEmpty { return (state.waiters.removeFirst(), nil, false) }
      state.events.append(message)
      state.byteCount += Self.byteCount(message)
      let isFull = state.heldUp == nil && state.byteCount > limitBytes && handlers != nil
      if isFull { state.heldUp = handlers }
      return (nil, state.threads.ring(), isFull)
    }
    if isFull, let handlers { connection.holdUp(handlers, true) }
    waiter?.resumption.resume(message)
    threads?.ring()
  }

  /// Nothing more will come.
  private func end() {
    let (waiters, threads) = state.withLock { state in
      state.isFed = false
      defer { state.waiters = [] }
      return (state.waiters, state.threads.ring())
    }
    for waiter in waiters { waiter.resumption.resume(nil) }
    threads?.ring()
  }

  // MARK: Taking

  private enum Found: Sendable {
    case message(MessageEvent)
    case nothing
    case end
  }

  /// - Parameter prepare: gets ready to wait, with the lock, if there is nothing.
  private func take(orPrepare prepare: (inout State) -> Void = { _ in }) -> Found {
    // Closing takes effect at once, whatever has got here.
    if connection.isClosed { return discard() }
    let (found, handlers) = state.withLock { state -> (Found, Connection.NamedHandlers?) in
      guard let event = state.events.popFirst() else {
        guard state.isFed else { return (.end, nil) }
        prepare(&state)
        return (.nothing, nil)
      }
      state.byteCount -= Self.byteCount(event)
      return (.message(event), state.byteCount <= limitBytes / 2 ? state.heldUp.take() : nil)
    }
    if let handlers { connection.holdUp(handlers, false) }
    return found
  }

  private func discard() -> Found {
    let discarded = state.withLock { state in
      state.byteCount = 0
      defer { state.events = [] }
      return (state.events, state.heldUp.take())
    }
    // Released without the lock.
    return withExtendedLifetime(discarded) { .end }
  }

  private func named(_ event: MessageEvent) -> ConnectionEvent {
    ConnectionEvent(name: name, message: event, connection: connection)
  }

  private var endReason: PortError {
    switch connection.port.core.lifecycle.state {
    case .closed: .closed
    case .detached: .detached
    case .open, .departing: connection.port.core.knownPeerClose.map { .peerClosed($0) } ?? .closed
    }
  }

  func tryReceive() throws(PortError) -> ConnectionEvent? {
    switch take() {
    case .message(let event): return named(event)
    case .nothing: return nil
    case .end: throw endReason
    }
  }

  func receive(deadline: ContinuousClock.Instant?) throws(PortError) -> ConnectionEvent {
    while true {
      var ticket: PrivateWord.Ticket?
      switch take(orPrepare: { ticket = $0.threads.add() }) {
      case .message(let event): return named(event)
      case .end: throw endReason
      case .nothing: break
      }
      guard let ticket else { continue }
      defer { state.withLock { $0.threads.remove(ticket) } }
      if connection.eventLoop.isDeaf { throw .notWaitable(.isOnItsLoop) }
      if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
      ticket.wait(timeoutNanoseconds: Deadline.nanoseconds(until: deadline))
    }
  }

  nonisolated(nonsending) func next() async -> ConnectionEvent? {
    switch take() {
    case .message(let event): return named(event)
    case .end: return nil
    case .nothing: break
    }
    let id = WaiterID.next()
    let event = await withTaskCancellationHandler {
      await Resumption<MessageEvent?>.suspend { resumption in
        var waits = false
        let found = take { state in
          waits = !Task.isCancelled
          if waits { state.waiters.append(Waiter(id: id, resumption: resumption)) }
        }
        switch found {
        case .message(let event): resumption.resume(event)
        case .end: resumption.resume(nil)
        case .nothing: if !waits { resumption.resume(nil) }
        }
      }
    } onCancel: {
      let waiter = state.withLock { state in
        state.waiters.firstIndex { $0.id == id }.map { state.waiters.remove(at: $0) }
      }
      waiter?.resumption.resume(nil)
    }
    return event.map(named)
  }
}

// MARK: - Holding up a connection

extension Connection {
  /// Takes the name's handler away if it is that inbox's.
  fileprivate func removeHandler(_ name: String, of inbox: ObjectIdentifier) {
    let old = namedHandlers?.table.withLock { table in
      table.named[name]?.inbox == inbox ? table.named.removeValue(forKey: name) : nil
    }
    _ = consume old
  }

  /// Lets all messages wait from now on, or not any more, unless another inbox is full. Not with a lock held.
  fileprivate func holdUp(_ handlers: NamedHandlers, _ isFull: Bool) {
    handlers.table.withLock { $0.fullInboxes += isFull ? 1 : -1 }
    port.core.configure(self) { receiver in
      // Asked here, with the lane's lock, so that the last of several callers says how it is.
      let isHeldUp = handlers.table.withLock { $0.fullInboxes > 0 }
      receiver.handlers.onMessage = isHeldUp ? nil : dispatching(to: handlers)
    }
  }
}

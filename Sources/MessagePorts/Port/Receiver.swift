import Synchronization

/// The handlers of a port. Each is called on the port's event loop, one at a time.
struct PortHandlers: Sendable {
  var onMessage: (@Sendable (MessageEvent) -> Void)?
  var onMessageError: (@Sendable (MessageError) -> Void)?
  var onClose: (@Sendable (CloseReason) -> Void)?

  var isEmpty: Bool { onMessage == nil && onMessageError == nil && onClose == nil }
}

/// The receiving end of a lane: who takes its messages, and how far the end has come. A value; the lane's lock guards it.
struct Receiver: Sendable {
  /// The port this end belongs to now. The cycle (port, lane, port) is broken when the port closes or is detached.
  var core: PortCore?
  var handlers = PortHandlers()
  var isStarted = false
  /// Counts the changes to the two above: a turn keeps the handler it has as long as this stays the same.
  var configuration: UInt32 = 0
  /// Tasks that wait for the next message, in the order they came.
  var waiters: [MessageWaiter] = []
  /// Threads that wait for the next message while the channel is local; those of a shared one sleep on its doorbell.
  var parker: Parker?
  /// On the loop's run queue.
  var isScheduled = false
  /// The library's own reference to a started port with a message handler: the program need not hold one.
  var retained: KeptPort?

  enum End: Sendable {
    /// More may come.
    case open
    /// Nothing more will be posted. What is queued is still delivered, and `close` after it.
    case gone(CloseReason)
    /// The `close` event was delivered; nothing will ever happen here again.
    case delivered(CloseReason)
  }
  var end = End.open

  /// Whether a message that waits would be taken now.
  var hasTaker: Bool { (isStarted && handlers.onMessage != nil) || !waiters.isEmpty }

  /// Whether anybody wants to hear from the event loop at all.
  var wantsEvents: Bool { !handlers.isEmpty || !waiters.isEmpty || parker != nil }

  /// A started port with a message handler lives as long as both ends are open.
  var shouldBeRetained: Bool {
    if case .delivered = end { return false }
    return isStarted && handlers.onMessage != nil
  }

  /// Why the channel is at its end, if the other side is gone.
  var peerClosed: CloseReason? {
    switch end {
    case .open: nil
    case .gone(let reason), .delivered(let reason): reason
    }
  }
}

/// A port that the library keeps alive. As long as there is one, its loop is not idle.
final class KeptPort: Sendable {
  /// The port, or the connection that is made of it.
  let owner: any AnyObject & Sendable
  let loop: EventLoop

  /// `nil`: the loop was stopped, and will never call a handler.
  init?(_ core: PortCore, of owner: any AnyObject & Sendable, on loop: EventLoop) {
    self.owner = owner
    self.loop = loop
    guard loop.keep(core, for: self) else { return nil }
  }

  deinit { loop.giveUp(self) }
}

/// A task that waits for the next message: `nil` means that there will be none.
struct MessageWaiter: Sendable {
  let id: UInt64
  let resumption: Resumption<MessageEvent?>
}

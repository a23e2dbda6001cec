/// The handlers of a port. Each is called on the port's event loop, one at a time.
struct PortHandlers: Sendable {
  var onMessage: (@Sendable (MessageEvent) -> Void)?
  /// The message handler is for one message.
  var isOnce = false
  var onMessageError: (@Sendable (MessageError) -> Void)?
  var onClose: (@Sendable (CloseReason) -> Void)?
  /// Is told once that nothing will come any more, and why: the library's own, for those who wait for answers. On any thread,
  /// without a lock; not an event.
  var onEnd: (@Sendable (PortError) -> Void)?

  var isEmpty: Bool { onMessage == nil && onMessageError == nil && onClose == nil && onEnd == nil }
}

/// The receiving end of a lane: who takes its messages, and how far the end has come. A value; the lane's lock guards it.
struct Receiver: Sendable {
  /// The port this end belongs to now. The cycle (port, lane, port) is broken when the port closes or is detached.
  var core: PortCore?
  var handlers = PortHandlers()
  var isStarted = false
  /// The message handler is there for answers to requests only: whoever waits for those keeps the port, and nobody else.
  var isForAnswersOnly = false
  /// Counts the changes to the two above, and the tasks that come to wait: a turn keeps the handler it has as long as
  /// this stays the same.
  var configuration: UInt32 = 0
  /// Tasks that wait for the next message, in the order they came.
  var waiters: [MessageWaiter] = []
  /// Tasks that wait for the end, in the order they came.
  var endWaiters: [EndWaiter] = []
  /// The set that the port is in, if it is in one.
  var awaitedAt: AwaitedPlace?
  /// Threads that wait for the next message.
  var threads = SleepingThreads()
  /// On the loop's run queue.
  var isScheduled = false
  /// The library's own reference to a started port with a message handler: the program need not hold one.
  var retained: KeptPort?

  /// What can still come.
  enum Outlook: Sendable {
    /// More may come.
    case open
    /// Nothing more will be posted. What is queued is still delivered, and `close` after it.
    case gone(CloseReason)
    /// The `close` event was delivered; nothing will ever happen here again.
    case delivered(CloseReason)

    var phase: ReceivingState.Phase {
      switch self {
      case .open: .open
      case .gone: .gone
      case .delivered: .over
      }
    }
  }
  var outlook = Outlook.open

  /// Whether a message that waits would be taken now.
  var takesMessages: Bool { (isStarted && handlers.onMessage != nil) || !waiters.isEmpty }

  /// Whether the loop is to listen for messages: somebody takes them, or is to be told of the next one.
  var hasTaker: Bool { takesMessages || isAwaited }

  /// Whether a set is to be told.
  private var isAwaited: Bool { awaitedAt?.isArmed ?? false }

  /// Whether anybody wants to hear from the event loop at all.
  var wantsEvents: Bool { !handlers.isEmpty || !waiters.isEmpty || !endWaiters.isEmpty || isAwaited }

  /// A started port with a message handler lives as long as both ends are open.
  var shouldBeRetained: Bool {
    if case .delivered = outlook { return false }
    return isStarted && handlers.onMessage != nil && !isForAnswersOnly
  }

  /// Why the channel has closed, if the other end is gone.
  var peerClosed: CloseReason? {
    switch outlook {
    case .open: nil
    case .gone(let reason), .delivered(let reason): reason
    }
  }
}

extension Receiver {
  /// Whom every message goes to, as long as no task waits for one.
  var plainHandler: (@Sendable (MessageEvent) -> Void)? {
    isStarted && waiters.isEmpty && !handlers.isOnce ? handlers.onMessage : nil
  }

  /// The handler for a message that is about to be delivered. One that is for one message has no further part in the port;
  /// what goes with it is added to `after`.
  mutating func handlerForMessage(_ after: inout AfterLock) -> (@Sendable (MessageEvent) -> Void)? {
    guard let handler = handlers.onMessage, handlers.isOnce else { return handlers.onMessage }
    handlers.onMessage = nil
    handlers.isOnce = false
    configuration &+= 1
    if !shouldBeRetained { after.release(retained.take()) }
    return handler
  }

  mutating func addWaiter(_ waiter: MessageWaiter) {
    waiters.append(waiter)
    configuration &+= 1
  }

  mutating func removeWaiter(_ id: UInt64) -> MessageWaiter? {
    waiters.firstIndex { $0.id == id }.map { waiters.remove(at: $0) }
  }

  /// Something has come, or nothing more will: who has to look. Under the lane's lock.
  mutating func notify() -> AfterLock {
    // A set needs no loop to find that out.
    let member = awaitedAt == nil || takesMessages ? nil : announce()
    var after = lookAgain()
    if let member { after.list(member) }
    return after
  }

  /// Something may have changed: the loop looks, and so do threads that wait. Resumes nobody, so that it may be performed under
  /// the ``TransferLock``. Under the lane's lock.
  mutating func lookAgain() -> AfterLock {
    var after = AfterLock.none
    after.scheduled = schedule()
    after.rung = threads.ring()
    return after
  }

  /// The port that has to be given a turn, if anybody wants to hear from its loop and it has not been asked for one.
  mutating func schedule() -> PortCore? {
    guard let core, !isScheduled, wantsEvents else { return nil }
    isScheduled = true
    return core
  }
}

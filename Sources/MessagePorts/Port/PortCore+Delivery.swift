import CSupport
import SharedRing
import Synchronization

/// What the loop has to do for a port once its lane is unlocked again.
private enum Delivery {
  case message(@Sendable (MessageEvent) -> Void, MessageEvent)
  case resume(MessageWaiter, MessageEvent?)
  case messageError((@Sendable (MessageError) -> Void)?, MessageError)
  case close(@Sendable (CloseReason) -> Void, CloseReason, Leftovers)
  /// The peer broke the format: hang up on it.
  case hangUp(SharedChannel?)
  /// Drop these, outside the lock.
  case finished(Leftovers)
  case nothing(TurnResult)
}

/// References whose release may run code of the program, and must not do so under a lock.
struct Leftovers: Sendable {
  var handlers: PortHandlers?
  /// Handlers that came too late.
  var unused = PortHandlers()
  var retained: KeptPort?
  var queue: [QueuedMessage] = []
}

extension PortCore {
  /// Delivers up to `budget` events, on `runner`'s thread. If that is not the port's loop any more, the port's loop is
  /// asked to do it.
  func turn(budget: Int, on runner: EventLoop) -> TurnResult {
    // A port can be moved to another loop while a handler runs here; that loop has to wait, so that calls never overlap.
    guard turns.begin() else { return .idle }
    let result = deliver(upTo: budget, on: runner)
    let wasAwaited = turns.end()
    guard let result, !wasAwaited else {
      loop.schedule(self)
      return .idle
    }
    return result
  }

  /// `nil`: the port has been moved to another loop.
  private func deliver(upTo budget: Int, on runner: EventLoop) -> TurnResult? {
    var remaining = budget
    while remaining > 0 {
      guard loop === runner else { return nil }
      remaining -= deliverPlain(upTo: remaining)
      guard remaining > 0 else { break }
      guard loop === runner else { return nil }
      remaining -= 1
      let delivery = nextDelivery()
      // [about-to-call] Release: pairs with the acquire in `waitForCallToBegin`; the call has begun.
      isAboutToCall.store(false, ordering: .releasing)
      switch delivery {
      case .message(let handler, let event): handler(event)
      case .resume(let waiter, let event): waiter.resumption.resume(event)
      case .messageError(let handler, let error): handler?(error)
      case .close(let handler, let reason, let leftovers):
        stopWatching()
        handler(reason)
        _ = consume leftovers
      case .hangUp(let channel): channel?.hangUp()
      case .finished(let leftovers):
        stopWatching()
        _ = consume leftovers
        return .idle
      case .nothing(let result): return result
      }
    }
    return .more
  }

  /// The common case, made short: whole messages without ports on the ring, and a handler that stays the same. The lock
  /// is taken for each message all the same, because the handler may close or transfer the port, and what is still
  /// queued then is not for it.
  private func deliverPlain(upTo limit: Int) -> Int {
    let (handler, configuration) = incoming.state.withLock { lane in
      (lane.receiver.isStarted ? lane.receiver.handlers.onMessage : nil, lane.receiver.configuration)
    }
    guard let handler else { return 0 }
    var event = MessageEvent(payload: MessagePayload(), ports: [])
    for delivered in 0..<limit {
      let wasTaken = incoming.state.withLock { lane in
        guard lifecycle.isOpen, lane.receiver.configuration == configuration, lane.receiver.waiters.isEmpty,
          lane.queue.isEmpty, lane.takePlain(into: &event)
        else { return false }
        isAboutToCall.store(true, ordering: .relaxed)
        return true
      }
      guard wasTaken else { return delivered }
      // [about-to-call] Release: pairs with the acquire in `waitForCallToBegin`; the call has begun.
      isAboutToCall.store(false, ordering: .releasing)
      handler(event)
    }
    return limit
  }

  /// Returns once no handler of this port is about to be called: after that, with the lifecycle changed, none will be. A
  /// call that has begun may still be running. Not to be called with a lane locked.
  func waitForCallToBegin() {
    // The flag is set under the lane's lock, by a loop that found the port open; whoever closes the port has had that
    // lock since. It is up for some instructions only, unless the loop's thread is preempted.
    // [about-to-call] Acquire: pairs with the releases in `deliver` and `deliverPlain`.
    while isAboutToCall.load(ordering: .acquiring), !loop.isCurrent { csupport_cpu_relax() }
  }

  private func nextDelivery() -> Delivery {
    incoming.state.withLock { lane in
      guard lifecycle.isOpen else {
        lane.receiver.isScheduled = false
        return .nothing(.idle)
      }
      isAboutToCall.store(true, ordering: .relaxed)
      return lane.nextDelivery(loop: loop)
    }
  }

  /// Says on the doorbell that the loop is going to sleep. `false`: there is something to deliver after all.
  func prepareToSleep(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation {
    incoming.state.withLock { lane in
      // What another loop says on the doorbell is none of `runner`'s business.
      guard loop === runner, lifecycle.isOpen, lane.receiver.hasTaker, lane.consumer.isAttached,
        case .open = lane.receiver.end
      else { return .notNeeded }
      let maySleep = lane.consumer.prepareToSleep(doorbell)
      if lane.consumer.takeOwedRing() { lane.receivingChannel?.ring() }
      if maySleep, let memory = lane.consumer.memory { return unsafe .ready(lane.consumer.doorbellWord, memory) }
      lane.receiver.isScheduled = true
      return .hasWork
    }
  }

  /// Whether a message has come, for a loop that looks around before it sleeps. Claims the port's next turn if so.
  func claimTurnIfReady() -> Bool {
    incoming.state.withLock { lane in
      guard !lane.receiver.isScheduled, !lane.consumer.isEmpty else { return false }
      lane.receiver.isScheduled = true
      return true
    }
  }

  /// The other end was found breaking the protocol by whoever had this end before: `close` is all that will come.
  func endReceiving(_ violation: String) {
    incoming.state.withLock { _ = $0.endReading(violation) }
    outgoing.state.withLock { $0.isReceiverGone = true }
  }

  /// The doorbell rang on the socket.
  func drainDoorbells() {
    incoming.state.withLock { lane in
      // Once the port departs, the packets are the next owner's.
      if lifecycle.isOpen { lane.receivingChannel?.drainDoorbells() }
    }
  }
}

extension LaneState {
  /// The state machine of a receiving end: what happens next, given what has come and who takes it.
  fileprivate mutating func nextDelivery(loop: @autoclosure () -> EventLoop) -> Delivery {
    if receiver.hasTaker {
      switch take(loop: loop()) {
      case .message(let event):
        if !receiver.waiters.isEmpty { return .resume(receiver.waiters.removeFirst(), event) }
        guard let handler = receiver.handlers.onMessage else { preconditionFailure("a message without a taker") }
        return .message(handler, event)
      case .failed(let error): return .messageError(receiver.handlers.onMessageError, error)
      case .violation(let what): return .hangUp(endReading(what))
      case .blocked:
        receiver.isScheduled = false
        return .nothing(.blocked)
      case .nothing: break
      }
    }
    guard case .gone(let reason) = receiver.end else {
      receiver.isScheduled = false
      // The loop may have been rung in the place of a thread that sleeps in a receive.
      if !receiver.hasTaker, consumer.isAttached, !consumer.isEmpty {
        receiver.core.map { wakeThreads(of: $0) }
      }
      return .nothing(receiver.hasTaker && consumer.isAttached ? .wait : .idle)
    }
    switch lookAhead() {
    case .violation(let what): return .hangUp(endReading(what))
    case .message:
      if receiver.hasTaker { return .nothing(.more) }
      receiver.isScheduled = false
      return .nothing(.idle)
    case .blocked:
      receiver.isScheduled = false
      return .nothing(.blocked)
    case .nothing: return finish(reason)
    }
  }

  /// Everything was delivered, and there will be nothing more.
  private mutating func finish(_ reason: CloseReason) -> Delivery {
    receivingChannel?.discardPackets()
    if !receiver.waiters.isEmpty { return .resume(receiver.waiters.removeFirst(), nil) }
    var leftovers = Leftovers()
    leftovers.handlers = receiver.handlers
    leftovers.retained = receiver.retained.take()
    let onClose = receiver.handlers.onClose
    receiver.handlers = PortHandlers()
    guard let onClose else {
      // Whoever asks later is still told.
      receiver.isScheduled = false
      return .finished(leftovers)
    }
    receiver.end = .delivered(reason)
    return .close(onClose, reason, leftovers)
  }

  /// The peer broke the format: whatever it writes from now on is not looked at.
  mutating func endReading(_ what: String) -> SharedChannel? {
    consumer = RingConsumer()
    assembler = MessageAssembler()
    receiver.end = .gone(.protocolViolation(what))
    return receivingChannel
  }
}

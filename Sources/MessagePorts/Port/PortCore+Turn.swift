import CSupport
import SharedRing
import Synchronization

/// What the loop has to do for a port once its lane is unlocked again.
private enum Delivery {
  case message(@Sendable (MessageEvent) -> Void, MessageEvent)
  case resume(MessageWaiter, MessageEvent?)
  case messageError((@Sendable (MessageError) -> Void)?, MessageError)
  case close(@Sendable (CloseReason) -> Void, CloseReason, AfterLock)
  /// The peer broke the format: hang up on it.
  case hangUp(SharedChannel?)
  /// Nothing will ever come again; what was held for it goes outside the lock.
  case finished(AfterLock)
  case nothing(TurnResult)
}

extension PortCore {
  /// Delivers up to `budget` events, on `runner`'s thread. If that is not the port's loop any more, the port's loop is
  /// asked to do it.
  func turn(budget: Int, on runner: EventLoop) -> TurnResult {
    // A port can be moved to another loop while a handler runs here; that loop has to wait, so that calls never overlap.
    guard turns.begin() else { return .idle }
    turnThread.store(csupport_thread_id(), ordering: .relaxed)
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
      var after = AfterLock.none
      let delivery = nextDelivery(&after)
      // [about-to-call] Release: pairs with the acquire in `waitForCallToBegin`; the call has begun.
      isAboutToCall.store(false, ordering: .releasing)
      after.perform()
      switch delivery {
      case .message(let handler, let event): handler(event)
      case .resume(let waiter, let event): waiter.resumption.resume(event)
      case .messageError(let handler, let error): handler?(error)
      case .close(let handler, let reason, let released):
        stopWatching()
        handler(reason)
        _ = consume released
      case .hangUp(let channel): channel?.hangUp()
      case .finished(let released):
        stopWatching()
        _ = consume released
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
    let (handler, configuration) = withReceiver { ($0.plainHandler, $0.configuration) }
    guard let handler else { return 0 }
    var event = MessageEvent(payload: MessagePayload(), ports: [])
    for delivered in 0..<limit {
      let wasTaken = incoming.state.withLock { lane in
        // Once there is a ring, nothing waits in the local queue.
        guard lifecycle.isOpen, lane.receiving.receiver.configuration == configuration,
          lane.receiving.takePlain(into: &event)
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
    let mine = csupport_thread_id()
    // Relaxed, of the thread: it was written before the flag, under the same lock.
    while isAboutToCall.load(ordering: .acquiring), turnThread.load(ordering: .relaxed) != mine { csupport_cpu_relax() }
  }

  private func nextDelivery(_ after: inout AfterLock) -> Delivery {
    incoming.state.withLock { lane -> Delivery in
      guard lifecycle.isOpen else {
        lane.receiving.receiver.isScheduled = false
        return .nothing(.idle)
      }
      isAboutToCall.store(true, ordering: .relaxed)
      return lane.nextDelivery(&after, loop: loop)
    }
  }

  /// Says on the doorbell that the loop is going to sleep, unless there is something to deliver after all.
  func prepareToSleep(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation {
    incoming.state.withLock { lane in
      // What another loop says on the doorbell is none of `runner`'s business.
      guard loop === runner, lifecycle.isOpen else { return .notNeeded }
      return lane.receiving.prepareToSleep(doorbell)
    }
  }

  /// Whether a message has come, for a loop that looks around before it sleeps. Claims the port's next turn if so.
  func claimTurnIfReady() -> Bool {
    incoming.state.withLock { lane in
      guard !lane.receiving.receiver.isScheduled, !lane.receiving.records.consumer.isEmpty else { return false }
      lane.receiving.receiver.isScheduled = true
      return true
    }
  }

  /// The other end was found breaking the protocol by whoever had this end before: `close` is all that will come.
  func endReceiving(_ violation: String) {
    incoming.state.withLock { _ = $0.receiving.endReading(violation) }
    outgoing.state.withLock { $0.sending.audience.leave() }
  }

  /// The doorbell rang on the socket.
  func drainDoorbells() {
    incoming.state.withLock { lane in
      // Once the port departs, the packets are the next owner's.
      if lifecycle.isOpen { lane.receiving.transport.channel?.drainDoorbells() }
    }
  }
}

extension LaneState {
  /// The state machine of a receiving end: what happens next, given what has come and who takes it.
  fileprivate mutating func nextDelivery(_ after: inout AfterLock, loop: @autoclosure () -> EventLoop) -> Delivery {
    if receiving.receiver.hasTaker {
      switch take(&after, loop: loop()) {
      case .message(let event):
        if !receiving.receiver.waiters.isEmpty { return .resume(receiving.receiver.waiters.removeFirst(), event) }
        guard let handler = receiving.receiver.handlers.onMessage else {
          preconditionFailure("a message without a taker")
        }
        return .message(handler, event)
      case .failed(let error): return .messageError(receiving.receiver.handlers.onMessageError, error)
      case .violation(let what): return .hangUp(receiving.endReading(what))
      case .blocked: return receiving.rest(.blocked)
      case .nothing: break
      }
    }
    return receiving.nextWithoutMessage()
  }
}

extension ReceivingHalf {
  fileprivate mutating func prepareToSleep(_ doorbell: UInt32) -> SleepPreparation {
    guard receiver.hasTaker, records.consumer.isAttached, case .open = receiver.end else { return .notNeeded }
    let maySleep = records.consumer.prepareToSleep(doorbell)
    payOwedRing()
    if maySleep { return self.doorbell }
    receiver.isScheduled = true
    return .hasWork
  }

  /// No message can be delivered: the port waits for one, or is at its end.
  fileprivate mutating func nextWithoutMessage() -> Delivery {
    guard case .gone(let reason) = receiver.end else {
      leaveDoorbellToThreads()
      return rest(receiver.hasTaker && records.consumer.isAttached ? .wait : .idle)
    }
    switch lookAhead() {
    case .violation(let what): return .hangUp(endReading(what))
    case .message: return receiver.hasTaker ? .nothing(.more) : rest(.idle)
    case .blocked: return rest(.blocked)
    case .nothing: return finish(reason)
    }
  }

  /// The port's turn is over, and the next one is not asked for.
  fileprivate mutating func rest(_ result: TurnResult) -> Delivery {
    receiver.isScheduled = false
    return .nothing(result)
  }

  /// Everything was delivered, and there will be nothing more.
  private mutating func finish(_ reason: CloseReason) -> Delivery {
    transport.channel?.discardPackets()
    if !receiver.waiters.isEmpty { return .resume(receiver.waiters.removeFirst(), nil) }
    var released = AfterLock.none
    released.release(receiver.handlers)
    released.release(receiver.retained.take())
    let onClose = receiver.handlers.onClose
    receiver.handlers = PortHandlers()
    guard let onClose else {
      // Whoever asks later is still told.
      receiver.isScheduled = false
      return .finished(released)
    }
    receiver.end = .delivered(reason)
    return .close(onClose, reason, released)
  }
}

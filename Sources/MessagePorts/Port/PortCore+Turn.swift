import CSupport
import SharedRing

/// What the loop has to do for a port once its lane is unlocked again.
private enum Delivery {
  /// The message that was taken.
  case message(@Sendable (MessageEvent) -> Void)
  case resume(MessageWaiter)
  /// There will be none.
  case dismiss(MessageWaiter)
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
    var allowance = TurnAllowance.ofTurn
    let process = ProcessMark.current
    while remaining > 0 {
      guard isServed(by: runner) else { return nil }
      let (delivered, hasRunDry) = deliverPlain(upTo: remaining, &allowance)
      if hasRunDry { return .wait }
      remaining -= delivered
      if allowance.isSpent { return .spent }
      guard remaining > 0 else { break }
      guard isServed(by: runner) else { return nil }
      // What the turn begins with has cost nobody anything yet.
      if remaining < budget { allowance.checkTime() }
      remaining -= 1
      var after = AfterLock.none
      var event = MessageEvent()
      let delivery = nextDelivery(into: &event, &after, &allowance)
      // [about-to-call] Release: pairs with the acquire in `waitForCallToBegin`; the call has begun.
      isAboutToCall.store(false, ordering: .releasing)
      after.perform()
      switch delivery {
      case .message(let handler): handler(event)
      case .resume(let waiter): waiter.resumption.resume(event)
      case .dismiss(let waiter): waiter.resumption.resume(nil)
      case .messageError(let handler, let error): handler?(error)
      case .close(let handler, let reason, let released):
        stopWatching()
        handler(reason)
        released.perform()
      case .hangUp(let channel): breakOff(channel)
      case .finished(let released):
        stopWatching()
        released.perform()
        return .idle
      case .nothing(.more): return allowance.isSpent ? .spent : .more
      case .nothing(let result): return result
      }
      process.endProcessIfInherited()
      if allowance.isSpent { return .spent }
    }
    return .more
  }

  /// The common case, made short: whole messages without ports on the ring, and a handler that stays the same. The lock
  /// is taken for each message all the same, because the handler may close or transfer the port, and what is still
  /// queued then is not for it.
  ///
  /// The clock is not for each message, but a handler that takes its time must not have a whole turn of it.
  ///
  /// - Returns: how many, and whether all that is left to do is to wait for more.
  private func deliverPlain(
    upTo limit: Int, _ allowance: inout TurnAllowance
  ) -> (delivered: Int, hasRunDry: Bool) {
    let (handler, configuration) = withReceiver { ($0.plainHandler, $0.configuration) }
    // The process's end changes the configuration: if that comes after this look, no message is taken any more.
    guard let handler, !ProcessEnd.hasCome else { return (0, false) }
    var event = MessageEvent()
    let process = ProcessMark.current
    for delivered in 0..<limit {
      var hasRunDry = false
      let wasTaken = incoming.state.withLock { lane in
        // Once there is a ring, nothing waits in the local queue.
        guard lifecycle.isOpen, lane.receiving.receiver.configuration == configuration else { return false }
        guard lane.receiving.takePlain(into: &event) else {
          hasRunDry = lane.receiving.restIfDry()
          return false
        }
        isAboutToCall.store(true, ordering: .relaxed)
        return true
      }
      guard wasTaken else { return (delivered, hasRunDry) }
      // [about-to-call] Release: pairs with the acquire in `waitForCallToBegin`; the call has begun.
      isAboutToCall.store(false, ordering: .releasing)
      handler(event)
      process.endProcessIfInherited()
      if delivered % 16 == 15 {
        allowance.checkTime()
        if allowance.isSpent { return (delivered + 1, false) }
      }
    }
    return (limit, false)
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

  /// For whoever has not had the lane's lock since the calls were forbidden.
  func finishCall() {
    incoming.state.withLock { $0.receiving.receiver.configuration &+= 1 }
    waitForCallToBegin()
  }

  private func nextDelivery(
    into event: inout MessageEvent, _ after: inout AfterLock, _ allowance: inout TurnAllowance
  ) -> Delivery {
    incoming.state.withLock { lane -> Delivery in
      guard lifecycle.isOpen, !ProcessEnd.hasCome else {
        lane.receiving.receiver.isScheduled = false
        return .nothing(.idle)
      }
      isAboutToCall.store(true, ordering: .relaxed)
      lane.receiving.records.allowance = allowance
      defer { allowance = lane.receiving.records.allowance.take() ?? allowance }
      return lane.nextDelivery(into: &event, &after, loop: loop)
    }
  }

  /// Says on the doorbell that the loop is going to sleep, unless there is something to deliver after all.
  func prepareToSleep(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation {
    incoming.state.withLock { lane in
      // What another loop says on the doorbell is none of `runner`'s business.
      guard isServed(by: runner), lifecycle.isOpen else { return .notNeeded }
      return lane.receiving.prepareToSleep(doorbell)
    }
  }

  /// Whether a message has come, for a loop that looks around before it sleeps. Claims the port's next turn if so.
  func claimTurnIfReady() -> Bool {
    incoming.state.withLock { lane in
      guard !lane.receiving.receiver.isScheduled, lane.receiving.isWorthLooking() else { return false }
      lane.receiving.receiver.isScheduled = true
      return true
    }
  }

  /// The other end was found breaking the protocol by whoever had this end before: `close` is all that will come.
  func endReceiving(_ violation: String) {
    incoming.state.withLock { _ = $0.receiving.endReading(violation) }
    outgoing.state.withLock { $0.sending.audience.leave() }
  }

  /// Packets have come: doorbells, or ports. The port's turn finds out whether a message announces them.
  func notePackets() {
    let threads = incoming.state.withLock { lane -> PrivateWord? in
      // Once the port departs, they are the next owner's.
      guard lifecycle.isOpen, lane.receiving.notePackets() else { return nil }
      // Whoever sent them may never signal what lies before them.
      return lane.receiving.receiver.threads.ring()
    }
    threads?.ring()
  }
}

extension LaneState {
  /// Does what ``ReceivingState`` decides: what happens next, given what has come and who takes it.
  fileprivate mutating func nextDelivery(
    into event: inout MessageEvent, _ after: inout AfterLock, loop: @autoclosure () -> EventLoop
  ) -> Delivery {
    let state = receiving.state
    var step = state.first
    if case .take = step { step = state.afterTaking(take(into: &event, &after, loop: loop())) }
    if case .lookAhead = step { step = state.afterLooking(receiving.lookAhead(isToBeTaken: state.taker == .set)) }
    return receiving.perform(step, &after)
  }
}

extension ReceivingHalf {
  fileprivate mutating func prepareToSleep(_ doorbell: UInt32) -> SleepPreparation {
    guard receiver.hasTaker, records.consumer.isAttached, case .open = receiver.outlook else { return .notNeeded }
    let maySleep = records.prepareToSleep(doorbell, through: transport.channel)
    payOwedSignal()
    if maySleep { return self.doorbell }
    if records.consumer.mustPoll, !isWorthLooking() { return .mustPoll }
    receiver.isScheduled = true
    return .hasWork
  }

  /// What most turns of a handler end with, at once: the ring is open and empty, and there is nothing else to do or to look
  /// at. Then the turn is over.
  @inline(__always)
  fileprivate mutating func restIfDry() -> Bool {
    let isOpen = if case .open = receiver.outlook { true } else { false }
    guard
      ReceivingState.onlyWaits(
        isOpen: isOpen, isOnRing: records.consumer.isAttached, packetsMayWait: records.packetsMayWait),
      records.consumer.isEmpty, !records.consumer.hasErrand, !hasOverflowed
    else { return false }
    receiver.isScheduled = false
    return true
  }

  fileprivate var state: ReceivingState {
    ReceivingState(
      taker: !receiver.waiters.isEmpty
        ? .task : !receiver.hasTaker ? .nobody : receiver.takesMessages ? .handler : .set,
      phase: receiver.outlook.phase,
      hasCloseHandler: receiver.handlers.onClose != nil, isOnRing: records.consumer.isAttached,
      packetsMayWait: records.packetsMayWait)
  }

  fileprivate mutating func perform(_ step: ReceivingState.Step, _ after: inout AfterLock) -> Delivery {
    switch step {
    case .take, .lookAhead: preconditionFailure("a look that leads to another")
    case .deliver(.task): return .resume(receiver.waiters.removeFirst())
    case .deliver:
      guard let handler = receiver.handlerForMessage(&after) else { preconditionFailure("a message without a taker") }
      return .message(handler)
    case .announce:
      if let member = receiver.announce() { after.list(member) }
      return perform(.rest(.idle), &after)
    case .report(let error): return .messageError(receiver.handlers.onMessageError, error)
    case .hangUp(let what):
      defer { after.rung = receiver.threads.ring() }
      return .hangUp(endReading(what))
    case .dismissTask:
      transport.channel?.discardPackets()
      return .dismiss(receiver.waiters.removeFirst())
    case .close, .finish:
      transport.channel?.discardPackets()
      return finish()
    case .yield: return .nothing(.more)
    case .rest(let result):
      after.rung = leaveDoorbellToThreads()
      receiver.isScheduled = false
      return .nothing(result)
    }
  }

  /// Everything was delivered, and there will be nothing more.
  private mutating func finish() -> Delivery {
    guard case .gone(let reason) = receiver.outlook else { preconditionFailure("an end that is not near") }
    var released = AfterLock.none
    released.end(receiver.handlers, .peerClosed(reason))
    released.resumeAll(receiver.endWaiters, .success(reason))
    if let member = receiver.announce() { released.list(member) }
    receiver.endWaiters = []
    released.release(receiver.handlers)
    released.release(receiver.retained.take())
    let onClose = receiver.handlers.onClose
    receiver.handlers = PortHandlers()
    guard let onClose else {
      // Whoever asks later is still told.
      receiver.isScheduled = false
      return .finished(released)
    }
    receiver.outlook = .delivered(reason)
    return .close(onClose, reason, released)
  }
}

import SharedRing

extension PortCore {
  /// Suspends until a message of `byteCount` bytes would be taken.
  func waitForSpace(byteCount: Int) async throws(PortError) {
    let recordBytes = RecordHeader.recordBytes(payloadBytes: byteCount)
    let limit = options.queueLimitBytes ?? .max
    guard byteCount >= 0, byteCount <= options.messageLimitBytes, recordBytes <= limit else {
      throw .messageTooLarge(byteCount: byteCount, limit: min(limit, options.messageLimitBytes))
    }
    try await wait(for: .bytes(recordBytes))
  }

  /// Suspends until a transfer that was refused may be tried again.
  func waitForTransferSpace() async throws(PortError) { try await wait(for: .transfer) }

  private func wait(for need: SpaceWaiter.Need) async throws(PortError) {
    let id = WaiterID.next()
    let result = await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let waiter = SpaceWaiter(id: id, need: need, resumption: resumption)
        while true {
          switch addSpaceWaiter(waiter) {
          case .answered(let answer): return waiter.resume(answer)
          case .departing: waitForDeparture()
          case .packetUnderWay: waitForPacket()
          case .waits:
            watchIfShared()
            return loop.schedule(self)
          case .waitsUntold:
            watchIfShared()
            return loop.afterPause { [self] in takeSpaceWaiter(id)?.resume(.success(())) }
          }
        }
      }
    } onCancel: {
      takeSpaceWaiter(id)?.resume(.failure(.cancelled))
    }
    try result.get()
  }

  private func takeSpaceWaiter(_ id: UInt64) -> SpaceWaiter? {
    outgoing.state.withLock { $0.sending.spaceWaiters.remove(id: id) }
  }

  private enum SpaceAnswer: Sendable {
    case answered(Result<Void, PortError>)
    case waits
    /// The same, and nobody will tell.
    case waitsUntold
    /// Another thread is transferring the port; whether that succeeds decides.
    case departing
    /// Another thread sends the ports of a message; what becomes of that decides.
    case packetUnderWay
  }

  private func addSpaceWaiter(_ waiter: SpaceWaiter) -> SpaceAnswer {
    outgoing.state.withLock { lane in
      switch lifecycle.state {
      case .closed: return .answered(.failure(.closed))
      case .detached: return .answered(.failure(.detached))
      case .departing: return .departing
      case .open: break
      }
      if Task.isCancelled { return .answered(.failure(.cancelled)) }
      if lane.sending.audience.isGone { return .answered(.success(())) }
      switch waiter.need {
      case .bytes(let recordBytes):
        if !lane.sending.spaceWaiters.someWaitForBytes, lane.freeBytes() >= recordBytes {
          return .answered(.success(()))
        }
      case .transfer:
        if lane.sending.isPacketUnderWay { return .packetUnderWay }
        if lane.sending.mayTransfer() { return .answered(.success(())) }
      }
      lane.sending.spaceWaiters.append(waiter)
      if case .transfer = waiter.need, lane.sending.transferRefusal == .untold { return .waitsUntold }
      return .waits
    }
  }

  /// Lets those go on for whom there is room, and for the others announces that this end waits. On the loop's thread.
  func spaceTurn(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation {
    var after = AfterLock.none
    // Whoever posts something large has the lane for as long as that takes to copy, and a loop has others to serve.
    let preparation = outgoing.state.withLockSoon { lane -> SleepPreparation in
      guard isServed(by: runner), lifecycle.state == .open, lane.sending.producer.isAttached else { return .notNeeded }
      lane.resumeSpaceWaiters(&after)
      let waitsForOverflow = lane.sending.overflowNeedsDoorbell(rest: restFromOverflow)
      guard !lane.sending.spaceWaiters.isEmpty || waitsForOverflow else { return .notNeeded }
      let limit = lane.sending.policy.unreadLimitBytes ?? .max
      let waiters = lane.sending.spaceWaiters
      let refusal = lane.sending.transferRefusal
      let maySleep = lane.sending.producer.prepareToSleep(doorbell) { producer in
        let unreleased = producer.unreleasedBytes()
        let mayTransfer = refusal.isOver(released: producer.releasedPosition())
        return waiters.isSatisfied(freeBytes: limit - unreleased, mayTransfer: mayTransfer)
          || waitsForOverflow && unreleased == 0
      }
      guard maySleep, let memory = lane.sending.producer.memory else {
        lane.resumeSpaceWaiters(&after)
        return .hasWork
      }
      return unsafe .ready(lane.sending.producer.doorbellWord, memory)
    }
    after.perform()
    return preparation ?? .mustPoll
  }
}

// MARK: - Giving memory back

extension PortCore {
  /// Lets the loop give back what the outgoing lane has overflowed into, once it was read. Not with a lane locked.
  func giveBackOverflowWhenRead() {
    guard outgoing.state.withLock({ $0.sending.noticeOverflow() }) else { return }
    watchForOverflow()
  }

  func watchForOverflow() {
    watchIfShared()
    loop.schedule(self)
  }

  /// How soon a receiver that reads an overflow is asked again.
  private static let overflowRestNanoseconds: UInt64 = 10_000_000

  func restFromOverflow() {
    loop.after(nanoseconds: Self.overflowRestNanoseconds) { [self] in
      outgoing.state.withLock { lane in
        if lane.sending.overflow == .resting { lane.sending.overflow = .noticed }
      }
      loop.schedule(self)
    }
  }
}

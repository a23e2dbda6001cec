import SharedRing
import Synchronization

/// A task that waits until it can post so much.
struct SpaceWaiter: Sendable {
  let id: UInt64
  let recordBytes: Int
  let resumption: Resumption<Result<Void, PortError>>

  func resume(_ result: Result<Void, PortError>) { resumption.resume(result) }
}

/// Those that wait on one lane, in the order they came. A value; the lane's lock guards it.
struct SpaceWaiters: Sendable {
  private var waiters: [SpaceWaiter] = []

  var isEmpty: Bool { waiters.isEmpty }

  mutating func append(_ waiter: SpaceWaiter) { waiters.append(waiter) }

  mutating func remove(id: UInt64) -> SpaceWaiter? {
    waiters.firstIndex { $0.id == id }.map { waiters.remove(at: $0) }
  }

  mutating func removeAll() -> [SpaceWaiter] {
    defer { waiters = [] }
    return waiters
  }

  /// Those at the front that `freeBytes` lets go on. Each will have to see for itself whether there is still room.
  mutating func removeSatisfied(freeBytes: Int) -> [SpaceWaiter] {
    let count = waiters.prefix { $0.recordBytes <= freeBytes }.count
    defer { waiters.removeFirst(count) }
    return Array(waiters.prefix(count))
  }

  /// Whether the first of them could go on.
  func isSatisfied(freeBytes: Int) -> Bool { waiters.first.map { $0.recordBytes <= freeBytes } ?? true }
}

/// Numbers for waiters, unique in this process.
enum WaiterID {
  private static let last = Atomic<UInt64>(0)
  static func next() -> UInt64 { last.wrappingAdd(1, ordering: .relaxed).newValue }
}

extension LaneState {
  /// How much may still be posted; only with a limit.
  mutating func freeBytes() -> Int {
    guard let limit = policy.unreadLimitBytes else { return .max }
    return limit - (producer.isAttached ? producer.unreleasedBytes() : queuedBytes)
  }

  /// Lets those go on for whom there is room now.
  mutating func resumeSpaceWaiters() {
    guard !spaceWaiters.isEmpty else { return }
    for waiter in spaceWaiters.removeSatisfied(freeBytes: freeBytes()) {
      waiter.resume(.success(()))
      crashPoint(.spaceResumed)
    }
  }
}

extension PortCore {
  /// Suspends until a message of `byteCount` bytes would be taken.
  func waitForSpace(byteCount: Int) async throws(PortError) {
    let recordBytes = RecordHeader.recordBytes(payloadBytes: byteCount)
    let limit = options.queueLimitBytes ?? .max
    guard byteCount >= 0, byteCount <= options.messageLimitBytes, recordBytes <= limit else {
      throw .messageTooLarge(byteCount: byteCount, limit: min(limit, options.messageLimitBytes))
    }
    let id = WaiterID.next()
    let result = await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let waiter = SpaceWaiter(id: id, recordBytes: recordBytes, resumption: resumption)
        let answer = outgoing.state.withLock { lane -> Result<Void, PortError>? in
          switch lifecycle.state {
          case .closed: return .failure(.closed)
          case .detached: return .failure(.detached)
          case .open, .departing: break
          }
          if Task.isCancelled { return .failure(.cancelled) }
          if lane.isReceiverGone || lane.spaceWaiters.isEmpty && lane.freeBytes() >= recordBytes { return .success(()) }
          lane.spaceWaiters.append(waiter)
          return nil
        }
        if let answer { return waiter.resume(answer) }
        watchIfShared()
        loop.schedule(self)
      }
    } onCancel: {
      outgoing.state.withLock { $0.spaceWaiters.remove(id: id) }?.resume(.failure(.cancelled))
    }
    try result.get()
  }

  /// Lets those go on for whom there is room, and for the others announces that this end waits. On the loop's thread.
  func spaceTurn(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation {
    outgoing.state.withLock { lane in
      guard loop === runner, lifecycle.state == .open, lane.producer.isAttached else { return .notNeeded }
      lane.resumeSpaceWaiters()
      let waitsForOverflow = lane.overflowNeedsDoorbell(doorbell, rest: restFromOverflow)
      guard !lane.spaceWaiters.isEmpty || waitsForOverflow else { return .notNeeded }
      let limit = lane.policy.unreadLimitBytes ?? .max
      let waiters = lane.spaceWaiters
      let maySleep = lane.producer.prepareToSleep(doorbell) { producer in
        let unreleased = producer.unreleasedBytes()
        return !waiters.isEmpty && waiters.isSatisfied(freeBytes: limit - unreleased)
          || waitsForOverflow && unreleased == 0
      }
      guard maySleep, let memory = lane.producer.memory else {
        lane.resumeSpaceWaiters()
        return .hasWork
      }
      return unsafe .ready(lane.producer.doorbellWord, memory)
    }
  }
}

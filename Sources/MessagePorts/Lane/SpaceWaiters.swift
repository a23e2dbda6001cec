import SharedRing
import Synchronization

/// A task that waits until it can post something.
struct SpaceWaiter: Sendable {
  enum Need: Sendable {
    /// So much room on the ring.
    case bytes(Int)
    /// Whatever the last transfer was refused for; see ``TransferRefusal``.
    case transfer
  }
  let id: UInt64
  let need: Need
  let resumption: Resumption<Result<Void, PortError>>

  func resume(_ result: Result<Void, PortError>) { resumption.resume(result) }
}

/// Those that wait on one lane, in the order they came. A value; the lane's lock guards it.
struct SpaceWaiters: Sendable {
  private var waiters: [SpaceWaiter] = []

  var isEmpty: Bool { waiters.isEmpty }

  var inOrder: [SpaceWaiter] { waiters }

  mutating func append(_ waiter: SpaceWaiter) { waiters.append(waiter) }

  mutating func remove(id: UInt64) -> SpaceWaiter? {
    waiters.firstIndex { $0.id == id }.map { waiters.remove(at: $0) }
  }

  mutating func removeAll() -> SpaceWaiters {
    defer { waiters = [] }
    return self
  }

  /// Those that can go on: of those that wait for bytes, the ones at the front. Each will have to see for itself whether there is
  /// still room.
  mutating func removeSatisfied(freeBytes: Int, mayTransfer: Bool) -> [SpaceWaiter] {
    guard isSatisfied(freeBytes: freeBytes, mayTransfer: mayTransfer) else { return [] }
    var (going, staying) = ([SpaceWaiter](), [SpaceWaiter]())
    var isFull = false
    for waiter in waiters {
      let goes: Bool
      switch waiter.need {
      case .bytes(let recordBytes):
        isFull = isFull || recordBytes > freeBytes
        goes = !isFull
      case .transfer: goes = mayTransfer
      }
      if goes { going.append(waiter) } else { staying.append(waiter) }
    }
    waiters = staying
    return going
  }

  /// Whether ``removeSatisfied(freeBytes:mayTransfer:)`` would find any.
  func isSatisfied(freeBytes: Int, mayTransfer: Bool) -> Bool {
    var isFull = false
    for waiter in waiters {
      switch waiter.need {
      case .bytes(let recordBytes):
        if !isFull, recordBytes <= freeBytes { return true }
        isFull = true
      case .transfer: if mayTransfer { return true }
      }
      if isFull, !mayTransfer { return false }
    }
    return false
  }

  /// Whoever comes for bytes has to wait behind others.
  var someWaitForBytes: Bool {
    waiters.contains { if case .bytes = $0.need { true } else { false } }
  }
}

/// Numbers for waiters, unique in this process.
enum WaiterID {
  private static let last = Atomic<UInt64>(0)
  static func next() -> UInt64 { last.wrappingAdd(1, ordering: .relaxed).newValue }
}

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

  var inOrder: [SpaceWaiter] { waiters }

  mutating func append(_ waiter: SpaceWaiter) { waiters.append(waiter) }

  mutating func remove(id: UInt64) -> SpaceWaiter? {
    waiters.firstIndex { $0.id == id }.map { waiters.remove(at: $0) }
  }

  mutating func removeAll() -> SpaceWaiters {
    defer { waiters = [] }
    return self
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

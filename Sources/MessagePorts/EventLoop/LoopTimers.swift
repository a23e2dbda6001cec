/// What a loop has to do at some time. A value; few at a time, so a plain array.
struct LoopTimers: Sendable {
  typealias ID = UInt64

  private struct Timer: Sendable {
    let id: ID
    let deadline: UInt64
    let body: @Sendable () -> Void
  }
  private var timers: [Timer] = []
  private var lastID: ID = 0

  /// The next one's time, in nanoseconds of the monotonic clock.
  var nextDeadline: UInt64? { timers.lazy.map(\.deadline).min() }

  mutating func add(deadline: UInt64, _ body: @escaping @Sendable () -> Void) -> ID {
    lastID += 1
    timers.append(Timer(id: lastID, deadline: deadline, body: body))
    return lastID
  }

  mutating func cancel(_ id: ID) { timers.removeAll { $0.id == id } }

  /// Those whose time has come, in order.
  mutating func takeDue(now: UInt64) -> [@Sendable () -> Void] {
    guard !timers.isEmpty else { return [] }
    let due = timers.filter { $0.deadline <= now }.sorted { $0.deadline < $1.deadline }
    if !due.isEmpty { timers.removeAll { $0.deadline <= now } }
    return due.map(\.body)
  }
}

import Synchronization

/// Counts by name.
final class Tally: Sendable {
  private let counts = Mutex<[String: Int]>([:])

  func count(_ what: String, _ number: Int = 1) { counts.withLock { $0[what, default: 0] += number } }
  subscript(_ what: String) -> Int { counts.withLock { $0[what] ?? 0 } }
}

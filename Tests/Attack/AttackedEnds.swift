import Synchronization

/// The ends whose other end an attacker holds, and the waits at them. Each must come to an end, whatever the attacker
/// does, and all of them once it is dead.
final class AttackedEnds: Sendable {
  private struct End: Sendable {
    let what: String
    let since = ContinuousClock.now
    let post: (@Sendable ([UInt8]) -> Void)?
    let close: (@Sendable (Int) -> Void)?
    /// The victim leaves it open for as long as the attacker does.
    var isKept = false
  }

  private struct State: Sendable {
    var open: [Int: End] = [:]
    var begun = 0
  }

  private let state = Mutex(State())

  /// Something has begun that has to end. `close` is given its number, which ``end(_:)`` takes.
  @discardableResult
  func begin(
    _ what: String, post: (@Sendable ([UInt8]) -> Void)? = nil, close: (@Sendable (_ number: Int) -> Void)? = nil
  ) -> Int {
    state.withLock { state in
      state.begun += 1
      state.open[state.begun] = End(what: what, post: post, close: close)
      return state.begun
    }
  }

  func end(_ number: Int) { _ = state.withLock { $0.open.removeValue(forKey: number) } }
  func keep(_ number: Int) { state.withLock { $0.open[number]?.isKept = true } }

  var begun: Int { state.withLock { $0.begun } }
  var openCount: Int { state.withLock { $0.open.count } }

  /// How many are open, by what they are.
  var open: [String: Int] { state.withLock { $0.open.values.reduce(into: [:]) { $0[$1.what, default: 0] += 1 } } }

  func post(_ bytes: [UInt8]) {
    for post in state.withLock({ $0.open.values.compactMap(\.post) }) { post(bytes) }
  }

  /// Closes every other end that is older than this, and every one that is much older.
  func closeOld(_ age: Duration) {
    let now = ContinuousClock.now
    let old = state.withLock { state in
      state.open.filter { number, end in
        !end.isKept && end.close != nil && now - end.since > (number % 2 == 0 ? age : age * 5)
      }
    }
    for (number, end) in old { end.close?(number) }
  }
}

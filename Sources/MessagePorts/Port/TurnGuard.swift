import Synchronization

/// Sees to it that no two loops call a port's handlers at once, when it is moved from one to the other.
struct TurnGuard: ~Copyable, Sendable {
  private enum State {
    static let idle: UInt8 = 0
    static let inTurn: UInt8 = 1
    /// In a turn, and another loop has wanted to begin one.
    static let awaited: UInt8 = 2
  }
  private let state = Atomic<UInt8>(State.idle)

  /// `false`: a turn is under way, and its end will say that another one is awaited.
  func begin() -> Bool {
    while true {
      // [turn-over] Acquire: pairs with the release in `end()`, so that what handlers did on the one loop is seen on the other.
      let (isFree, found) = state.compareExchange(expected: State.idle, desired: State.inTurn, ordering: .acquiring)
      if isFree { return true }
      if found == State.awaited { return false }
      if state.compareExchange(expected: State.inTurn, desired: State.awaited, ordering: .relaxed).exchanged {
        return false
      }
    }
  }

  /// [turn-over] Release: pairs with the acquire in `begin()`.
  ///
  /// Whether another loop has wanted a turn meanwhile.
  func end() -> Bool { state.exchange(State.idle, ordering: .releasing) == State.awaited }
}

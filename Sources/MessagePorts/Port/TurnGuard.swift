import Synchronization

/// Keeps two loops from calling a port's handlers at once, when the port is moved from one to the other.
struct TurnGuard: ~Copyable, Sendable {
  private enum State {
    static let idle: UInt8 = 0
    static let inTurn: UInt8 = 1
    /// In a turn, and another loop wants to begin one.
    static let awaited: UInt8 = 2
  }
  private let state = Atomic<UInt8>(State.idle)

  /// `false`: a turn is under way, and its ``end()`` will tell that another one is awaited.
  func begin() -> Bool {
    while true {
      // [turn-over] Acquire: pairs with the release in `end()`; handlers here see what handlers on the other loop did.
      let (isFree, found) = state.compareExchange(expected: State.idle, desired: State.inTurn, ordering: .acquiring)
      if isFree { return true }
      if found == State.awaited { return false }
      if state.compareExchange(expected: State.inTurn, desired: State.awaited, ordering: .relaxed).exchanged {
        return false
      }
    }
  }

  /// Returns whether another loop wants a turn.
  ///
  /// [turn-over] Release: pairs with the acquire in `begin()`.
  func end() -> Bool { state.exchange(State.idle, ordering: .releasing) == State.awaited }
}

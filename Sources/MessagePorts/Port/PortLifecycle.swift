import Synchronization

/// How far a port is in its life. Changes once, to `closed` or `detached`; while a transfer is under way it is
/// `departing`, and goes back to `open` if the transfer fails.
///
/// The state is atomic so that it can be read anywhere, but every operation that depends on it reads it under the lane's
/// lock, and whoever changes it takes both lanes' locks afterwards: an operation that saw `open` is over before the
/// port is taken apart. Relaxed orderings suffice, because the locks order everything else.
struct PortLifecycle: ~Copyable, Sendable {
  enum State: UInt8, Sendable {
    case open
    case departing
    case closed
    case detached
  }

  private let raw = Atomic<UInt8>(State.open.rawValue)

  var isOpen: Bool { raw.load(ordering: .relaxed) == State.open.rawValue }

  var state: State { State(rawValue: raw.load(ordering: .relaxed))! }

  /// Throws if the port was closed or transferred. A departing one may yet turn out to be either.
  func checkUsable() throws(PortError) {
    switch state {
    case .open, .departing: return
    case .closed: throw .closed
    case .detached: throw .detached
    }
  }

  /// Says what the state was instead, if it was not `from`.
  func change(from: State, to: State) -> State? {
    let (changed, found) = raw.compareExchange(expected: from.rawValue, desired: to.rawValue, ordering: .relaxed)
    return changed ? nil : State(rawValue: found)!
  }
}

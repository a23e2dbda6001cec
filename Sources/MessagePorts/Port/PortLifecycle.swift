import Synchronization

/// How far a port is in its life. It ends up `closed` or `detached`, once. During a transfer it is `departing`; if the
/// transfer fails, it is `open` again.
///
/// The state is atomic so that it can be read anywhere. But every operation that depends on it reads it under the
/// lane's lock, and whoever changes it takes both lanes' locks afterwards: so an operation that saw `open` is over
/// before the port is taken apart. Relaxed orderings suffice, because the locks order everything else.
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

  /// Throws if the port was closed or transferred. A departing one may yet be open again.
  func checkUsable() throws(PortError) {
    switch state {
    case .open, .departing: return
    case .closed: throw .closed
    case .detached: throw .detached
    }
  }

  /// Returns `nil`, or what the state was if not `from`; then it stays so.
  func change(from: State, to: State) -> State? {
    let (changed, found) = raw.compareExchange(expected: from.rawValue, desired: to.rawValue, ordering: .relaxed)
    return changed ? nil : State(rawValue: found)!
  }
}

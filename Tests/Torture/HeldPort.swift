import MessagePorts
import Synchronization

/// A port that this process holds.
final class HeldPort: Sendable {
  let id: PortID
  let port: MessagePort
  /// Numbers have to be given in the order of the posts.
  let posting = Mutex(())
  let state: Mutex<State>

  struct State {
    var mayMissOne: Bool
    var hasSeenClose = false
    /// How many messages to post before answers end.
    var answersUntil = 0
  }

  var hasSeenClose: Bool { state.withLock { $0.hasSeenClose } }

  init(_ id: PortID, _ port: MessagePort, mayMissOne: Bool = false) {
    (self.id, self.port) = (id, port)
    state = Mutex(State(mayMissOne: mayMissOne))
  }
}

import SharedRing
import Synchronization

/// Whether the other end of a channel has ever said anything on its socket. The first thing that a worker does there is to
/// greet.
final class Greeting: Sendable {
  private struct State: Sendable {
    weak var channel: SharedChannel?
    var hasCome = false
  }
  private let state: Lock<State>

  init(of channel: SharedChannel) { state = Lock(State(channel: channel)) }

  var hasCome: Bool {
    state.withLock { state in
      if !state.hasCome { state.hasCome = state.channel?.hasBeenAddressed ?? false }
      return state.hasCome
    }
  }
}

extension SharedChannel {
  /// Whether a packet has come, of whatever kind: it may wait, or may have been taken.
  fileprivate var hasBeenAddressed: Bool {
    var byte: UInt8 = 0
    return unsafe withUnsafeMutableBytes(of: &byte) { byte in
      if hasTakenPacket.load(ordering: .relaxed) { return true }
      if case .packet = unsafe socket.glance(byte) { return true }
      // It may have been taken in between. Relaxed: whoever takes one says so before, and the kernel's lock of the socket's queue
      // lies between that and the glance that found it empty.
      return hasTakenPacket.load(ordering: .relaxed)
    }
  }
}

import MessagePorts
import Synchronization
import TestSupport

/// Ends whose attacker has said that it hangs up one half of the socket. Either the other end is gone, or it is not:
/// what is posted must not be thrown away at an end that never hears of a close.
final class HalfClosedEnds: Sendable {
  private struct Half: Sendable {
    let port: MessagePort
    let number: Int
    let since = ContinuousClock.now
    /// Its second port was posted on the end.
    var probe: MessageChannel?
  }

  private let all = Mutex<[Half]>([])

  /// After that long, an end that is gone has heard of it.
  static let verdictAfter = patience / 4

  func add(_ port: MessagePort, _ number: Int) { all.withLock { $0.append(Half(port: port, number: number)) } }

  func removeAll() { all.withLock { $0 = [] } }

  /// Calls `over` with the number of each end that this closes, and whether it was gone for one side only.
  func examine(_ over: (_ number: Int, _ isHarmed: Bool) -> Void) {
    all.withLock { halves in
      halves = halves.compactMap { half in
        if half.port.isClosed || half.port.isPeerClosed { return nil }
        var half = half
        let age = ContinuousClock.now - half.since
        if half.probe == nil, age > .milliseconds(200) {
          guard let probe = try? MessageChannel(),
            (try? half.port.postMessage(bytes: [], transfer: [probe.port2])) != nil
          else { return half }
          half.probe = probe
        }
        guard age > Self.verdictAfter else { return half }
        over(half.number, half.probe?.port1.isPeerClosed == true)
        half.port.close()
        return nil
      }
    }
  }
}

import CBench
import Foundation

/// What a message costs both processes together.
public struct Cost: Codable, Sendable {
  /// Processor time.
  var nanoseconds: Double
  /// How often a thread gave its processor away to wait.
  var sleeps: Double
}

/// Adds up what both processes spend, from when it is made: the warm-up included, as with the peers.
struct Meter {
  private let processes: [pid_t]
  private let begin: (nanoseconds: Double, sleeps: Double)

  init(_ near: NearSide) {
    processes = [getpid(), near.processIdentifier]
    begin = Self.spent(by: processes)
  }

  /// Per message, of so many that went there, or there and back.
  func cost(of messages: Int) -> Cost? {
    let end = Self.spent(by: processes)
    guard messages > 0 else { return nil }
    return Cost(
      nanoseconds: (end.nanoseconds - begin.nanoseconds) / Double(messages),
      sleeps: (end.sleeps - begin.sleeps) / Double(messages))
  }

  private static func spent(by processes: [pid_t]) -> (nanoseconds: Double, sleeps: Double) {
    processes.reduce((0, 0)) { sum, process in
      (sum.0 + Double(max(0, cbench_cpu_ns(process))), sum.1 + sleeps(of: process))
    }
  }

  private static func sleeps(of process: pid_t) -> Double {
    let threads = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
    return threads.reduce(0) { sum, thread in
      let status = (try? String(contentsOfFile: "/proc/\(process)/task/\(thread)/status", encoding: .utf8)) ?? ""
      let line = status.split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches:") }
      return sum + (line?.split(separator: "\t").last.flatMap { Double($0) } ?? 0)
    }
  }
}

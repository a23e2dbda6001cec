import Foundation
import MessagePorts

/// Runs a scenario in fresh processes, with a deadline.
enum ChildRun {
  static func run(_ job: Job) throws -> Outcome {
    var environment = ProcessInfo.processInfo.environment
    if let driver = job.driver { environment["MESSAGEPORTS_DRIVER"] = driver }
    if let backing = job.backing { environment["MESSAGEPORTS_BACKING"] = backing }
    let arrived = Mailbox<Result<Outcome, any Error>>()
    let near = try WorkerProcess.spawn(
      "/proc/self/exe", arguments: ["child", "near", try job.encoded()], environment: environment)
    near.connection.on(ChildProcesses.outcomeName, of: Outcome.self) { outcome, _ in arrived.put(.success(outcome)) }
    near.connection.onClose = { reason in
      arrived.put(.failure(Machine.Failure(description: "\(job.scenario): \(reason)")))
    }
    defer { near.kill() }
    return try arrived.take(seconds: 30 + 10 * job.seconds).get()
  }
}

extension Job {
  /// For development: a single run, and no more.
  public func runOnce() throws -> Outcome { try ChildRun.run(self) }
}

extension Outcome: CustomStringConvertible {
  public var description: String {
    let tail =
      latency?.percentiles.map { "p\(Numbers.percent($0.percent)) \(Numbers.text($0.nanoseconds, unit: "ns"))" } ?? []
    let rest = others.sorted { $0.key < $1.key }.map { "\($0.key): \(Numbers.significant($0.value))" }
    return (["\(Numbers.significant(value)), preempted \(preempted)"] + tail + rest).joined(separator: "\n")
  }
}

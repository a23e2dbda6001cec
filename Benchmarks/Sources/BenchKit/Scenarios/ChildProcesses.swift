import CBench
import Dispatch
import Foundation
import MessagePorts
import Synchronization

// A run of a scenario is two fresh processes, so that no run inherits another one's heap or its luck with pages:
//
//     bench (supervises, asleep)  ──spawns──>  near (asks, or produces)  ──spawns──>  far (answers, or consumes)
//
// Each is pinned before it measures; its threads inherit that, and it is checked again at the end. Each ends with the
// process above it.

/// One kind of measurement: what each of the two processes does.
struct Scenario: Sendable {
  let name: String
  let near: @Sendable (Job, NearSide) throws -> Outcome
  /// `nil`: needs one process only.
  let far: (@Sendable (Job, FarSide) throws -> Void)?

  static let all: [Scenario] =
    fastTier + portTier + requests + frames + tail
    + values + [.inPlace, .death, .creation, .transfer, .descriptors, .manyPorts, .localMemory, .crossingMemory]

  static func find(_ name: String) throws -> Scenario {
    guard let scenario = all.first(where: { $0.name == name }) else {
      throw Machine.Failure(description: "no scenario \(name)")
    }
    return scenario
  }
}

/// The place where a thread waits for what another brings.
final class Mailbox<Item: Sendable>: Sendable {
  private let items = Mutex<[Item]>([])
  private let signal = DispatchSemaphore(value: 0)

  func put(_ item: Item) {
    items.withLock { $0.append(item) }
    signal.signal()
  }

  /// The thread sleeps until something is there.
  func take(seconds: Double = 60) throws -> Item {
    guard signal.wait(timeout: .now() + seconds) == .success else {
      throw Machine.Failure(description: "nothing came within \(Int(seconds)) seconds")
    }
    return items.withLock { $0.removeFirst() }
  }
}

/// The far process, as the near one has it.
final class NearSide: Sendable {
  let job: Job
  private let worker: WorkerProcess
  private let ready = Mailbox<Void>()
  private let reports = Mailbox<Report>()
  private let tailReports = Mailbox<TailReport>()

  init(_ job: Job) throws {
    self.job = job
    worker = try WorkerProcess.spawn("/proc/self/exe", arguments: ["child", "far", try job.encoded()])
    worker.connection.on("ready") { [ready] _ in ready.put(()) }
    worker.connection.on("report", of: Report.self) { [reports] report, _ in reports.put(report) }
    worker.connection.on("tail", of: TailReport.self) { [tailReports] report, _ in tailReports.put(report) }
  }

  /// A channel of which the far side has the other end.
  func openChannel(_ options: ChannelOptions = ChannelOptions()) throws -> MessagePort {
    let channel = try MessageChannel(options: options)
    try worker.connection.postMessage("port", transfer: [channel.port2])
    return channel.port1
  }

  /// Returns once the far side receives on what it was given.
  func waitUntilReady() throws { _ = try ready.take() }

  func report() throws -> Report { try reports.take() }
  func tailReport() throws -> TailReport { try tailReports.take() }

  /// By `SIGKILL`.
  func kill() { worker.kill() }

  /// Of the far process; -1 if there is none.
  var processIdentifier: Int32 { worker.processIdentifier }
}

/// The near process, as the far one has it.
final class FarSide: Sendable {
  private let parent: Connection
  private let ports = Mailbox<MessagePort>()

  fileprivate init() throws {
    parent = try Connection.parent
    parent.onClose = { _ in _exit(0) }
    parent.on("port") { [ports] event in for port in event.ports { ports.put(port) } }
  }

  func nextPort() throws -> MessagePort { try ports.take() }
  func sayReady() throws { try parent.postMessage("ready") }
  func send(_ report: Report) throws { try parent.postMessage("report", report) }
  func send(_ report: TailReport) throws { try parent.postMessage("tail", report) }
}

public enum ChildProcesses {
  /// What the near process sends to the supervisor.
  static let outcomeName = "outcome"

  public static func runNear(_ encodedJob: String) throws -> Never {
    let job = try Job(encoded: encodedJob)
    let scenario = try Scenario.find(job.scenario)
    let supervisor = try prepare(job, on: job.placement.processors?.near)
    supervisor.onClose = { _ in _exit(1) }
    supervisor.start()
    let near = try NearSide(job)
    var outcome = try scenario.near(job, near)
    outcome.preempted = Int(cbench_preempted())
    try checkPlacement(job.placement.processors?.near)
    try supervisor.postMessage(outcomeName, outcome)
    _exit(0)
  }

  public static func runFar(_ encodedJob: String) throws -> Never {
    let job = try Job(encoded: encodedJob)
    let scenario = try Scenario.find(job.scenario)
    _ = try prepare(job, on: job.placement.processors?.far)
    let far = try FarSide()
    try scenario.far?(job, far)
    try checkPlacement(job.placement.processors?.far)
    // Whatever is still on its way is for the near process to take; this one ends with it.
    while true { sleep(60) }
  }

  /// Puts this process in its place. The order matters: at its first use, the library counts the processors that it may
  /// use, and on one it never looks around before it sleeps.
  private static func prepare(_ job: Job, on processor: Int?) throws -> Connection {
    _ = cbench_die_with_parent()
    _ = Machine.descriptorLimit
    _ = Ticks.nanosecondsPerTick
    try Machine.unpin()  // The near process was pinned when it started the far one.
    if job.looksAround {
      let channel = try MessageChannel()
      _ = try? channel.port1.receive(timeout: .zero)
    }
    if let processor { try Machine.pin(processor) }
    return try Connection.parent
  }

  private static func checkPlacement(_ processor: Int?) throws {
    if let processor { try Machine.checkThreads(on: processor) }
  }
}

extension Job {
  func encoded() throws -> String { String(decoding: try JSONEncoder().encode(self), as: UTF8.self) }
  init(encoded: String) throws { self = try JSONDecoder().decode(Job.self, from: Data(encoded.utf8)) }
}

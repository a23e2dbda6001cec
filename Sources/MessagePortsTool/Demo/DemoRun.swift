import Foundation
import MessagePorts
import Synchronization

/// One program being played: starts its processes, collects the findings, and clears up afterwards.
final class DemoRun: Sendable {
  private struct State {
    var report: DemoReport
    var processes: [DemoProcess] = []
    var workers: [WorkerProcess] = []
  }
  private let state: Mutex<State>
  let output: DemoOutput

  private init(_ program: DemoProgram, _ output: DemoOutput) {
    state = Mutex(State(report: DemoReport(program: program)))
    self.output = output
    started("driver", ProcessInfo.processInfo.processIdentifier)
  }

  /// Plays a program to its end. What it throws becomes a finding; no process is left when this returns.
  static func play(_ program: DemoProgram, files: [String], _ output: DemoOutput) async -> DemoReport {
    let run = DemoRun(program, output)
    let start = ContinuousClock.now
    do {
      try await program.play(run, files: files)
    } catch {
      run.add(DemoReport.Finding(claim: "the program runs to its end", result: .differed("\(error)")))
    }
    await run.endProcesses()
    return run.state.withLock { state in
      state.report.duration = ContinuousClock.now - start
      return state.report
    }
  }

  // MARK: Processes

  /// Starts a process of the program; `name` is what the report calls it.
  func spawn(_ role: DemoRole, as name: String) throws -> WorkerProcess {
    let worker = try role.spawn()
    state.withLock { $0.workers.append(worker) }
    started(name, worker.processIdentifier)
    return worker
  }

  /// Lists a process that another one started.
  func started(_ name: String, _ identifier: Int32, note: String? = nil) {
    let process = DemoProcess(name: name, identifier: identifier)
    state.withLock { state in
      state.report.processes.append(DemoReport.Process(name: name, identifier: identifier, note: note))
      if let process, identifier != ProcessInfo.processInfo.processIdentifier { state.processes.append(process) }
    }
  }

  /// Lets go of everything, which tells the processes to end, and makes sure that they do.
  private func endProcesses() async {
    let (processes, workers) = state.withLock { state in
      defer { state.workers = [] }
      return (state.processes, state.workers)
    }
    for worker in workers { worker.connection.close() }
    // Does not wait if the task was cancelled.
    try? await eventually(demoPatience, "the end of all processes") { processes.allSatisfy(\.hasEnded) }
    let left = processes.filter { !$0.hasEnded }
    for process in left { process.kill() }
    verify("every process has ended by itself", left.map(\.name), [])
  }

  // MARK: Findings

  /// Compares what was found with what must be.
  func verify<Value: Equatable>(_ claim: String, _ actual: Value, _ expected: Value) {
    let result = actual == expected ? DemoReport.Result.verified : .differed("\(actual) instead of \(expected)")
    add(DemoReport.Finding(claim: claim, result: result))
  }

  func verify(_ claim: String, _ holds: Bool, otherwise difference: @autoclosure () -> String) {
    add(DemoReport.Finding(claim: claim, result: holds ? .verified : .differed(difference())))
  }

  func notVerified(_ claim: String, because reason: String) {
    add(DemoReport.Finding(claim: claim, result: .notVerified(reason)))
  }

  private func add(_ finding: DemoReport.Finding) { state.withLock { $0.report.findings.append(finding) } }

  func count(_ traffic: DemoTraffic) { state.withLock { $0.report.traffic += traffic } }

  // MARK: Output

  /// Says what is being done now.
  func step(_ text: String) { output.step(state.withLock { $0.report.program }, text) }

  /// Says how far it has come.
  func progress(_ text: @autoclosure () -> String) { output.progress(state.withLock { $0.report.program }, text) }
}

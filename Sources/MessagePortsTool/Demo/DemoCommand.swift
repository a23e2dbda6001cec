import ArgumentParser
import Foundation
import MessagePorts

/// `messageports demo`: programs that show what ports are for, each played by real processes and checked.
struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Plays four model programs, each with several processes, and checks what they do.",
    discussion: DemoProgram.allCases.map { "  \($0.rawValue): \($0.summary)" }.joined(separator: "\n"))

  @Argument(help: "The one program to play; all of them if there is none.")
  var name: DemoProgram?

  @Argument(help: "What worker-with-clients works on; by default the sources of this package.", completion: .file())
  var files: [String] = []

  @Flag(help: "Print only what is the same each time: no process numbers, no times, no progress.")
  var plain = false

  func run() async throws {
    let output = DemoOutput(plain ? .plain : isatty(STDOUT_FILENO) == 1 ? .terminal : .lines)
    // On the loop that serves the ports: a message that this task waits for wakes one thread and not two, and handlers
    // that are set without an `await` in between are all in place before the next message is delivered.
    let reports = await withTaskExecutorPreference(EventLoop.default) {
      var reports: [DemoReport] = []
      for program in name.map({ [$0] }) ?? DemoProgram.allCases {
        let report = await DemoRun.play(program, files: files, output)
        output.show(report)
        reports.append(report)
      }
      return reports
    }
    output.showSummary(of: reports)
    if reports.contains(where: \.hasFailed) { throw ExitCode.failure }
  }
}

/// The programs that can be played.
enum DemoProgram: String, CaseIterable, Sendable, ExpressibleByArgument {
  case twoWorkers = "two-workers"
  case workerWithClients = "worker-with-clients"
  case replyStream = "reply-stream"
  case confinedPlugin = "confined-plugin"

  var summary: String {
    switch self {
    case .twoWorkers: "a host makes a channel between two workers, and is then not needed any more"
    case .workerWithClients: "clients get a channel each to one worker, which dies and is replaced"
    case .replyStream: "a request brings the port for its answers, however many there are"
    case .confinedPlugin: "a plug-in that can reach nothing is handed a port to the host"
    }
  }

  func play(_ run: DemoRun, files: [String]) async throws {
    switch self {
    case .twoWorkers: try await TwoWorkers.play(run)
    case .workerWithClients: try await WorkerWithClients.play(run, files: files)
    case .replyStream: try await ReplyStream.play(run)
    case .confinedPlugin: try await ConfinedPlugin.play(run)
    }
  }
}

import ArgumentParser
import Foundation
import MessagePorts

/// `messageports demo`: programs that show what ports are for, each played by real processes and checked.
struct Demo: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Runs four example programs between real processes, and checks each result.",
    discussion: DemoProgram.allCases.map { program in
      "  " + program.rawValue.padding(toLength: 20, withPad: " ", startingAt: 0) + program.summary
    }.joined(separator: "\n"))

  @Argument(help: "The program to run; all four by default.")
  var name: DemoProgram?

  @Argument(help: "Files for worker-with-clients; the sources of this package by default.", completion: .file())
  var files: [String] = []

  @Flag(help: "Print only what never changes: no process numbers, no times, no progress.")
  var plain = false

  func validate() throws {
    for file in files where !FileManager.default.isReadableFile(atPath: file) {
      throw ValidationError("cannot read \(file)")
    }
  }

  func run() async throws {
    let output = DemoOutput(plain ? .plain : isatty(STDOUT_FILENO) == 1 ? .terminal : .lines)
    let playing = Task { await play(output) }
    let signals = Interruption.watch { playing.cancel() }
    let reports = await playing.value
    signals.forEach { $0.cancel() }

    if playing.isCancelled {
      output.line("interrupted; all processes have been ended")
      throw Interruption.exitCode
    }
    output.showSummary(of: reports)
    if reports.contains(where: \.hasFailed) { throw ExitCode.failure }
  }

  private func play(_ output: DemoOutput) async -> [DemoReport] {
    // On the loop that serves the ports: a message that this task waits for wakes one thread instead of two, and
    // handlers that are set without an `await` in between are all in place before the next message is delivered.
    await withTaskExecutorPreference(EventLoop.default) {
      var reports: [DemoReport] = []
      for program in name.map({ [$0] }) ?? DemoProgram.allCases where !Task.isCancelled {
        let report = await DemoRun.play(program, files: files, output)
        if Task.isCancelled { break }
        output.show(report)
        reports.append(report)
      }
      return reports
    }
  }
}

/// Control-C, and a polite request to end: the processes of the demo are ended first.
private enum Interruption {
  /// The status of a program that SIGINT ended.
  static let exitCode = ExitCode(128 + SIGINT)

  /// Calls `body` instead of ending the process, for as long as the result is kept.
  static func watch(_ body: @escaping @Sendable () -> Void) -> [any DispatchSourceSignal] {
    [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
      source.setEventHandler(handler: body)
      source.resume()
      return source
    }
  }
}

import ArgumentParser
import Glibc
import TestSupport

/// `Torture`: processes that have every reason to lose a message, and may lose none.
@main
struct Torture: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "Torture",
    abstract: "Lets processes post, move, split, close, stop and die at random, and checks every message.",
    discussion: """
      In each round the workers do what the seed decides, all at once. Then everything has to come to rest: each \
      message whose post has returned was received once, whole, in order and at the right port, and each port whose \
      other end is gone was told so, once and last. At the end, nothing may be left over. The exit code is 1 if \
      anything differed.
      """,
    subcommands: [TortureWorkerCommand.self])

  @Option(help: "How many seconds to go on.")
  var seconds = 60.0

  @Option(help: "How many processes.")
  var processes = 16

  @Option(help: "How many ports there are at a time.")
  var ports = 1000

  @Option(help: "Decides what happens; random by default.")
  var seed: UInt64?

  @Option(help: "Seconds without progress after which waiting messages count as lost.")
  var patience = 10.0

  func validate() throws {
    guard (1...TortureTable.mostWorkers).contains(processes) else {
      throw ValidationError("there can be 1 to \(TortureTable.mostWorkers) processes")
    }
    guard (2...100_000).contains(ports) else { throw ValidationError("there can be 2 to 100000 ports") }
  }

  func run() throws {
    setLimit(RLIMIT_NOFILE, nil)
    let seed = seed ?? UInt64.random(in: 1...999_999)
    let run = try TortureRun(
      seed: seed, workers: processes, channels: ports / 2, seconds: seconds, patienceSeconds: patience)
    let verdict = run.play()
    print(run.summary)
    if let violation = verdict {
      print("\nVIOLATION\n\(violation)")
      print("again: \(CommandLine.arguments[0]) --processes \(processes) --ports \(ports) --seed \(seed)")
      throw ExitCode.failure
    }
  }
}

import ArgumentParser
import BenchKit
import Foundation

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Measures, prints a table, and writes the results.")

  @Flag(help: "Measure the peers, too.")
  var peers = false

  @Option(help: ArgumentHelp("Only this metric.", valueName: "metric"))
  var only: String?

  @Option(help: "Measured seconds per figure and repetition.")
  var seconds = 0.12

  @Option(help: "How often everything is measured.")
  var repetitions = 5

  @Option(
    help: "Minutes to spend on repeating what was measured while the processors were far apart: 1, with the peers 5.")
  var budget: Double?

  @Option(help: "A bounced cache line of up to this many nanoseconds means that the processors are near.")
  var near = 300.0

  @Option(help: "Where to write latest.jsonl and about.json.")
  var results = "results"

  func validate() throws {
    if let only, Metric(rawValue: only) == nil {
      throw ValidationError("metrics are: \(Metric.allCases.map(\.rawValue).joined(separator: ", "))")
    }
    guard seconds > 0, seconds <= 10, repetitions >= 1, budget ?? 0 >= 0 else { throw ValidationError("out of range") }
    guard Machine.processors >= 2 else { throw ValidationError("this machine has one processor; two are needed") }
  }

  func run() throws {
    for (name, value) in Machine.facts() { print("\(name): \(value)") }
    var settings = Runner.Settings()
    settings.seconds = seconds
    settings.repetitions = repetitions
    settings.budgetSeconds = (budget ?? (peers ? 5 : 1)) * 60
    settings.nearNanoseconds = near
    let began = Date()
    var runner = Runner(settings, progress: Progress())
    let figures = try runner.run(Plan.cells(peers: peers, only: only))
    print(Tables.figures(figures))
    print(Tables.legend)
    print()
    print(Tables.bars(figures, onlyMeasured: only != nil))
    print(runner.conclusion)
    print("\(Int(Date().timeIntervalSince(began))) seconds")

    let directory = URL(fileURLWithPath: results)
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    try Data(Results.lines(figures).utf8).write(to: directory.appending(path: "latest.jsonl"))
    try Results.about(figures, arguments: CommandLine.arguments).write(to: directory.appending(path: "about.json"))
  }
}

import ArgumentParser
import BenchKit

struct Tail: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measures the tail of latencies at a fixed rate, and counts what may cause it.")

  @Option(help: "Measured seconds of each run.")
  var seconds = 4.0

  @Option(help: "Messages per second.")
  var rate = 20_000

  @Option(help: "How often each is run.")
  var repetitions = 1

  @Flag(help: "Gives the prepared loop a real-time class: everything else on its processor stands still meanwhile.")
  var realTime = false

  @Option(help: "uring or epoll.")
  var driver: String?

  func validate() throws {
    guard seconds > 0, seconds <= 60, rate >= 10, rate <= 1_000_000, repetitions >= 1 else {
      throw ValidationError("out of range")
    }
    guard Machine.processors >= 2 else { throw ValidationError("this machine has one processor; two are needed") }
  }

  func run() throws {
    for (name, value) in Machine.facts() { print("\(name): \(value)") }
    let rows = try TailTable.run(
      seconds: seconds, rate: rate, repetitions: repetitions, isRealTime: realTime, driver: driver
    ) { print($0) }
    print(TailTable.text(rows))
    print(TailTable.legend)
  }
}

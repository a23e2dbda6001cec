import ArgumentParser
import BenchKit

/// One run of one scenario, for those who work on the benchmarks or the library.
struct One: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs one scenario once and prints what came out.", shouldDisplay: false)

  @Argument(help: "See Scenario.all.") var scenario: String
  @Option var size = 8
  @Option var seconds = 0.2
  @Option var placement = Placement.twoCores
  @Option var receive = Job.Receive.handler
  @Option var ports = 1
  @Option var batch = 1
  @Flag var inRuns = false
  @Option var driver: String?
  @Option var backing: String?
  @Flag(help: "Sleep at once instead of looking around before.") var sleepsAtOnce = false

  func run() throws {
    var job = Job(scenario)
    job.size = size
    job.seconds = seconds
    job.placement = placement
    job.receive = receive
    job.ports = ports
    job.batch = batch
    job.inRuns = inRuns
    job.driver = driver
    job.backing = backing
    job.looksAround = !sleepsAtOnce
    print(try job.runOnce().description)
  }
}

extension Placement: ExpressibleByArgument {}
extension Job.Receive: ExpressibleByArgument {}

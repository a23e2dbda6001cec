import ArgumentParser
import BenchKit

/// One of the two processes of a measurement. Started by ``Run`` and by each other.
struct Child: ParsableCommand {
  static let configuration = CommandConfiguration(shouldDisplay: false)

  enum Role: String, ExpressibleByArgument { case near, far }

  @Argument var role: Role
  @Argument var job: String

  func run() throws {
    switch role {
    case .near: try ChildProcesses.runNear(job)
    case .far: try ChildProcesses.runFar(job)
    }
  }
}

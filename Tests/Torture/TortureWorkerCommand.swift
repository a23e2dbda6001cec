import ArgumentParser
import Glibc
import MessagePorts
import TestSupport

/// `Torture worker …`: one of the processes of a torture. Started by it, never by hand.
struct TortureWorkerCommand: ParsableCommand {
  static let name = "worker"
  static let configuration = CommandConfiguration(
    commandName: name, abstract: "Plays one process of a torture.", shouldDisplay: false)

  @Argument var journal: String
  @Argument var index: Int
  @Argument var generation: Int

  func run() throws {
    setLimit(RLIMIT_NOFILE, nil)
    let parent = try Connection.parent
    // Ends when the coordinator does.
    parent.onClose = { _ in Glibc.exit(EXIT_SUCCESS) }
    let worker = TortureWorker(try TortureTable(path: journal), Holder(worker: index, generation: generation))
    worker.start(parent)
    while true { Glibc.pause() }
  }
}

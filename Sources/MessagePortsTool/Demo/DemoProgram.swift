import ArgumentParser

/// The programs that can be played.
enum DemoProgram: String, CaseIterable, Sendable, ExpressibleByArgument {
  case twoWorkers = "two-workers"
  case workerWithClients = "worker-with-clients"
  case replyStream = "reply-stream"
  case confinedPlugin = "confined-plugin"

  var summary: String {
    switch self {
    case .twoWorkers: "a host connects two workers, and is then no longer needed"
    case .workerWithClients: "each client gets a channel to one worker, which dies and is replaced"
    case .replyStream: "a request carries the port for its answers, however many there are"
    case .confinedPlugin: "a plug-in that can reach nothing else is handed a port to the host"
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

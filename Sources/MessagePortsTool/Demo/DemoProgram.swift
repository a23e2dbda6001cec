import ArgumentParser

/// The programs that can be played.
enum DemoProgram: String, CaseIterable, Sendable, ExpressibleByArgument {
  case twoWorkers = "two-workers"
  case workerWithClients = "worker-with-clients"
  case replyStream = "reply-stream"
  case confinedPlugin = "confined-plugin"

  var summary: String {
    switch self {
    case .twoWorkers: "a host connects two workers, and is then not needed"
    case .workerWithClients: "clients share a worker, which dies and is replaced"
    case .replyStream: "a question is answered by a stream, whatever becomes of the server"
    case .confinedPlugin: "a plug-in that can reach nothing gets a port to the host"
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

import ArgumentParser
import MessagePorts

/// The roles in which the tool starts itself again. A process ends when its role's function returns.
enum DemoRole: String, CaseIterable, Sendable, ExpressibleByArgument {
  case twoWorkersHost = "two-workers-host"
  case twoWorkersA = "two-workers-a"
  case twoWorkersB = "two-workers-b"
  case fileWorker = "file-worker"
  case fileClient = "file-client"
  case streamServer = "stream-server"
  case pluginWorker = "plugin-worker"
  case plugin = "plugin"

  func play(_ parent: Connection) async throws {
    switch self {
    case .twoWorkersHost: try await TwoWorkers.playHost(parent)
    case .twoWorkersA: try await TwoWorkers.playA(parent)
    case .twoWorkersB: try await TwoWorkers.playB(parent)
    case .fileWorker: try await WorkerWithClients.playWorker(parent)
    case .fileClient: try await WorkerWithClients.playClient(parent)
    case .streamServer: try await ReplyStream.playServer(parent)
    case .pluginWorker: try await ConfinedPlugin.playWorker(parent)
    case .plugin: try await ConfinedPlugin.playPlugin(parent)
    }
  }

  /// Starts this executable again, in this role.
  func spawn() throws -> WorkerProcess {
    try WorkerProcess.spawn(DemoExecutable.path, arguments: commandLine)
  }

  /// What follows the executable's name.
  var commandLine: [String] { [DemoRoleCommand.name, rawValue] }
}

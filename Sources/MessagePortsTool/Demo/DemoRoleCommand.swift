import ArgumentParser
import MessagePorts

/// `messageports demo-role NAME`: one of the other processes of a demo. Started by the demo, never by hand.
struct DemoRoleCommand: AsyncParsableCommand {
  static let name = "demo-role"
  static let configuration = CommandConfiguration(
    commandName: name, abstract: "Plays one process of a demo.", shouldDisplay: false)

  @Argument var role: DemoRole

  func run() async throws {
    let parent = try Connection.parent
    // As in `Demo`: on the loop that serves the ports.
    try await withTaskExecutorPreference(EventLoop.default) { try await role.play(parent) }
  }
}

import ArgumentParser
import Glibc

/// The tool of the package: one subcommand for each thing it can do.
struct MessagePortsTool: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "messageports",
    abstract: "Shows message ports at work, and what this machine offers them.",
    subcommands: [Demo.self, Doctor.self, DemoRoleCommand.self])
}

/// An asynchronous `main` would start Dispatch's main queue, which traps if no descriptor is left: just when a doctor
/// is needed most. So only asynchronous commands get a task.
@main
enum Main {
  static func main() {
    do {
      var command = try MessagePortsTool.parseAsRoot()
      guard let asynchronous = command as? any AsyncParsableCommand else {
        try command.run()
        return
      }
      run(asynchronous)
    } catch {
      MessagePortsTool.exit(withError: error)
    }
  }

  private static func run(_ command: any AsyncParsableCommand) -> Never {
    nonisolated(unsafe) var command = command
    Task {
      do {
        try unsafe await command.run()
        exit(EXIT_SUCCESS)
      } catch {
        MessagePortsTool.exit(withError: error)
      }
    }
    while true { pause() }
  }
}

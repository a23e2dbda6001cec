import ArgumentParser

/// The tool of the package: one subcommand for each thing it can do.
@main
struct MessagePortsTool: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "messageports",
    abstract: "Looks at what message ports need and do on this machine.",
    subcommands: [Demo.self, Doctor.self, DemoRoleCommand.self])
}

import ArgumentParser

/// The tool of the package: one subcommand for each thing it can do.
@main
struct MessagePortsTool: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "messageports",
    abstract: "Looks at what message ports need and do on this machine.",
    subcommands: [Doctor.self])
}

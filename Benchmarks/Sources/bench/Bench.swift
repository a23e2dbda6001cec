import ArgumentParser
import BenchKit

@main
struct Bench: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench", abstract: "Measures message ports, what the machine can do at best, and others.",
    subcommands: [Run.self, Tail.self, One.self, Child.self], defaultSubcommand: Run.self)
}

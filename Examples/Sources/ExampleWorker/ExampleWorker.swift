import Glibc
import MessagePorts

/// Another process, with which a program has some ports: the program itself, started once more.
public struct ExampleWorker: Sendable {
  public let ports: [MessagePort]
  private let process: WorkerProcess

  /// What it posts on each port, one by one.
  private static let numbers = 1...100

  /// The sum of all that comes.
  public var expectedSum: Int { ports.count * Self.numbers.reduce(0, +) }

  /// Starts it.
  ///
  /// - Parameter portCount: how many ports it is to have.
  public static func start(portCount: Int) throws -> ExampleWorker {
    let process = try WorkerProcess.spawn(.thisProgram, arguments: ["worker"])
    let channels = try (0..<portCount).map { _ in try MessageChannel() }
    try process.connection.postMessage("ports", transfer: channels.map(\.port2))
    return ExampleWorker(ports: channels.map(\.port1), process: process)
  }

  /// Whether this process is one.
  public static var isThisProcess: Bool { CommandLine.arguments.dropFirst().first == "worker" }

  /// What it does.
  public static func run() throws {
    let ports = try Connection.parent.receive(timeout: .seconds(10)).ports
    for number in numbers {
      for port in ports { try port.postMessage(bitwise: number) }
      if number % 10 == 0 { usleep(1000) }
    }
    for port in ports { port.close() }
  }
}

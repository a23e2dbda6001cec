import MessagePorts

/// An ``Agent`` with one port, which it has under the key 0. Its calls block; use them from a thread of the test's own.
public struct Puppet: Sendable {
  /// The near port of the channel under test.
  public let port: MessagePort
  private let agent: Agent
  /// Ends with the last reference to it.
  private var process: FarProcess?

  public init(_ place: Place, options: ChannelOptions = ChannelOptions()) throws {
    let channel = try MessageChannel(options: options)
    port = channel.port1
    switch place {
    case .thisProcess: agent = try Agent(.thisProcess, having: [0: channel.port2])
    case .anotherProcess:
      agent = try Agent(in: FarProcess.shared.worker)
      try agent.callBlocking(.keep, transfer: [channel.port2])
    }
  }

  public init(in process: FarProcess, options: ChannelOptions = ChannelOptions()) throws {
    let channel = try MessageChannel(options: options)
    port = channel.port1
    self.process = process
    agent = try Agent(in: process.worker)
    try agent.callBlocking(.keep, transfer: [channel.port2])
  }

  /// Takes a port to the far end.
  public init(_ place: Place, taking far: MessagePort, near: MessagePort) throws {
    port = near
    agent = try place == .thisProcess ? Agent(.thisProcess) : Agent(in: FarProcess.shared.worker)
    try agent.callBlocking(.keep, transfer: [far])
  }

  /// Posts the numbers of a range.
  public func post(_ numbers: Range<Int>) throws {
    try agent.callBlocking(.post, 0, UInt64(numbers.lowerBound), UInt64(numbers.count))
  }
  /// Posts one message: `patternBytes(count: byteCount, seed: 0)`.
  public func post(byteCount: Int) throws { try agent.callBlocking(.postBytes, 0, UInt64(byteCount)) }
  /// Posts a message with `count` ports, each with its index waiting in it; their other ends are kept.
  public func postPorts(_ count: Int) throws { try agent.callBlocking(.postPorts, 0, UInt64(count)) }
  /// Receives `count` messages; returns how many came before the channel's end.
  public func receive(_ count: Int) throws -> Int { Int(try agent.callBlocking(.receive, 0, UInt64(count)).value) }
  public func close() throws { try agent.callBlocking(.close) }
  /// Lets go of the port.
  public func release() throws { try agent.callBlocking(.release) }
  public func isPeerClosed() throws -> Bool { try agent.callBlocking(.isPeerClosed).value == 1 }
  /// Waits for the port's close event; returns how many messages it had received by then.
  public func awaitClose() throws -> Int { Int(try agent.callBlocking(.awaitClose).value) }
  /// Starts a program that outlives the puppet's process for a minute.
  public func spawnSleeper() throws -> Int32 { Int32(try agent.callBlocking(.spawnSleeper).value) }
  /// Receives one message and keeps its ports; returns how many there were.
  public func holdPorts() throws -> Int { Int(try agent.callBlocking(.holdPorts).value) }
  /// Ends the process with `exit(code)`.
  public func exit(_ code: Int32) throws { try agent.begin(.exit, UInt64(code)) }
}

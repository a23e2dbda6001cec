import Glibc
import MessagePorts

/// Somebody who has ports and does with them what a test says: on a thread of this process, or in a process of its own.
///
/// It keeps ports under keys. Commands are carried out one after the other, in order; ``begin(_:_:_:_:_:transfer:)``
/// does not wait for the outcome, ``end()`` does.
public final class Agent: Sendable {
  /// The near end of the channel that commands and answers use. Ports can be passed over it as over any other.
  public let control: MessagePort
  /// The agent's process, if it has one of its own.
  public let worker: WorkerProcess?

  /// - Parameter ports: what it has from the beginning, by key. Only for an agent in this process.
  public convenience init(_ place: Place, having ports: [UInt64: MessagePort] = [:]) throws {
    switch place {
    case .thisProcess:
      let channel = try MessageChannel()
      startThread { AgentServer(channel.port2, having: ports).run() }
      self.init(control: channel.port1, worker: nil)
    case .anotherProcess: try self.init(in: PeerProcess.spawn("far"))
    }
  }

  /// The agent that a `TestPeer` is, however it was started.
  public convenience init(in worker: WorkerProcess) throws {
    let channel = try MessageChannel()
    try worker.connection.postMessage("agent", transfer: [channel.port2])
    self.init(control: channel.port1, worker: worker)
  }

  private init(control: MessagePort, worker: WorkerProcess?) {
    self.control = control
    self.worker = worker
  }

  public enum Order: UInt64, Sendable {
    /// (key) Keeps the port that comes with the order.
    case keep
    /// (key) Drops its reference.
    case release
    case close
    /// (key, first, count) Posts that many numbers from `first` on, 8 bytes each.
    case post
    /// (key, first, count) Receives that many numbers and checks them.
    case expect
    /// (key) Sends the port back with the answer.
    case give
    /// (key, over, number) Posts `number` on the port `over`, with the port `key`.
    case pass
    /// (from, key, number) Receives a message on `from`, checks its number, and keeps its first port as `key`.
    case take
    /// (key) Waits for the end of what comes, which must be next.
    case expectEnd
    /// (key, size, seed) Posts bytes that `seed` determines.
    case postBytes
    /// (key, size, seed) Receives bytes and checks them.
    case expectBytes
    /// (from, key, size) Receives bytes of that size and seed, and keeps the ports that come with them from `key` on.
    case takeBytes
    /// (key) Posts everything that comes on the port back, ports included, from a message handler.
    case echo
    /// (key) Drops everything that comes, in a message handler.
    case ignore
    /// (key) Sets a close handler that counts; see `closeCount`.
    case countCloses
    /// Answers how often those handlers were called.
    case closeCount
    /// (in, out, home) Plays one station of a relay; see ``RelayToken``. Returns at once.
    case relay
    case relayWithHandler
    /// (key, count) Makes channels, keeps their first ports from `key` on, sends the others with the answer.
    case makeChannels
    case descriptors
    case processIdentifier
    /// (milliseconds) Does nothing, for a while.
    case pause
    /// (code) Ends the process normally.
    case exit
    /// Ends the process with SIGKILL.
    case die
    /// (key) Finds no whole message at the port, now.
    case expectNothing
    /// (left) Takes all descriptors under a limit of 256 but `left`.
    case takeDescriptors
    case giveDescriptors
    /// (key, memfd) Makes a channel, keeps its ports as `key` and `key + 1`, and tries them out. With 1 it will lie in a
    /// memfd, whatever others lie in.
    case makeLocal
    /// (key) Passes a number from port `key` to port `key + 1`, and back.
    case tryOut
    /// (key, over, number) As `pass`, if that is possible. Answers the `errno` for which it was refused, or 0.
    case tryPass
    /// (key) Writes down what the port's handlers are told.
    case record
    /// Answers what was written down, as text.
    case recorded
    /// (number) Listens on ``listenPath(_:)``.
    case listen
    /// (number) Tries to connect to that path. Answers the `errno` for which the system refused it, or 0.
    case tryConnect
    /// Tries to start a worker, and to listen. Answers the `errno` for which the system refused both.
    case tryOthers
    /// (key, count) Receives one message of `count` blocks, as ``blocks(_:)`` makes it, and checks it.
    case expectBlocks
    /// (key, first, count) Receives `count` messages of 1 KiB, each beginning with its number, and checks them.
    case expectKilobytes
    /// (key, count) `echo` for `count` ports from `key` on.
    case echoMany
    /// Answers the memory that the process has in use, in KiB.
    case residentKilobytes
    /// Answers the processor time that the process has used, in milliseconds.
    case processorMilliseconds
    /// (key, left) Lets a new event loop, which has `left` descriptors left, serve the port.
    case useNewLoop
    /// (bytes) Limits the process to `bytes` of addresses more than it uses now; 0: no limit.
    case limitAddresses
    /// (key, bytes) Posts messages of sixteen blocks, with only `bytes` more of addresses to be had, until one is
    /// refused. Answers how many were not, and as text the `errno`.
    case postUntilRefused
    /// Takes memory until the process dies of having none.
    case exhaustMemory
    /// (number, port) Answers, as text, what of the world it can reach: ``listenPath(_:)`` and a TCP port among it.
    case reach
    /// Answers, as text, which channels' memory it has open or mapped: see ``Holdings``.
    case holdings
    /// (inode) Tries to get at more through that memory than it was given. Answers, as text, what it managed to do.
    case pry
    /// (inode) Reads that memory behind its end.
    case readBehind
    /// (key, count) Posts a message with `count` ports, in each of which its number waits, and keeps their other ends.
    case postPorts
    /// (key, count) Receives `count` messages. Answers how many came before the channel's end.
    case receive
    /// (key) Answers 1 if the peer is known to be closed, and 0 if not.
    case isPeerClosed
    /// (key) Waits for the close event. Answers how many messages had come by then.
    case awaitClose
    /// (key) Receives one message and keeps its ports. Answers how many there were.
    case holdPorts
    /// (key) Receives one message. Answers, as text, what its descriptors are (see `Descriptor.described()`), and how many
    /// ports came along; keeps none.
    case describeDescriptors
    /// (key) Receives one message and keeps its descriptors. Answers how many there were.
    case holdDescriptors
    /// Lets go of all of those.
    case dropDescriptors
    /// (key) Receives one message. Answers, as text, what its buffers are (see `MessageBuffer.described()`); keeps none.
    case describeBuffers
    /// (key) The same, and keeps them. Answers how many there were.
    case holdBuffers
    /// Lets go of all of those.
    case dropBuffers
    /// (key, count, size) Posts a message with so many frozen buffers, each of bytes that its number determines.
    case postBuffers
    /// (size) Makes a buffer and lets go of it. Answers 0, or the `errno` of what the system refused.
    case tryBuffer
    /// (key, offset, number) Receives one message with a shared buffer, writes the number into it, and keeps it.
    case writeBuffer
    /// (key, count) Posts a message with the reading ends of `count` pipes, in each of which its number waits.
    case postDescriptors
    /// Starts a program that outlives this process by a minute. Answers its identifier.
    case spawnSleeper
  }

  public struct Failure: Error, CustomStringConvertible {
    public let description: String
    public init(description: String) { self.description = description }
  }

  public static func listenPath(_ number: UInt64) -> String { "/tmp/messageports-tests-agent-\(number)" }

  public struct Answer: Sendable {
    public let value: UInt64
    public var text = ""
    public let ports: [MessagePort]
  }

  /// Gives an order.
  public func begin(
    _ order: Order, _ a: UInt64 = 0, _ b: UInt64 = 0, _ c: UInt64 = 0, transfer ports: [MessagePort] = []
  ) throws {
    try control.postMessage(bitwise: AgentCommand(order: order.rawValue, a: a, b: b, c: c), transfer: ports)
  }

  /// Waits for the answer to the earliest order that has none yet.
  @discardableResult
  public func end(within limit: Duration = patience) async throws -> Answer {
    try await onThread { try self.endBlocking(within: limit) }
  }

  /// The same, on the calling thread.
  public func endBlocking(within limit: Duration = patience) throws -> Answer {
    let event = try control.receiveSoon(within: limit)
    let words = event.bytes
    guard words.count >= 8 else { throw Failure(description: "no answer") }
    let value = words[..<8].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let text = String(decoding: words[8...], as: UTF8.self)
    guard !text.hasPrefix("!") else { throw Failure(description: String(text.dropFirst())) }
    return Answer(value: value, text: text, ports: event.ports)
  }

  /// Gives an order and waits until it was carried out.
  @discardableResult
  public func call(
    _ order: Order, _ a: UInt64 = 0, _ b: UInt64 = 0, _ c: UInt64 = 0, transfer ports: [MessagePort] = []
  ) async throws -> Answer {
    try begin(order, a, b, c, transfer: ports)
    return try await end()
  }

  /// As ``call(_:_:_:_:transfer:)``, on the calling thread.
  @discardableResult
  public func callBlocking(
    _ order: Order, _ a: UInt64 = 0, _ b: UInt64 = 0, _ c: UInt64 = 0, transfer ports: [MessagePort] = []
  ) throws -> Answer {
    try begin(order, a, b, c, transfer: ports)
    return try endBlocking()
  }

  /// Ends the agent's process and waits until it is gone.
  @discardableResult
  public func kill() async throws -> ExitStatus {
    guard let worker else { throw Failure(description: "not a process") }
    worker.kill()
    return await worker.exitStatus
  }
}

struct AgentCommand: PlainValue {
  var order: UInt64
  var a: UInt64
  var b: UInt64
  var c: UInt64

  static let layout = PlainLayout<AgentCommand>(\.order, \.a, \.b, \.c)
}

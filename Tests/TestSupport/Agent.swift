import CSupport
import Glibc
import MessagePorts

/// Where the far end of a test lives. One body, two modes.
public enum Place: String, Sendable, CaseIterable, CustomStringConvertible {
  case thisProcess = "this process"
  case anotherProcess = "another process"
  public var description: String { rawValue }
}

/// Somebody who has ports and does with them what a test says: on a thread of this process, or in a process of its own.
///
/// It keeps ports under keys. Commands are carried out one after the other, in order; ``begin(_:_:_:_:_:transfer:)``
/// does not wait for the outcome, ``end()`` does.
public final class Agent: Sendable {
  /// The near end of the channel that commands and answers use. Ports can be passed over it as over any other.
  public let control: MessagePort
  /// The agent's process, if it has one of its own.
  public let worker: WorkerProcess?

  public convenience init(_ place: Place) throws {
    switch place {
    case .thisProcess:
      let channel = try MessageChannel()
      startThread { AgentServer(channel.port2).run() }
      self.init(control: channel.port1, worker: nil)
    case .anotherProcess: try self.init(in: PeerProcess.spawn("agent"))
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
    /// (left) Takes all descriptors there are under a limit of 256, but so many.
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
    /// (key, count) Receives one message of so many blocks, as ``blocks(_:)`` makes it, and checks it.
    case expectBlocks
    /// (key, first, count) Receives so many messages of 1 KiB, each of which begins with its number, and checks them.
    case expectKilobytes
    /// (key, count) `echo` for so many ports from `key` on.
    case echoMany
    /// Answers the memory that the process has in use, in KiB.
    case residentKilobytes
    /// Answers the processor time that the process has used, in milliseconds.
    case processorMilliseconds
    /// (key, left) Lets a new event loop, for which there are so many descriptors left, serve the port.
    case useNewLoop
    /// (bytes) Lets the process have only so many bytes of addresses more than it uses now; 0: as many as it likes.
    case limitAddresses
    /// (number, port) Answers, as text, what of the world it can reach: ``listenPath(_:)`` and a TCP port among it.
    case reach
    /// Answers, as text, which channels' memory it has open or mapped: see ``Holdings``.
    case holdings
    /// (inode) Tries to get at more through that memory than it was given. Answers, as text, what it managed to do.
    case pry
    /// (inode) Reads that memory behind its end.
    case readBehind
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
  public func end(within limit: Duration = generousLimit) async throws -> Answer {
    try await onThread { try self.endBlocking(within: limit) }
  }

  /// The same, on the calling thread.
  public func endBlocking(within limit: Duration = generousLimit) throws -> Answer {
    let event = try control.receive(timeout: limit)
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

struct AgentCommand: BitwiseCopyable {
  var order: UInt64
  var a: UInt64
  var b: UInt64
  var c: UInt64
}

/// The agent's own side. Blocks its thread; keeps at it until nobody gives orders any more.
public final class AgentServer {
  private let control: MessagePort
  private var ports: [UInt64: MessagePort] = [:]
  private let closes = Collected<CloseReason>()
  private let events = Collected<String>()
  private let arrived = Collected<MessagePort>()
  private var held: [CInt] = []
  private var listener: Listener?
  private static let patience = generousLimit

  public init(_ control: MessagePort) { self.control = control }

  public func run() {
    while let event = try? control.receive(), let command = try? event.load(as: AgentCommand.self) {
      do {
        let answer = try perform(command, event.ports)
        try reply(answer.value, answer.text, answer.ports)
      } catch PortError.closed, PortError.detached {
        return
      } catch {
        do { try reply(0, "!\(Agent.Order(rawValue: command.order)!): \(error)", []) } catch { return }
      }
    }
  }

  private func reply(_ value: UInt64, _ text: String, _ ports: [MessagePort]) throws {
    let bytes = (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } + Array(text.utf8)
    try control.postMessage(bytes: bytes, transfer: ports)
  }

  private func port(_ key: UInt64) throws -> MessagePort {
    guard let port = ports[key] else { throw Agent.Failure(description: "no port \(key)") }
    return port
  }

  private func perform(_ command: AgentCommand, _ received: [MessagePort]) throws -> Agent.Answer {
    let (a, b, c) = (command.a, command.b, command.c)
    var value: UInt64 = 0
    var text = ""
    var returned: [MessagePort] = []
    switch Agent.Order(rawValue: command.order)! {
    case .keep: for (index, port) in received.enumerated() { ports[a + UInt64(index)] = port }
    case .release: ports[a] = nil
    case .close: try port(a).close()
    case .post:
      let port = try port(a)
      for number in b..<b + c { try port.postMessage(bitwise: number) }
    case .expect:
      let port = try port(a)
      for number in b..<b + c { try port.expect(number, within: Self.patience) }
    case .give:
      returned = [try port(a)]
      ports[a] = nil
    case .pass:
      try port(b).postMessage(bitwise: c, transfer: [port(a)])
      ports[a] = nil
    case .take:
      let event = try port(a).receive(timeout: Self.patience)
      let number = try event.load(as: UInt64.self)
      guard number == c, let first = event.ports.first else {
        throw Agent.Failure(description: "message \(number) with \(event.ports.count) ports, not \(c) with one")
      }
      ports[b] = first
    case .expectEnd: try port(a).expectEnd(within: Self.patience)
    case .postBytes: try port(a).postMessage(bytes: patternBytes(count: Int(b), seed: c))
    case .expectBytes:
      let bytes = try port(a).receive(timeout: Self.patience).bytes
      guard bytes == patternBytes(count: Int(b), seed: c) else {
        throw Agent.Failure(description: "\(bytes.count) bytes differ")
      }
    case .takeBytes:
      let event = try port(a).receive(timeout: Self.patience)
      guard event.bytes == patternBytes(count: Int(c), seed: c) else {
        throw Agent.Failure(description: "\(event.byteCount) bytes differ")
      }
      for (index, port) in event.ports.enumerated() { ports[b + UInt64(index)] = port }
      value = UInt64(event.ports.count)
    case .echo:
      let port = try port(a)
      port.onMessage = { [weak port] event in try? port?.postMessage(bytes: event.bytes, transfer: event.ports) }
    case .ignore: try port(a).onMessage = { _ in }
    case .countCloses: try port(a).onClose = { [closes] in closes.append($0) }
    case .closeCount: value = UInt64(closes.count)
    case .relay:
      let station = RelayStation(out: try port(b), home: try port(c))
      let incoming = try port(a)
      startThread { while let event = try? incoming.receive() { station.poll(event) } }
    case .relayWithHandler:
      let station = RelayStation(out: try port(b), home: try port(c))
      try port(a).onMessage = { station.handle($0) }
    case .makeChannels:
      for key in a..<a + b {
        let channel = try MessageChannel()
        ports[key] = channel.port1
        returned.append(channel.port2)
      }
    case .descriptors: value = UInt64(Resources.now().descriptors)
    case .processIdentifier: value = UInt64(getpid())
    case .pause: usleep(UInt32(a) * 1000)
    case .exit: exitProcess(CInt(a))
    case .die: raise(SIGKILL)
    case .expectNothing:
      guard case .empty = try port(a).tryReceive() else { throw Agent.Failure(description: "not empty") }
    case .takeDescriptors: takeDescriptors(leaving: Int(a))
    case .giveDescriptors:
      for fd in held { close(fd) }
      held = []
    case .makeLocal:
      let channel = try MessageChannel(options: ChannelOptions(backing: b == 1 ? .memfd : nil))
      ports[a] = channel.port1
      ports[a + 1] = channel.port2
      try tryOut(channel.port1, channel.port2)
    case .tryOut: try tryOut(port(a), port(a + 1))
    case .tryPass:
      do {
        try port(b).postMessage(bitwise: c, transfer: [port(a)])
        ports[a] = nil
      } catch PortError.system(let error) {
        value = UInt64(error.errno)
      }
    case .record:
      let port = try port(a)
      port.onMessageError = { [events] error in
        if case .portsLost(let count) = error { events.append("lost \(count)") } else { events.append("\(error)") }
      }
      port.onMessage = { [events, arrived] event in
        for port in event.ports { arrived.append(port) }
        events.append("\((try? event.load(as: UInt64.self)) ?? .max)")
      }
    case .recorded: text = events.all.joined(separator: ", ")
    case .listen: listener = try Listener(path: Agent.listenPath(a))
    case .tryConnect: value = try errnoOfConnecting(to: Agent.listenPath(a))
    case .tryOthers:
      let errors = [
        errnoOf { _ = try WorkerProcess.spawn("true") }, errnoOf { _ = try Listener(path: freshPath()) },
      ]
      value = UInt64(errors[0] == errors[1] ? errors[0] : -1)
    case .expectBlocks: try port(a).receive(timeout: Self.patience).checkBlocks(Int(b))
    case .expectKilobytes:
      let port = try port(a)
      for number in b..<b + c {
        let event = try port.receive(timeout: Self.patience)
        let found = event.withBytes { unsafe $0.unsafeLoadUnaligned(as: UInt64.self) }
        guard event.byteCount == 1024, found == number else {
          throw Agent.Failure(description: "expected \(number), got \(found) in \(event.byteCount) bytes")
        }
      }
    case .echoMany:
      for key in a..<a + b {
        let port = try port(key)
        port.onMessage = { [weak port] event in try? port?.postMessage(bytes: event.bytes, transfer: event.ports) }
      }
    case .residentKilobytes: value = UInt64(Resources.residentKilobytes)
    case .processorMilliseconds: value = UInt64(Resources.processorTime / .milliseconds(1))
    case .useNewLoop:
      takeDescriptors(leaving: Int(b))
      let loop = EventLoop(name: "extra")
      let port = try port(a)
      port.onMessage = { [weak port] event in try? port?.postMessage(bytes: event.bytes, transfer: event.ports) }
      port.setEventLoop(loop)
    case .limitAddresses: setLimit(RLIMIT_AS, a == 0 ? nil : (Resources.addressSpaceKilobytes << 10) + Int(a))
    case .reach: text = try Reach.tried(listenPath: Agent.listenPath(a), tcpPort: UInt16(b)).joined(separator: ", ")
    case .holdings: text = Holdings.now().map(String.init).joined(separator: " ")
    case .pry: text = try Prying(inode: a).all().joined(separator: ", ")
    case .readBehind: try Prying(inode: a).readBehind()
    }
    return Agent.Answer(value: value, text: text, ports: returned)
  }

  private func takeDescriptors(leaving left: Int) {
    setLimit(RLIMIT_NOFILE, 256)
    while true {
      let fd = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)
      if fd < 0 { break }
      held.append(fd)
    }
    for _ in 0..<left { close(held.removeLast()) }
  }

  private func tryOut(_ one: MessagePort, _ other: MessagePort) throws {
    try one.postMessage(bitwise: 1 as UInt64)
    try other.expect(1)
    try other.postMessage(bitwise: 2 as UInt64)
    try one.expect(2)
  }

  private func errnoOf(_ body: () throws -> Void) -> CInt {
    do {
      try body()
      return 0
    } catch {
      if case .system(let error)? = error as? ConnectionError { return error.errno }
      return -1
    }
  }

  /// On the event loop: the pool of this process, which is Dispatch's, does not live without descriptors.
  private func errnoOfConnecting(to path: String) throws -> UInt64 {
    let outcome = Collected<CInt>()
    Task(executorPreference: EventLoop.default) {
      do {
        _ = try await Connection.connect(path: path, timeout: generousLimit)
        outcome.append(0)
      } catch {
        if case .system(let error)? = error as? ConnectionError { outcome.append(error.errno) } else { outcome.append(-1) }
      }
    }
    let deadline = ContinuousClock.now + Self.patience
    while outcome.count == 0 {
      guard ContinuousClock.now < deadline else { throw DeadlineExceeded(what: "a connection") }
      usleep(1000)
    }
    return UInt64(bitPattern: Int64(outcome.all[0]))
  }
}

private func exitProcess(_ code: CInt) -> Never { exit(code) }

extension MessagePort {
  /// Blocks until the next message, which must be this number.
  public func expect(_ number: UInt64, within limit: Duration = generousLimit) throws {
    let event = try receive(timeout: limit)
    guard event.byteCount == 8, try event.load(as: UInt64.self) == number else {
      let found = (try? event.load(as: UInt64.self)).map { "\($0)" } ?? "\(event.byteCount) bytes"
      throw Agent.Failure(description: "expected \(number), got \(found)")
    }
  }

  /// Blocks until the peer is found closed; a message is an error.
  public func expectEnd(within limit: Duration = generousLimit) throws {
    do {
      let event = try receive(timeout: limit)
      throw Agent.Failure(description: "expected the end, got \(event.byteCount) bytes")
    } catch PortError.peerClosed {
      return
    }
  }
}

/// Bytes that are different at each place and for each seed.
public func patternBytes(count: Int, seed: UInt64) -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: count)
  unsafe bytes.withUnsafeMutableBytes { buffer in
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    var index = 0
    while index + 8 <= count {
      state = state &* 6_364_136_223_846_793_005 &+ 1
      unsafe buffer.storeBytes(of: state, toByteOffset: index, as: UInt64.self)
      index += 8
    }
    while index < count {
      unsafe buffer[index] = UInt8(truncatingIfNeeded: state >> 40) &+ UInt8(truncatingIfNeeded: index)
      index += 1
    }
  }
  return bytes
}

private let blockBytes = 64 << 10

/// Bytes that are quick to make and to check, even without optimisation: blocks of 64 KiB, each beginning with its number.
public func blocks(_ count: Int) -> [UInt8] {
  var bytes = [UInt8](repeating: 0x5a, count: count * blockBytes)
  unsafe bytes.withUnsafeMutableBytes { buffer in
    for index in 0..<count { unsafe buffer.storeBytes(of: UInt64(index), toByteOffset: index * blockBytes, as: UInt64.self) }
  }
  return bytes
}

extension MessageEvent {
  /// Checks that the message is what ``blocks(_:)`` makes.
  public func checkBlocks(_ count: Int) throws {
    guard byteCount == count * blockBytes else { throw Agent.Failure(description: "\(byteCount) bytes") }
    var expected = blocks(1)
    try withBytes { span in
      try unsafe span.withUnsafeBytes { buffer in
        for index in 0..<count {
          unsafe expected.withUnsafeMutableBytes { unsafe $0.storeBytes(of: UInt64(index), as: UInt64.self) }
          guard unsafe memcmp(expected, buffer.baseAddress! + index * blockBytes, blockBytes) == 0 else {
            throw Agent.Failure(description: "block \(index) differs")
          }
        }
      }
    }
  }
}

import CSupport
import Glibc
import MessagePorts

/// The agent's own side. Blocks its thread; keeps at it until nobody gives orders any more.
public final class AgentServer {
  private let control: MessagePort
  private var ports: [UInt64: MessagePort] = [:]
  private let closes = Collected<CloseReason>()
  private let events = Collected<String>()
  private let arrived = Collected<MessagePort>()
  private var descriptors: [Descriptor] = []
  private var buffers: [MessageBuffer] = []
  private var held: [CInt] = []
  private var listener: Listener?

  public init(_ control: MessagePort, having ports: [UInt64: MessagePort] = [:]) {
    self.control = control
    self.ports = ports
  }

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
      for number in b..<b + c { try port.expect(number) }
    case .give:
      returned = [try port(a)]
      ports[a] = nil
    case .pass:
      try port(b).postMessage(bitwise: c, transfer: [port(a)])
      ports[a] = nil
    case .take:
      let event = try port(a).receiveSoon()
      let number = try event.load(as: UInt64.self)
      guard number == c, let first = event.ports.first else {
        throw Agent.Failure(description: "message \(number) with \(event.ports.count) ports, not \(c) with one")
      }
      ports[b] = first
    case .expectEnd: try port(a).expectEnd()
    case .postBytes: try port(a).postMessage(bytes: patternBytes(count: Int(b), seed: c))
    case .expectBytes:
      let bytes = try port(a).receiveSoon().bytes
      guard bytes == patternBytes(count: Int(b), seed: c) else {
        throw Agent.Failure(description: "\(bytes.count) bytes differ")
      }
    case .takeBytes:
      let event = try port(a).receiveSoon()
      guard event.bytes == patternBytes(count: Int(c), seed: c) else {
        throw Agent.Failure(description: "\(event.byteCount) bytes differ")
      }
      for (index, port) in event.ports.enumerated() { ports[b + UInt64(index)] = port }
      value = UInt64(event.ports.count)
    case .echo:
      let port = try port(a)
      port.onMessage = { [weak port] event in
        try? port?.postMessage(
          bytes: event.bytes, transfer: event.ports, descriptors: event.descriptors, buffers: event.buffers)
      }
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
        let count = event.descriptors.count + event.buffers.count
        events.append("\((try? event.load(as: UInt64.self)) ?? .max)\(count == 0 ? "" : " with \(count)")")
      }
    case .recorded: text = events.all.joined(separator: ", ")
    case .listen: listener = try Listener(path: Agent.listenPath(a))
    case .tryConnect: value = try errnoOfConnecting(to: Agent.listenPath(a))
    case .tryOthers:
      let errors = [
        errnoOf { _ = try WorkerProcess.spawn("true") }, errnoOf { _ = try Listener(path: freshPath()) },
      ]
      value = UInt64(errors[0] == errors[1] ? errors[0] : -1)
    case .expectBlocks: try port(a).receiveSoon().checkBlocks(Int(b))
    case .expectKilobytes:
      let port = try port(a)
      for number in b..<b + c {
        let event = try port.receiveSoon()
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
    case .limitAddresses: limitAddresses(a)
    case .postUntilRefused: (value, text) = try postUntilRefused(port(a), b)
    case .exhaustMemory: exhaustMemory()
    case .reach: text = try Reach.tried(listenPath: Agent.listenPath(a), tcpPort: UInt16(b)).joined(separator: ", ")
    case .holdings: text = Holdings.now().map(String.init).joined(separator: " ")
    case .pry: text = try Prying(inode: a).all().joined(separator: ", ")
    case .readBehind: try Prying(inode: a).readBehind()
    case .postPorts: try postPorts(Int(b), on: port(a))
    case .receive: value = try receive(b, on: port(a))
    case .isPeerClosed: value = try port(a).isPeerClosed ? 1 : 0
    case .awaitClose: value = try awaitClose(of: port(a))
    case .holdPorts:
      let ports = try port(a).receiveSoon().ports
      ports.forEach(Kept.keep)
      value = UInt64(ports.count)
    case .describeDescriptors:
      let event = try port(a).receiveSoon()
      text = try event.descriptors.map { try $0.described() }.joined(separator: ", ")
      value = UInt64(event.ports.count)
    case .holdDescriptors:
      let event = try port(a).receiveSoon()
      descriptors += event.descriptors
      value = UInt64(event.descriptors.count)
    case .dropDescriptors: descriptors = []
    case .describeBuffers: text = try port(a).receiveSoon().buffers.map { try $0.described() }.joined(separator: ", ")
    case .holdBuffers:
      let event = try port(a).receiveSoon()
      // Looked at, so that they are mapped.
      text = try event.buffers.map { try $0.described() }.joined(separator: ", ")
      buffers += event.buffers
      value = UInt64(event.buffers.count)
    case .dropBuffers: buffers = []
    case .postBuffers:
      let frozen = try (0..<b).map { seed in
        MessageBuffer.frozen(try FrozenBuffer(copying: patternBytes(count: Int(c), seed: seed)))
      }
      try port(a).postMessage(bitwise: b, buffers: frozen)
    case .tryBuffer:
      do throws(BufferError) {
        var buffer = try SharedBuffer(byteCount: Int(a))
        try buffer.store(1 as UInt8, at: Int(a) - 1)
      } catch {
        guard case .system(let error) = error else { throw error }
        value = UInt64(error.errno)
      }
    case .writeBuffer:
      guard case .shared(let buffer) = try port(a).receiveSoon().buffers.first else {
        throw Agent.Failure(description: "no shared buffer")
      }
      try buffer.store(c, at: Int(b))
      buffers.append(.shared(buffer))
    case .postDescriptors:
      let files = try (0..<b).map { try TestPipe.readable(containing: $0) }
      try port(a).postMessage(bitwise: b, descriptors: files)
    case .spawnSleeper: value = UInt64(try spawnSleeper())
    }
    return Agent.Answer(value: value, text: text, ports: returned)
  }

  private func postPorts(_ count: Int, on port: MessagePort) throws {
    let channels = try (0..<count).map { index in
      let channel = try MessageChannel()
      try channel.port1.postMessage(bitwise: index)
      Kept.keep(channel.port1)
      return channel
    }
    try port.postMessage(bytes: [], transfer: channels.map(\.port2))
  }

  private func receive(_ count: UInt64, on port: MessagePort) throws -> UInt64 {
    for index in 0..<count {
      do { _ = try port.receiveSoon() } catch PortError.peerClosed { return index }
    }
    return count
  }

  private func awaitClose(of port: MessagePort) throws -> UInt64 {
    let closed = Promise<Int>(), messages = Collected<Void>()
    port.onClose = { _ in closed.fulfil(messages.count) }
    port.onMessage = { _ in messages.append(()) }
    return UInt64(try closed.wait())
  }

  /// Like a program that knows nothing of this library, it passes on every descriptor that is not close-on-exec.
  private func spawnSleeper() throws -> pid_t {
    var pid: pid_t = 0
    let arguments = unsafe [strdup("sleep"), strdup("60"), nil]
    defer { unsafe arguments.forEach { unsafe free($0) } }
    let error = unsafe posix_spawnp(&pid, "sleep", nil, nil, arguments, environ)
    guard error == 0 else { throw Agent.Failure(description: "posix_spawn: \(error)") }
    return pid
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

  private func limitAddresses(_ left: UInt64) {
    leaveAddresses(left == 0 ? nil : Int(left))
  }

  private func postUntilRefused(_ port: MessagePort, _ left: UInt64) throws -> (UInt64, String) {
    let bytes = blocks(16)
    limitAddresses(left)
    defer { limitAddresses(0) }
    for count in 0..<10_000 as Range<UInt64> {
      do {
        try port.postMessage(bytes: bytes)
      } catch PortError.system(let error) {
        return (count, "\(error.errno)")
      }
    }
    return (10_000, "never refused")
  }

  private func exhaustMemory() -> Never {
    limitAddresses(64 << 20)
    var taken: [[UInt8]] = []
    while true { taken.append([UInt8](repeating: 1, count: 1 << 20)) }
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

  /// On the event loop: this process's pool is Dispatch's, which needs descriptors.
  private func errnoOfConnecting(to path: String) throws -> UInt64 {
    let outcome = Collected<CInt>()
    Task(executorPreference: EventLoop.default) {
      do {
        _ = try await Connection.connect(path: path, timeout: patience)
        outcome.append(0)
      } catch {
        if case .system(let error)? = error as? ConnectionError {
          outcome.append(error.errno)
        } else {
          outcome.append(-1)
        }
      }
    }
    return UInt64(bitPattern: Int64(try outcome.wait(for: 1)[0]))
  }
}

private func exitProcess(_ code: CInt) -> Never { exit(code) }

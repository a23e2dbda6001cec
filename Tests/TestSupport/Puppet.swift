import Glibc
import MessagePorts
import Synchronization

/// A far end that does one thing after the other, as it is told, and answers. Its calls block; use them from a thread
/// of the test's own.
public struct Puppet: Sendable {
  /// The near port of the channel under test.
  public let port: MessagePort
  private let control: MessagePort
  /// Its process ends when nobody refers to it any more.
  private var process: FarProcess?

  public init(_ place: FarEnd, options: ChannelOptions = ChannelOptions()) throws {
    let (control, far) = try Self.makeControl()
    self.control = control
    port = try place.open(.puppet, options: options, extra: [far])
  }

  public init(in process: FarProcess, options: ChannelOptions = ChannelOptions()) throws {
    let (control, far) = try Self.makeControl()
    self.control = control
    self.process = process
    port = try process.open(.puppet, options: options, extra: [far])
  }

  /// Takes a port to the far end.
  public init(_ place: FarEnd, taking far: MessagePort, near: MessagePort) throws {
    let (control, farControl) = try Self.makeControl()
    self.control = control
    port = near
    try place.place(far, .puppet, extra: [farControl])
  }

  private static func makeControl() throws -> (MessagePort, MessagePort) {
    let channel = try MessageChannel()
    return (channel.port1, channel.port2)
  }

  enum Command: Int {
    case post, postBytes, postPorts, receive, close, release, isPeerClosed, awaitClose, exit, spawnSleeper, holdPorts
  }

  private func ask(_ command: Command, _ first: Int = 0, _ second: Int = 0) throws -> Int {
    try control.postMessage(bitwise: PuppetOrder(command: command.rawValue, first: first, second: second))
    return try control.receive(timeout: patience).load(as: Int.self)
  }

  /// Posts the numbers of a range.
  public func post(_ numbers: Range<Int>) throws { _ = try ask(.post, numbers.lowerBound, numbers.upperBound) }
  /// Posts one message of so many bytes.
  public func post(byteCount: Int) throws { _ = try ask(.postBytes, byteCount) }
  /// Posts a message with so many ports, each with the number of its place waiting in it; their other ends are kept.
  public func postPorts(_ count: Int) throws { _ = try ask(.postPorts, count) }
  /// Receives so many messages; returns how many there were before the channel's end.
  public func receive(_ count: Int) throws -> Int { try ask(.receive, count) }
  public func close() throws { _ = try ask(.close) }
  /// Lets go of the port.
  public func release() throws { _ = try ask(.release) }
  public func isPeerClosed() throws -> Bool { try ask(.isPeerClosed) == 1 }
  /// Waits for the port's close event; returns how many messages it had received by then.
  public func awaitClose() throws -> Int { try ask(.awaitClose) }
  /// Starts a program that outlives the puppet's process for a minute.
  public func spawnSleeper() throws -> Int32 { Int32(try ask(.spawnSleeper)) }
  /// Receives one message and keeps its ports; returns how many there were.
  public func holdPorts() throws -> Int { try ask(.holdPorts) }
  /// Ends the process with a return from `exit(code)`.
  public func exit(_ code: Int32) throws {
    try control.postMessage(bitwise: PuppetOrder(command: Command.exit.rawValue, first: Int(code), second: 0))
  }
}

struct PuppetOrder: BitwiseCopyable {
  let command: Int
  let first: Int
  let second: Int
}

/// The far end of a ``Puppet``.
enum PuppetMaster {
  static func serve(_ port: MessagePort, control: MessagePort) {
    let port = Mutex<MessagePort?>(port)
    _ = TestThread {
      while let order = try? control.receive().load(as: PuppetOrder.self) {
        let command = Puppet.Command(rawValue: order.command)!
        let answer: Int
        if command == .release {
          port.withLock { $0 = nil }
          answer = 0
        } else {
          answer = (try? perform(command, order.first, order.second, port.withLock { $0! })) ?? -1
        }
        try? control.postMessage(bitwise: answer)
      }
    }
  }

  private static func perform(_ command: Puppet.Command, _ first: Int, _ second: Int, _ port: MessagePort) throws -> Int {
    switch command {
    case .post: for number in first..<second { try port.postMessage(bitwise: number) }
    case .postBytes: try port.postMessage(bytes: Payload.make(0, byteCount: first))
    case .postPorts:
      let channels = try (0..<first).map { index in
        let channel = try MessageChannel()
        try channel.port1.postMessage(bitwise: index)
        Kept.keep(channel.port1)
        return channel
      }
      try port.postMessage(bytes: [], transfer: channels.map(\.port2))
    case .receive: return receive(first, port)
    case .close: port.close()
    case .release: break
    case .isPeerClosed: return port.isPeerClosed ? 1 : 0
    case .awaitClose:
      let closed = Promise<Int>()
      let count = Mutex(0)
      port.onClose = { _ in closed.fulfil(count.withLock { $0 }) }
      port.onMessage = { _ in count.withLock { $0 += 1 } }
      return try closed.wait()
    case .exit: Glibc.exit(Int32(first))
    case .spawnSleeper: return Int(try spawnSleeper())
    case .holdPorts:
      let ports = try port.receive(timeout: patience).ports
      ports.forEach(Kept.keep)
      return ports.count
    }
    return 0
  }

  private static func receive(_ count: Int, _ port: MessagePort) -> Int {
    for index in 0..<count {
      guard (try? port.receive(timeout: patience)) != nil else { return index }
    }
    return count
  }

  /// As a program would that knows nothing of this library: it passes on every descriptor that is not close-on-exec.
  private static func spawnSleeper() throws -> pid_t {
    var pid: pid_t = 0
    let arguments = unsafe [strdup("sleep"), strdup("60"), nil]
    defer { unsafe arguments.forEach { unsafe free($0) } }
    let error = unsafe posix_spawnp(&pid, "sleep", nil, nil, arguments, environ)
    guard error == 0 else { throw DeadlineExceeded(what: "posix_spawn: \(error)") }
    return pid
  }
}

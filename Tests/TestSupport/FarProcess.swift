import Glibc
import MessagePorts
import Synchronization

/// A `TestPeer` that plays roles on the ports it is sent.
public final class FarProcess: Sendable {
  /// The one that tests share; nobody kills or stops it.
  public static let shared = FarProcess()

  public let worker: WorkerProcess

  public init() {
    do { worker = try PeerProcess.spawn("far") } catch { fatalError("TestPeer does not start: \(error)") }
  }

  public func place(_ ports: [MessagePort], _ role: FarRole, _ arguments: [Int] = []) throws {
    let line = ([role.rawValue] + arguments.map(String.init)).joined(separator: " ")
    try worker.connection.postMessage("play", bytes: Array(line.utf8), transfer: ports)
  }

  public func open(
    _ role: FarRole, _ arguments: [Int] = [], options: ChannelOptions = ChannelOptions(), extra: [MessagePort] = []
  ) throws -> MessagePort {
    let channel = try MessageChannel(options: options)
    try place([channel.port2] + extra, role, arguments)
    return channel.port1
  }

  /// Stops the process, as the terminal does; it is not dead, and cannot do anything.
  public func suspend() throws {
    worker.kill(SIGSTOP)
    try waitUntil("the process to be stopped") { try state() == "T" }
  }

  public func resume() { worker.kill(SIGCONT) }

  /// Kills the process and waits until it has died; its parent's event loop reaps it.
  public func kill() throws {
    worker.kill(SIGKILL)
    try waitUntil("the process to die") { !worker.isRunning }
  }

  /// The letter that `/proc` shows.
  private func state() throws -> Character {
    let stat = try readSmallFile("/proc/\(worker.processIdentifier)/stat")
    return stat[stat.index(stat.lastIndex(of: ")")!, offsetBy: 2)]
  }

  /// What `TestPeer` does with the messages named "play".
  public static func play(_ event: ConnectionEvent) {
    let words = String(decoding: event.bytes, as: UTF8.self).split(separator: " ")
    guard let name = words.first, let role = FarRole(rawValue: String(name)) else { exit(65) }
    role.play(on: event.ports, words.dropFirst().compactMap { Int($0) })
  }
}

/// A file of `/proc`.
public func readSmallFile(_ path: String) throws -> String {
  let fd = unsafe open(path, O_RDONLY | O_CLOEXEC)
  guard fd >= 0 else { throw DeadlineExceeded(what: "opening \(path): \(errno)") }
  defer { close(fd) }
  var bytes = [UInt8](repeating: 0, count: 4096)
  let count = unsafe read(fd, &bytes, bytes.count)
  return String(decoding: bytes.prefix(max(0, count)), as: UTF8.self)
}

/// Ports that somebody keeps without using them.
public enum Kept {
  private static let ports = Mutex<[MessagePort]>([])
  public static func keep(_ port: MessagePort) { ports.withLock { $0.append(port) } }
}

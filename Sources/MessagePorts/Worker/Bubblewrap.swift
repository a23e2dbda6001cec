import CSupport
import Glibc
import SharedRing

/// A program that bubblewrap is to confine and execute: how it is called, and how it says that it has.
///
/// It has two sockets of ours. On one it writes which process is the first in the new world. From the other it reads a byte once
/// that world is complete, and closes it: until then, it, or whatever it has started, has it open.
struct Bubblewrap: ~Copyable {
  private let confinement: Confinement
  private let command: [[UInt8]]
  private let status: PacketSocket
  private let gate: PacketSocket

  static let name = "bwrap"

  /// - Parameters:
  ///   - program: what is to be executed in the end.
  ///   - surroundings: get bubblewrap's ends of the sockets.
  init(
    _ confinement: Confinement, _ program: Program, directory: String?, diesWithParent: Bool,
    _ surroundings: Surroundings
  ) throws(ConnectionError) {
    let executable = try program.absolutePath
    var options = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if !confinement.sharesNetwork { options.append("--unshare-net") }
    if diesWithParent { options.append("--die-with-parent") }
    options += ["--cap-drop", "ALL", "--proc", "/proc"]
    if confinement.hasDevices { options += ["--dev", "/dev"] }
    if confinement.hasTemporaryDirectory { options += ["--tmpfs", "/tmp"] }
    var command = options.map { Array($0.utf8) }
    for path in confinement.readablePaths { command += try Self.binding("--ro-bind", path) }
    command += [Array("--ro-bind".utf8), executable, executable]
    for path in confinement.writablePaths { command += try Self.binding("--bind", path) }
    if let directory { command += [Array("--chdir".utf8), Array(directory.utf8)] }
    let status = try Self.makeSocket("--json-status-fd", &command, surroundings)
    let gate = try Self.makeSocket("--block-fd", &command, surroundings)
    self.confinement = confinement
    self.command = command + [Array("--".utf8), executable] + program.arguments.dropFirst()
    self.status = status
    self.gate = gate
  }

  /// What to execute first.
  func program(_ environment: [[UInt8]]) throws(ConnectionError) -> Program {
    var program = try Program(Array(Self.name.utf8), arguments: command, environment: nil)
    program.environment = environment
    return program
  }

  /// The paths are checked here, where an error can name the one: bubblewrap says a line to its standard error.
  private static func binding(_ option: String, _ path: String) throws(ConnectionError) -> [[UInt8]] {
    let bytes = Array(path.utf8)
    try Program.check(bytes, "a path of a confinement")
    guard path.hasPrefix("/") else { throw .invalidOption("confinement: \(path) is no absolute path") }
    guard unsafe access(path, F_OK) == 0 else { throw .invalidOption("confinement: there is no \(path)") }
    return [Array(option.utf8), bytes, bytes]
  }

  /// Makes a pair of sockets. Bubblewrap gets one under the number that `option` tells.
  private static func makeSocket(
    _ option: String, _ command: inout [[UInt8]], _ surroundings: Surroundings
  ) throws(ConnectionError) -> PacketSocket {
    var (ours, theirs): (CInt, CInt) = (-1, -1)
    do throws(SystemError) {
      try checkOnce("socketpair", unsafe csupport_socket_pair(&ours, &theirs))
    } catch {
      throw .system(error)
    }
    // Bubblewrap waits at the gate by reading: a socket that says "not yet" would be no gate.
    _ = fcntl(theirs, F_SETFL, 0)
    command += [Array(option.utf8), Array("\(surroundings.add(owning: theirs))".utf8)]
    return PacketSocket(owning: ours)
  }

  /// Lets bubblewrap go on, which has just been started, and waits until the world is complete, or cannot be.
  ///
  /// - Parameter process: bubblewrap. Nobody reaps it meanwhile.
  consuming func finish(_ process: csupport_newborn) throws(ConnectionError) -> Sandbox {
    guard let first = firstProcess else { throw Self.givenUp }
    let pidfd = csupport_pidfd_open(first)
    if pidfd < 0 {
      _ = kill(first, SIGKILL)
      throw .system(SystemError(call: "pidfd_open", errno: -pidfd))
    }
    // Its namespaces are there from its birth on; the rest is done by the time the gate closes. Looked at before: a program that
    // does little may have ended a moment after.
    let namespaces = Self.namespaces(of: first)
    var byte: UInt8 = 1
    _ = unsafe withUnsafeBytes(of: &byte) { unsafe gate.send($0, []) }
    // Readable without anything to read: everybody has closed the other end.
    while csupport_wait_readable(gate.descriptor, -1) != 1 { continue }
    let rights: Rights?
    do throws(SystemError) {
      rights = try Self.rights(of: first)
    } catch {
      // It lives, and this process lacks what it takes to see how: nothing is taken on trust.
      _ = csupport_pidfd_signal(pidfd, SIGKILL)
      _ = csupport_close(pidfd)
      throw .system(error)
    }
    if rights == nil {
      // Either it never came to the program, or that has ended already. Bubblewrap says which, at its own end.
      while csupport_wait_readable(process.pidfd, -1) != 1 { continue }
      guard saysExitCode else {
        _ = csupport_close(pidfd)
        throw Self.givenUp
      }
    }
    let granted = GrantedConfinement(
      asked: confinement, namespaces: namespaces, hasNoNewPrivileges: rights?.hasNoNew ?? true,
      capabilities: rights?.capabilities ?? 0)
    let sandbox = Sandbox(firstProcess: first, pidfd: pidfd, status: status, granted: granted)
    if let shortcoming = granted.shortcoming {
      sandbox.signal(SIGKILL)
      throw .confinementUnavailable(shortcoming)
    }
    return sandbox
  }

  private static var givenUp: ConnectionError {
    .confinementUnavailable("bubblewrap has given up; it says why on the worker's standard error")
  }

  /// The first process of the new world, once bubblewrap has said which it is; `nil`: it has ended before that.
  private var firstProcess: pid_t? {
    while csupport_wait_readable(status.descriptor, -1) != 1 { continue }
    guard let said = nextStatus, let name = said.firstRange(of: "\"child-pid\":") else { return nil }
    let digits = said[name.upperBound...].drop { $0 == " " }.prefix { $0.isNumber }
    return pid_t(digits)
  }

  /// Whether the program was executed, and has ended.
  private var saysExitCode: Bool {
    while let said = nextStatus { if said.contains("\"exit-code\"") { return true } }
    return false
  }

  /// A line of JSON that bubblewrap has written, if there is one.
  private var nextStatus: String? {
    var text = [UInt8](repeating: 0, count: 1024)
    var none = ReceivedDescriptors(capacity: 0)
    let receipt = unsafe text.withUnsafeMutableBytes { unsafe status.receive(into: $0, &none) }
    guard case .packet(let packet) = receipt else { return nil }
    return String(decoding: text.prefix(packet.byteCount), as: UTF8.self)
  }

  private static func namespaces(of process: pid_t) -> Set<GrantedConfinement.Namespace> {
    Set(
      GrantedConfinement.Namespace.allCases.filter {
        unsafe csupport_process_has_own_namespace(process, $0.rawValue) == 1
      })
  }

  private struct Rights {
    var hasNoNew: Bool
    var capabilities: UInt64
  }

  /// `nil`: it is over. What cannot be had by executing anything is all that the program can have.
  private static func rights(of process: pid_t) throws(SystemError) -> Rights? {
    func isOver(_ result: CInt) throws(SystemError) -> Bool {
      if result == -ENOENT || result == -ESRCH { return true }
      try checkOnce("open", result)
      return false
    }
    let ending = csupport_process_is_ending(process)
    if try isOver(ending) || ending == 1 { return nil }
    var (noNew, capabilities): (UInt64, UInt64) = (0, 0)
    if try isOver(unsafe csupport_process_field(process, "NoNewPrivs", 10, &noNew)) { return nil }
    if try isOver(unsafe csupport_process_field(process, "CapBnd", 16, &capabilities)) { return nil }
    return Rights(hasNoNew: noNew == 1, capabilities: capabilities)
  }
}

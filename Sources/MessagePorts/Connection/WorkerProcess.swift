import CSupport
import Glibc
import SharedRing
import Synchronization

/// A process that this one has started, with a connection to it.
///
/// The program on the other side finds its end as ``Connection/parent``. The worker inherits the standard descriptors,
/// its end of the connection, and nothing else of this library's.
///
/// Releasing this object neither ends the worker nor the connection, but the connection closes as any port does when
/// nobody refers to it.
///
/// Thread safety: any thread may use any member.
public final class WorkerProcess: Sendable {
  /// The connection to the worker. It may be used at once: what is posted waits until the worker takes it. When the
  /// worker ends, its close reason is ``CloseReason/peerExited(_:)`` with the exit status.
  public let connection: Connection
  /// The worker's process. Once the worker has ended, the system may give this number to another one.
  public let processIdentifier: Int32
  private let child: ChildProcess

  private init(connection: Connection, child: ChildProcess) {
    self.connection = connection
    self.child = child
    processIdentifier = child.processIdentifier
  }

  /// Starts a program.
  ///
  /// - Parameters:
  ///   - executable: a path, or a name without a slash that is looked up in `PATH`.
  ///   - arguments: what follows the program's name.
  ///   - environment: the worker's, in which the library adds one variable; `nil`: this process's.
  ///   - options: of the connection.
  ///   - loop: serves the connection, and hears of the worker's end.
  /// - Throws: ``ConnectionError/executableNotFound(_:)``, ``ConnectionError/notPermitted(path:)``,
  ///   ``ConnectionError/system(_:)``; no process was started then.
  public static func spawn(
    _ executable: String, arguments: [String] = [], environment: [String: String]? = nil,
    options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    do throws(PortError) { try options.validate() } catch { throw .invalidOption("\(error)") }
    let path = try ExecutablePath.find(executable)
    let (ours, theirs): (SharedChannel, SharedChannel)
    do throws(SystemError) {
      (ours, theirs) = try SharedChannel.makePair(options: options)
      try Handshake.sayHello(ours, options)
    } catch {
      throw .system(error)
    }
    let child = try ChildProcess.start(
      path, arguments: [executable] + arguments,
      environment: ParentSocket.environment(environment ?? ProcessEnvironment.current, socket: theirs.descriptor),
      socket: theirs.descriptor, loop: loop)
    let core = PortCore(newChannel: ours, end: 0, options: options, loop: loop)
    core.binding.withLock { $0.process = child }
    return WorkerProcess(connection: Connection(port: MessagePort(core), peer: nil), child: child)
  }

  /// How the worker ended; waits until it has.
  public var exitStatus: ExitStatus { get async { await child.exitStatus } }

  /// Whether the worker has not ended yet, as far as this process has heard.
  public var isRunning: Bool { child.knownStatus == nil }

  /// Sends a signal; without effect if the worker has ended. It can never hit another process.
  public func kill(_ signal: CInt = SIGKILL) { child.signal(signal) }
}

/// A child from its start until it was reaped. Keeps itself alive by being watched.
final class ChildProcess: LoopWatcher {
  let processIdentifier: Int32
  private let pidfd: CInt
  private let loop: EventLoop

  private struct State: Sendable {
    var token: EventLoop.Token?
    var status: ExitStatus?
    var waiting: [@Sendable (ExitStatus) -> Void] = []
  }
  private let state = Mutex(State())

  private init(processIdentifier: Int32, pidfd: CInt, loop: EventLoop) {
    self.processIdentifier = processIdentifier
    self.pidfd = pidfd
    self.loop = loop
  }

  deinit { _ = csupport_close(pidfd) }

  static func start(
    _ path: String, arguments: [String], environment: [String: String], socket: CInt, loop: EventLoop
  ) throws(ConnectionError) -> ChildProcess {
    var pid: pid_t = 0
    var pidfd: CInt = -1
    var inherited = csupport_inherited_fd(parent_fd: socket, child_fd: ParentSocket.descriptor)
    let result = unsafe withCStrings(arguments) { arguments in
      unsafe withCStrings(environment.map { "\($0.key)=\($0.value)" }) { environment in
        unsafe csupport_spawn(path, arguments, environment, &inherited, 1, &pid, &pidfd)
      }
    }
    switch -result {
    case ...0: break
    case ENOENT, ENOTDIR: throw .executableNotFound(path)
    default: throw ConnectionError(result, "posix_spawn", path: path)
    }
    let child = ChildProcess(processIdentifier: pid, pidfd: pidfd, loop: loop)
    child.state.withLock { $0.token = loop.watch(pidfd, child, events: UInt32(CSUPPORT_EVENT_IN)) }
    return child
  }

  func ready(_ events: UInt32) {
    var exit = csupport_exit()
    let result = unsafe csupport_reap(pidfd, &exit)
    if result == 0 { return }
    // An error means that somebody else has reaped it; how it ended is lost then.
    let status: ExitStatus = result < 0 ? .exited(-1) : exit.was_signalled ? .signalled(exit.code) : .exited(exit.code)
    let (token, waiting) = state.withLock { state in
      defer {
        state.status = status
        state.token = nil
        state.waiting = []
      }
      return (state.token, state.waiting)
    }
    if let token { loop.unwatch(token) }
    for body in waiting { body(status) }
  }

  var knownStatus: ExitStatus? { state.withLock { $0.status } }

  /// Calls `body` once the child was reaped: on the loop's thread, or at once.
  func whenExited(_ body: @escaping @Sendable (ExitStatus) -> Void) {
    let status = state.withLock { state in
      if state.status == nil { state.waiting.append(body) }
      return state.status
    }
    if let status { body(status) }
  }

  var exitStatus: ExitStatus {
    get async { await Resumption.suspend { resumption in whenExited { resumption.resume($0) } } }
  }

  func signal(_ signal: CInt) { _ = csupport_pidfd_signal(pidfd, signal) }
}

/// Looks programs up as a shell does.
private enum ExecutablePath {
  static func find(_ name: String) throws(ConnectionError) -> String {
    if name.utf8.contains(UInt8(ascii: "/")) { return name }
    let directories = Environment.value("PATH") ?? "/usr/local/bin:/usr/bin:/bin"
    for directory in directories.split(separator: ":") {
      let path = "\(directory)/\(name)"
      if unsafe access(path, X_OK) == 0 { return path }
    }
    throw .executableNotFound(name)
  }
}

/// Calls `body` with a null-terminated array of C strings.
private func withCStrings<Result>(
  _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
) -> Result {
  var pointers = unsafe strings.map { unsafe strdup($0) } + [nil]
  defer { unsafe pointers.forEach { unsafe free($0) } }
  return unsafe body(&pointers)
}

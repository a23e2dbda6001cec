import Glibc
import SharedRing

/// A process that this one has started, with a connection to it.
///
/// The program on the other side finds its end as ``Connection/parent``. The worker inherits the standard descriptors,
/// its end of the connection, and nothing else of this library's.
///
/// In a process that was forked off after that, the worker is none of its own: the status is unknown, and ``kill(_:)`` has
/// no effect.
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
  /// It starts with an empty signal mask, ignores the signals that this process ignores, and inherits the standard
  /// descriptors. What this process does with SIGCHLD, or with its other children, does not matter.
  ///
  /// - Parameters:
  ///   - executable: a path, or a name without a slash that is looked up in this process's `PATH` as `execvp` does.
  ///   - arguments: what follows the program's name.
  ///   - environment: the worker's, in which the library adds one variable; `nil`: this process's, byte for byte.
  ///   - options: of the connection.
  ///   - loop: serves the connection, and hears of the worker's end.
  /// - Throws: ``ConnectionError/executableNotFound(_:)``; ``ConnectionError/notPermitted(path:)`` if it was found but
  ///   may not be executed; ``ConnectionError/invalidOption(_:)`` for what no program can be given: a zero byte, a variable
  ///   without a name or with `=` in it; ``ConnectionError/system(_:)``. No program has run then.
  ///
  /// Blocks until the program has been loaded. For what is no UTF-8, see
  /// ``spawn(bytes:arguments:environment:options:loop:)``.
  public static func spawn(
    _ executable: String, arguments: [String] = [], environment: [String: String]? = nil,
    options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    let variables = environment.map { variables in
      Dictionary(uniqueKeysWithValues: variables.map { (Array($0.key.utf8), Array($0.value.utf8)) })
    }
    return try spawn(
      bytes: Array(executable.utf8), arguments: arguments.map { Array($0.utf8) }, environment: variables,
      options: options, loop: loop)
  }

  /// A program that is known without a path.
  public enum KnownProgram: Sendable, Hashable {
    /// The one that this process runs, also if its file has been replaced or removed meanwhile. The worker tells by its
    /// arguments, or by its ``Connection/parent``, what it is to do.
    case thisProgram
  }

  /// Starts a known program: ``KnownProgram/thisProgram``.
  ///
  /// As ``spawn(_:arguments:environment:options:loop:)-(String,_,_,_,_)`` in all else. Throws ``ConnectionError/executableNotFound(_:)`` where
  /// `/proc` is not mounted.
  public static func spawn(
    _ program: KnownProgram, arguments: [String] = [], environment: [String: String]? = nil,
    options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    // The process that is being started has this one's program until it has another.
    try spawn("/proc/self/exe", arguments: arguments, environment: environment, options: options, loop: loop)
  }

  /// Starts a program whose path, arguments or variables need not be UTF-8: to the kernel they are bytes.
  ///
  /// As ``spawn(_:arguments:environment:options:loop:)-(String,_,_,_,_)`` in all else.
  public static func spawn(
    bytes executable: [UInt8], arguments: [[UInt8]] = [], environment: [[UInt8]: [UInt8]]? = nil,
    options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    do throws(PortError) { try options.validate() } catch { throw .invalidOption("\(error)") }
    var program = try Program(executable, arguments: arguments, environment: environment)
    let (ours, theirs): (SharedChannel, SharedChannel)
    do throws(SystemError) {
      (ours, theirs) = try SharedChannel.makePair(options: options)
      try Handshake.sayHello(ours, options)
      program.setVariable(ParentSocket.variable, to: try ParentSocket.value(for: theirs.descriptor))
    } catch {
      throw .system(error)
    }
    let child = try ChildProcess.start(program, socket: theirs.descriptor, loop: loop)
    let core = PortCore(newChannel: ours, end: 0, options: options, loop: loop)
    core.binding.withLock { $0.process = child }
    // The socket does not tell if a child of the worker's has inherited it.
    child.whenExited { [weak core] status in core?.peerExited(status) }
    return WorkerProcess(connection: Connection(port: MessagePort(core), peer: nil), child: child)
  }

  /// How the worker ended; waits until it has.
  ///
  /// ``ExitStatus/unknown`` if nobody can know: this process has reaped the worker elsewhere (`waitpid(-1)`, or SIGCHLD
  /// ignored) on a kernel before Linux 6.15. Also if the waiting task is cancelled first; the worker runs on then.
  public var exitStatus: ExitStatus { get async { await child.exitStatus } }

  /// How the worker ended; blocks the thread until it has. For synchronous code, on any thread, also the event loop's.
  ///
  /// - Parameter timeout: how long to wait, at most some hundred years; `nil`: without limit. Zero or less: not at all.
  /// - Throws: ``PortError/timedOut``. ``PortError/closed`` in a process that was forked off after the worker was started.
  public func wait(timeout: Duration? = nil) throws(PortError) -> ExitStatus {
    if child.isInherited { throw .closed }
    let deadline = timeout.map { ContinuousClock.now + min($0, Self.longestWait) }
    guard let status = child.wait(until: deadline) else { throw .timedOut }
    return status
  }

  /// Far from the end of any clock's range.
  private static let longestWait = Duration.seconds(1 << 32)

  /// Whether the worker has not ended yet, as far as this process has heard.
  public var isRunning: Bool { child.knownStatus == nil }

  /// Sends a signal; without effect if the worker has ended. It can never hit another process.
  public func kill(_ signal: CInt = SIGKILL) { child.signal(signal) }
}

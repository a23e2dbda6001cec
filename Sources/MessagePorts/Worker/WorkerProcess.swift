import CSupport
import Glibc
import SharedRing
import Synchronization

/// A process that this one has started, with a connection to it.
///
/// The program on the other side finds its end as ``Connection/parent``. The worker inherits the standard descriptors,
/// its end of the connection, and nothing else of this library's; ``WorkerOptions`` say otherwise.
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
  /// The worker's process; of a confined worker, that of bubblewrap, which ends with it. Once the worker has ended, the system
  /// may give this number to another one.
  public let processIdentifier: Int32
  /// How the worker is confined; `nil`: not at all.
  public var confinement: GrantedConfinement? { child.sandbox?.granted }
  private let child: ChildProcess
  private let pipes: Lock<[StandardDescriptor: CInt]>
  private let greeting: Greeting

  private init(connection: Connection, child: ChildProcess, pipes: [StandardDescriptor: CInt], greeting: Greeting) {
    self.connection = connection
    self.child = child
    self.pipes = Lock(pipes)
    self.greeting = greeting
    processIdentifier = child.processIdentifier
  }

  deinit { for descriptor in pipes.withLock({ $0 }).values { _ = csupport_close(descriptor) } }

  /// Starts a program.
  ///
  /// It starts with an empty signal mask, ignores the signals that this process ignores, and inherits the standard
  /// descriptors. What this process does with SIGCHLD, or with its other children, does not matter.
  ///
  /// - Parameters:
  ///   - executable: a path, or a name without a slash that is looked up in this process's `PATH` as `execvp` does.
  ///   - arguments: what follows the program's name.
  ///   - environment: the worker's, in which the library adds one variable; `nil`: this process's, byte for byte.
  ///   - process: what the process has otherwise than this one: standard streams, directory, limits, a confinement, …
  ///   - options: of the connection.
  ///   - loop: serves the connection, and hears of the worker's end.
  /// - Throws: ``ConnectionError/executableNotFound(_:)``; ``ConnectionError/notPermitted(path:)`` if it was found but
  ///   may not be executed; ``ConnectionError/invalidOption(_:)`` for what no program can be given (a zero byte, a variable
  ///   without a name or with `=` in it) and for an option of `process` that means nothing;
  ///   ``ConnectionError/cannotOpen(path:_:)``; ``ConnectionError/confinementUnavailable(_:)``;
  ///   ``ConnectionError/system(_:)``, with the call that failed (`chdir`, `setrlimit`, …). No program has run then.
  ///
  /// Blocks until the program has been loaded, or, if it is confined, until its confinement is complete. For what is no UTF-8,
  /// see ``spawn(bytes:arguments:environment:process:options:loop:)``.
  public static func spawn(
    _ executable: String, arguments: [String] = [], environment: [String: String]? = nil,
    process: WorkerOptions = WorkerOptions(), options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    let variables = environment.map { variables in
      Dictionary(uniqueKeysWithValues: variables.map { (Array($0.key.utf8), Array($0.value.utf8)) })
    }
    return try spawn(
      bytes: Array(executable.utf8), arguments: arguments.map { Array($0.utf8) }, environment: variables,
      process: process, options: options, loop: loop)
  }

  /// A program that is known without a path.
  public enum KnownProgram: Sendable, Hashable {
    /// The one that this process runs, also if its file has been replaced or removed meanwhile (a confined worker needs the
    /// file). The worker tells by its arguments, or by its ``Connection/parent``, what it is to do.
    case thisProgram
  }

  /// Starts a known program: ``KnownProgram/thisProgram``.
  ///
  /// As ``spawn(_:arguments:environment:process:options:loop:)-(String,_,_,_,_,_)`` in all else. Throws
  /// ``ConnectionError/executableNotFound(_:)`` where `/proc` is not mounted.
  public static func spawn(
    _ program: KnownProgram, arguments: [String] = [], environment: [String: String]? = nil,
    process: WorkerOptions = WorkerOptions(), options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    // The process that is being started has this one's program until it has another.
    try spawn(
      "/proc/self/exe", arguments: arguments, environment: environment, process: process, options: options, loop: loop)
  }

  /// Starts a program whose path, arguments or variables need not be UTF-8: to the kernel they are bytes.
  ///
  /// As ``spawn(_:arguments:environment:process:options:loop:)-(String,_,_,_,_,_)`` in all else.
  public static func spawn(
    bytes executable: [UInt8], arguments: [[UInt8]] = [], environment: [[UInt8]: [UInt8]]? = nil,
    process: WorkerOptions = WorkerOptions(), options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) -> WorkerProcess {
    do throws(PortError) { try options.validate() } catch { throw .invalidOption("\(error)") }
    var program = try Program(executable, arguments: arguments, environment: environment)
    // Of a confined worker, the directory is one of its own world.
    var process = process
    let directory = process.workingDirectory
    if process.confinement != nil { process.workingDirectory = nil }
    let surroundings = try Surroundings(process)
    let ours: SharedChannel, theirs: CInt
    do throws(MemoryError) {
      (ours, theirs) = try SharedChannel.makeForNewborn(options: options)
    } catch {
      throw ConnectionError(error)
    }
    do throws(SystemError) {
      let number = surroundings.add(owning: theirs)
      try Handshake.sayHello(ours, options)
      program.setVariable(ParentSocket.variable, to: try ParentSocket.value(for: theirs, as: number))
    } catch {
      throw .system(error)
    }
    let child: ChildProcess
    if let confinement = process.confinement {
      let bubblewrap = try Bubblewrap(
        confinement, program, directory: directory, diesWithParent: process.parentDeathSignal != nil, surroundings)
      child = try ChildProcess.start(
        bubblewrap.program(program.environment), bubblewrap, surroundings, loop: loop)
    } else {
      child = try ChildProcess.start(program, surroundings, loop: loop)
    }
    let core = PortCore(newChannel: ours, end: 0, options: options, loop: loop)
    core.binding.withLock { $0.process = child }
    let greeting = Greeting(of: ours)
    // The socket does not tell if a child of the worker's has inherited it.
    child.whenExited { [weak core] status in
      _ = greeting.hasCome
      core?.peerExited(status)
    }
    return WorkerProcess(
      connection: Connection(port: MessagePort(core), peer: nil), child: child, pipes: surroundings.takePipes(),
      greeting: greeting)
  }

  /// Whether the worker has asked for its ``Connection/parent``: one that has not yet, or has ended before it came to that, or never
  /// will, has not. Known for as long as ``connection`` is open on this side, and what was known then afterwards. One system
  /// call until it is `true`.
  public var hasOpenedConnection: Bool { greeting.hasCome }

  /// This process's end of one of the worker's pipes (``StandardStream/pipe``): a descriptor that the caller closes. It is
  /// close-on-exec. `nil`: there is none, or it was taken before. What nobody takes closes with this object.
  public func takePipe(_ which: StandardDescriptor) -> CInt? {
    guard let descriptor = pipes.withLock({ $0.removeValue(forKey: which) }) else { return nil }
    csupport_give_up(descriptor)
    return descriptor
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

  /// Asks the worker to end, with SIGTERM; kills it, with SIGKILL, if it has not after `grace`. Returns how it ended.
  ///
  /// The connection stays as it is: what the worker posts while it ends arrives. If the waiting task is cancelled, this returns
  /// ``ExitStatus/unknown`` at once, and the worker is killed all the same when the time is over.
  ///
  /// - Parameter grace: how long it may take; zero or less: no time.
  public func terminate(grace: Duration) async -> ExitStatus {
    let timer = startTermination(grace)
    let status = await exitStatus
    if child.knownStatus != nil { timer?() }
    return status
  }

  /// The same for synchronous code: blocks the thread until the worker has ended.
  ///
  /// - Throws: ``PortError/closed`` in a process that was forked off after the worker was started.
  public func terminateAndWait(grace: Duration) throws(PortError) -> ExitStatus {
    if child.isInherited { throw .closed }
    kill(SIGTERM)
    do throws(PortError) { return try wait(timeout: grace) } catch { kill(SIGKILL) }
    return try wait()
  }

  /// Returns what calls the killing off.
  private func startTermination(_ grace: Duration) -> (@Sendable () -> Void)? {
    guard grace > .zero else {
      kill(SIGKILL)
      return nil
    }
    kill(SIGTERM)
    // On a loop that every process has: the worker's own may be stopped.
    let loop = EventLoop.default
    let timer = loop.after(nanoseconds: UInt64(clamping: grace.nanoseconds)) { [child] in child.signal(SIGKILL) }
    return { loop.cancel(timer) }
  }
}

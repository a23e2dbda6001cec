import CSupport
import Glibc
import SharedRing

/// A child from its start until its end is known. Keeps itself alive by being watched.
final class ChildProcess: LoopWatcher {
  let processIdentifier: Int32
  private let pidfd: CInt
  private let loop: EventLoop

  private struct State: Sendable {
    var token: EventLoop.Token?
    var status: ExitStatus?
    var waiting: [Waiter] = []
    var lastID: UInt64 = 0
  }

  private struct Waiter: Sendable {
    let id: UInt64
    let body: @Sendable (ExitStatus) -> Void
  }

  /// A forked child is not the parent of this one, and learns nothing of it.
  private let state = PerProcess(State()) { State(status: .unknown) }

  private let mark = ProcessMark.current
  /// This process was forked from the one that has started the child.
  var isInherited: Bool { mark.isInherited }

  /// The world in which it lives, if it is confined: it is that world's first child, and this process's is bubblewrap.
  let sandbox: Sandbox?

  private init(processIdentifier: Int32, pidfd: CInt, sandbox: Sandbox?, loop: EventLoop) {
    self.processIdentifier = processIdentifier
    self.pidfd = pidfd
    self.sandbox = sandbox
    self.loop = loop
  }

  deinit { _ = csupport_close(pidfd) }

  /// Starts `program`.
  static func start(
    _ program: Program, _ surroundings: Surroundings, loop: EventLoop
  ) throws(ConnectionError) -> ChildProcess {
    let newborn = try execute(program, surroundings)
    return watch(ChildProcess(processIdentifier: newborn.pid, pidfd: newborn.pidfd, sandbox: nil, loop: loop))
  }

  /// Starts what is confined by bubblewrap.
  static func start(
    _ program: Program, _ bubblewrap: consuming Bubblewrap, _ surroundings: Surroundings, loop: EventLoop
  ) throws(ConnectionError) -> ChildProcess {
    let newborn: csupport_newborn
    do throws(ConnectionError) {
      newborn = try execute(program, surroundings)
    } catch {
      if case .executableNotFound = error { throw .confinementUnavailable("bubblewrap (bwrap) is not installed") }
      throw error
    }
    do throws(ConnectionError) {
      let sandbox = try bubblewrap.finish(newborn)
      return watch(ChildProcess(processIdentifier: newborn.pid, pidfd: newborn.pidfd, sandbox: sandbox, loop: loop))
    } catch {
      end(newborn)
      throw error
    }
  }

  private static func execute(
    _ program: Program, _ surroundings: Surroundings
  ) throws(ConnectionError) -> csupport_newborn {
    var newborn = csupport_newborn()
    let result = unsafe withCStrings(program.paths) { paths in
      unsafe withCStrings(program.arguments) { arguments in
        unsafe withCStrings(program.environment) { environment in
          unsafe surroundings.withC { surroundings in
            unsafe csupport_spawn_in(
              surroundings, paths.map { unsafe UnsafePointer($0) }, arguments, environment, &newborn)
          }
        }
      }
    }
    surroundings.closeOwned()
    guard result < 0 else { return newborn }
    guard newborn.failed_step == CSUPPORT_BIRTH_PROGRAM else {
      let call = unsafe String(cString: csupport_birth_step_call(newborn.failed_step))
      throw .system(SystemError(call: call, errno: -result))
    }
    let name = String(decoding: program.arguments[0], as: UTF8.self)
    switch -result {
    case ENOENT, ENOTDIR: throw .executableNotFound(name)
    default: throw ConnectionError(result, "execve", path: name)
    }
  }

  private static func watch(_ child: ChildProcess) -> ChildProcess {
    child.state.withLock { $0.token = child.loop.watch(child.pidfd, child, events: UInt32(CSUPPORT_EVENT_IN)) }
    return child
  }

  /// Nobody is to hear of it: kills it, and waits until that is done.
  private static func end(_ newborn: csupport_newborn) {
    var exit = csupport_exit()
    _ = csupport_pidfd_signal(newborn.pidfd, SIGKILL)
    while unsafe csupport_reap(newborn.pidfd, &exit) == 0 { _ = csupport_wait_readable(newborn.pidfd, -1) }
    _ = csupport_close(newborn.pidfd)
  }

  func signal(_ signal: CInt) {
    if isInherited { return }
    if let sandbox { return sandbox.signal(signal) }
    _ = csupport_pidfd_signal(pidfd, signal)
  }

  // MARK: The end

  func ready(_ events: UInt32) { look() }

  /// Finds out whether the child has ended, and tells those who wait. On any thread.
  private func look() {
    let (status, token, waiting) = state.withLock { state in
      // Under the lock: of two who ask the kernel, one is told.
      if state.status == nil { state.status = reap() }
      guard state.status != nil else { return (ExitStatus?.none, EventLoop.Token?.none, [Waiter]()) }
      defer { state.waiting = [] }
      return (state.status, state.token.take(), state.waiting)
    }
    if let token { loop.unwatch(token) }
    // Bubblewrap may have been killed alone.
    if status != nil { sandbox?.signal(SIGKILL) }
    if let status { for waiter in waiting { waiter.body(status) } }
  }

  /// How it has ended; `nil` if it has not, or the kernel does not say yet.
  private func reap() -> ExitStatus? {
    var exit = csupport_exit()
    var result = unsafe csupport_reap(pidfd, &exit)
    // The program reaps all its children by itself, or has the kernel do so. Newer kernels remember.
    if result < 0 { result = unsafe csupport_exit_after_reaping(pidfd, &exit) }
    if result == 0 { return nil }
    let end: ExitStatus = result < 0 ? .unknown : exit.was_signalled ? .signalled(exit.code) : .exited(exit.code)
    return sandbox == nil ? end : Sandbox.status(of: end)
  }

  var knownStatus: ExitStatus? { state.withLock { $0.status } }

  /// Whether it may have begun to end: of a child that lives on, no end is to be waited for.
  var mayBeEnding: Bool { sandbox?.workerMayBeEnding ?? (csupport_process_is_ending(processIdentifier) != 0) }

  // MARK: Waiting for it

  /// Calls `body` once the child's end is known: on the loop's thread, as a rule; or at once.
  func whenExited(_ body: @escaping @Sendable (ExitStatus) -> Void) { addWaiter(makeID(), body) }

  private func makeID() -> UInt64 {
    state.withLock { state in
      state.lastID += 1
      return state.lastID
    }
  }

  private func addWaiter(_ id: UInt64, _ body: @escaping @Sendable (ExitStatus) -> Void) {
    let status = state.withLock { state in
      if state.status == nil { state.waiting.append(Waiter(id: id, body: body)) }
      return state.status
    }
    if let status { body(status) }
  }

  private func giveUp(_ id: UInt64) {
    let waiter = state.withLock { state in
      state.waiting.firstIndex { $0.id == id }.map { state.waiting.remove(at: $0) }
    }
    waiter?.body(.unknown)
  }

  /// ``ExitStatus/unknown`` if the task is cancelled before the child has ended.
  var exitStatus: ExitStatus {
    get async {
      let id = makeID()
      return await withTaskCancellationHandler {
        await Resumption.suspend { resumption in
          addWaiter(id) { resumption.resume($0) }
          // The handler may have run before there was anybody to give up.
          if Task.isCancelled { giveUp(id) }
        }
      } onCancel: {
        giveUp(id)
      }
    }
  }

  /// Waits on this thread, whatever the loop does. `nil` after the time-out.
  func wait(until deadline: ContinuousClock.Instant?) -> ExitStatus? {
    while true {
      look()
      if let status = knownStatus { return status }
      let timeout = Deadline.nanoseconds(until: deadline)
      if timeout == 0 { return nil }
      // It may have ended already, and the kernel be about to say how.
      if csupport_wait_readable(pidfd, timeout) == 1 { sched_yield() }
    }
  }
}

/// Calls `body` with C strings of these bytes, which contain no zero, and a null pointer behind the last.
private func withCStrings<Result>(
  _ strings: [[UInt8]], _ body: ([UnsafeMutablePointer<CChar>?]) -> Result
) -> Result {
  let pointers =
    unsafe strings.map { bytes in
      unsafe (bytes + [0]).withUnsafeBytes { unsafe strdup($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
    } + [nil]
  defer { unsafe pointers.forEach { unsafe free($0) } }
  return unsafe body(pointers)
}

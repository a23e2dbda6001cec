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

  private init(processIdentifier: Int32, pidfd: CInt, loop: EventLoop) {
    self.processIdentifier = processIdentifier
    self.pidfd = pidfd
    self.loop = loop
  }

  deinit { _ = csupport_close(pidfd) }

  /// Starts `program`, which finds `socket` at ``ParentSocket/descriptor``.
  static func start(_ program: Program, socket: CInt, loop: EventLoop) throws(ConnectionError) -> ChildProcess {
    var pid: pid_t = 0
    var pidfd: CInt = -1
    var inherited = csupport_inherited_fd(parent_fd: socket, child_fd: ParentSocket.descriptor)
    let result = unsafe withCStrings(program.paths) { paths in
      unsafe withCStrings(program.arguments) { arguments in
        unsafe withCStrings(program.environment) { environment in
          unsafe csupport_spawn(
            paths.map { unsafe UnsafePointer($0) }, arguments, environment, &inherited, 1, &pid, &pidfd)
        }
      }
    }
    let name = String(decoding: program.arguments[0], as: UTF8.self)
    switch -result {
    case ...0: break
    case ENOENT, ENOTDIR: throw .executableNotFound(name)
    default: throw ConnectionError(result, "execve", path: name)
    }
    let child = ChildProcess(processIdentifier: pid, pidfd: pidfd, loop: loop)
    child.state.withLock { $0.token = loop.watch(pidfd, child, events: UInt32(CSUPPORT_EVENT_IN)) }
    return child
  }

  func signal(_ signal: CInt) { if !isInherited { _ = csupport_pidfd_signal(pidfd, signal) } }

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
    if let status { for waiter in waiting { waiter.body(status) } }
  }

  /// How it has ended; `nil` if it has not, or the kernel does not say yet.
  private func reap() -> ExitStatus? {
    var exit = csupport_exit()
    var result = unsafe csupport_reap(pidfd, &exit)
    // The program reaps all its children by itself, or has the kernel do so. Newer kernels remember.
    if result < 0 { result = unsafe csupport_exit_after_reaping(pidfd, &exit) }
    if result == 0 { return nil }
    return result < 0 ? .unknown : exit.was_signalled ? .signalled(exit.code) : .exited(exit.code)
  }

  var knownStatus: ExitStatus? { state.withLock { $0.status } }

  /// Whether it may have begun to end: of a child that lives on, no end is to be waited for.
  var mayBeEnding: Bool { csupport_process_is_ending(processIdentifier) != 0 }

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

import CSupport
import DequeModule
import Glibc
import Logging
import SharedRing
import Synchronization

/// One thread that runs the handlers of any number of ports, and anything else that is given to it.
///
/// There is one by default, ``default``, which starts when it is first needed; a program may make more and say which
/// port is served by which (``MessagePort/setEventLoop(_:)``). A slow handler delays the ports of its own loop only.
/// While there is nothing to do, the thread sleeps in the kernel and costs no processor time, however many ports it
/// serves.
///
/// A loop is a Swift executor, too: an actor or task can run on it, and then a message costs one wake-up and not two.
///
/// Open ports do not keep the process alive: it ends when its main thread does. A program that has nothing else to do
/// than serve its ports awaits ``waitUntilIdle()``.
///
/// Thread safety: all members may be called from any thread.
public final class EventLoop: Sendable {
  /// The loop that serves ports unless told otherwise.
  public static let `default` = EventLoop(name: "messageports")

  /// What a loop sleeps on.
  public enum Driver: String, Sendable, Hashable, CaseIterable {
    /// io_uring, with a futex wait for each port that waits for messages. The peer wakes it with one futex call.
    case uring
    /// epoll: for systems that forbid io_uring, or kernels before 6.7. The peer wakes it with a packet on the socket.
    case epoll
  }

  /// What this loop sleeps on: the one given when it was made, else what the environment variable `MESSAGEPORTS_DRIVER`
  /// says (`uring` or `epoll`), else what the probe at start-up found to work. If the system refuses io_uring later, the
  /// loop goes over to epoll.
  public var driver: Driver { state.withLock { $0.driver } }
  /// The thread's name.
  public let name: String
  /// What the thread does before it sleeps, after it has delivered something: looking around a little longer spares the
  /// next sender a system call and the loop a wake-up.
  public let spinPolicy: SpinPolicy

  /// Identifies what the loop watches, in this process for ever.
  typealias Token = UInt64

  struct State: Sendable {
    var driver: Driver
    /// Open once the thread runs.
    var epoll: CInt = -1
    var isStarted = false
    var isStopped = false
    /// The thread sleeps, or is about to: whoever adds something has to wake it.
    var isAsleep = false
    var scheduled: [PortCore] = []
    var jobs = Deque<LoopJob>()
    var watchers: [Token: Watch] = [:]
    var lastToken: Token = 0
    /// Waits in the kernel that are of no use any more.
    var abandoned: [Token] = []
    var timers = LoopTimers()
    /// Ports that the library keeps alive: started, with a message handler, and open.
    var keptPorts: [ObjectIdentifier: PortCore] = [:]
    /// Those who wait until there are none.
    var idleWaiters: [Resumption<Void>] = []
  }

  struct Watch: Sendable {
    let fd: CInt
    let events: UInt32
    let watcher: any LoopWatcher

    /// On epoll, a port's doorbell is its socket.
    func events(_ driver: Driver) -> UInt32 {
      guard driver == .epoll, watcher is PortCore else { return events }
      return events | UInt32(CSUPPORT_EVENT_IN) | UInt32(CSUPPORT_EVENT_EDGE)
    }
  }

  let state: Mutex<State>
  let waker = LoopWaker()
  /// The thread's number, once it runs.
  private let threadID = Atomic<UInt64>(0)

  /// Makes a loop; its thread starts when it is first needed.
  ///
  /// - Parameters:
  ///   - name: for the thread; up to 15 bytes are shown by the system.
  ///   - driver: what to sleep on; `nil`: see ``driver``.
  ///   - spinPolicy: see ``spinPolicy``.
  public init(name: String, driver: Driver? = nil, spinPolicy: SpinPolicy = .adaptive) {
    self.name = name
    self.spinPolicy = spinPolicy
    state = Mutex(State(driver: LoopProbe.choose(driver)))
  }

  deinit {
    let epoll = state.withLock { $0.epoll }
    if epoll >= 0 { _ = csupport_close(epoll) }
  }

  /// Whether the caller runs on this loop's thread.
  public var isCurrent: Bool { threadID.load(ordering: .relaxed) == csupport_thread_id() }

  /// Ends the loop's thread after what it is doing now. For loops that a program has made itself; what is scheduled on it
  /// later never runs.
  ///
  /// Ports that it serves receive nothing any more until they are given to another loop (``MessagePort/setEventLoop(_:)``),
  /// and are not kept alive for their handlers: those that the program does not hold close, so that the other end hears
  /// of it.
  public func stop() {
    let (driver, hasThread) = state.withLock { state in
      state.isStopped = true
      return (state.driver, state.isStarted)
    }
    if hasThread { waker.wake(driver) } else { letGo() }
  }

  /// Gives up what nobody will ever do. The loop has no thread any more.
  private func letGo() {
    let (scheduled, jobs, timers, kept) = state.withLock { state in
      defer { (state.scheduled, state.jobs, state.timers) = ([], [], LoopTimers()) }
      return (state.scheduled, state.jobs, state.timers, state.keptPorts)
    }
    // They hold ports, which hold the loop; released here, without the lock.
    withExtendedLifetime((scheduled, jobs, timers)) {}
    for core in kept.values { core.letGo(of: self) }
  }

  /// Returns once no port of this loop is left that is started, has a message handler, and is open at both ends.
  ///
  /// For programs that do nothing but serve ports: open ports by themselves do not keep a process alive.
  public func waitUntilIdle() async {
    await Resumption.suspend { resumption in
      let isIdle = state.withLock { state in
        if !state.keptPorts.isEmpty { state.idleWaiters.append(resumption) }
        return state.keptPorts.isEmpty
      }
      if isIdle { resumption.resume(()) }
    }
  }

  /// `false`: the loop was stopped.
  func register(_ kept: KeptPort, _ core: PortCore) -> Bool {
    state.withLock { state in
      if !state.isStopped { state.keptPorts[ObjectIdentifier(kept)] = core }
      return !state.isStopped
    }
  }

  func unregister(_ kept: KeptPort) {
    // The core is released outside the lock.
    let (core, waiters) = state.withLock { state -> (PortCore?, [Resumption<Void>]) in
      let core = state.keptPorts.removeValue(forKey: ObjectIdentifier(kept))
      guard core != nil, state.keptPorts.isEmpty else { return (core, []) }
      defer { state.idleWaiters = [] }
      return (core, state.idleWaiters)
    }
    _ = consume core
    for waiter in waiters { waiter.resume(()) }
  }

  // MARK: Scheduling

  /// Gives a port a turn.
  func schedule(_ core: PortCore) {
    add { $0.scheduled.append(core) }
  }

  /// Runs `body` on the loop's thread.
  func run(_ body: @escaping @Sendable () -> Void) {
    add { $0.jobs.append(.closure(body)) }
  }

  /// A loop that was stopped takes nothing.
  func add(_ change: (inout State) -> Void) {
    let driverToWake = state.withLock { state -> Driver? in
      if state.isStopped { return nil }
      change(&state)
      if !state.isStarted { start(&state) }
      defer { state.isAsleep = false }
      return state.isAsleep ? state.driver : nil
    }
    if let driverToWake { waker.wake(driverToWake) }
  }

  /// Starts the thread. Without a descriptor or a thread for it, everything waits, and whoever adds something next tries
  /// again.
  private func start(_ state: inout State) {
    do throws(SystemError) {
      if state.epoll < 0 { state.epoll = try check("epoll_create1") { csupport_epoll_create() } }
      try waker.open()
      let loop = unsafe Unmanaged.passRetained(self)
      let result = unsafe name.withCString { name in
        unsafe csupport_thread_start(
          name, { unsafe Unmanaged<EventLoop>.fromOpaque($0!).takeRetainedValue().runThread() }, loop.toOpaque())
      }
      if result < 0 { unsafe loop.release() }
      try checkOnce("pthread_create", result)
      state.isStarted = true
      for (token, watch) in state.watchers { register(watch, token, &state) }
    } catch {
      Log.logger.error("an event loop cannot start yet: \(error)")
    }
  }

  /// How soon a descriptor that the system does not let be watched is tried again.
  private static let retryNanoseconds: UInt64 = 50_000_000

  /// `false`: for want of memory, or of the user's right to watch more, it is done later. A thread that sleeps has to be
  /// woken then, to hear of the timer.
  @discardableResult
  private func register(_ watch: Watch, _ token: Token, _ state: inout State) -> Bool {
    let result = csupport_epoll_add(state.epoll, watch.fd, watch.events(state.driver), token)
    guard result < 0, result != -EEXIST else { return true }
    Log.logger.warning("watched later: \(SystemError(call: "epoll_ctl", errno: -result))")
    _ = state.timers.add(deadline: csupport_monotonic_ns() &+ Self.retryNanoseconds) { [weak self] in
      self?.state.withLock { state in
        if let watch = state.watchers[token] { self?.register(watch, token, &state) }
      }
    }
    return false
  }

  /// Goes over to epoll: the sockets are the doorbells from now on, and every port has to say so anew. On the loop's
  /// thread.
  func fallBackToEpoll() {
    state.withLock { state in
      state.driver = .epoll
      for (token, watch) in state.watchers {
        _ = csupport_epoll_remove(state.epoll, watch.fd)
        register(watch, token, &state)
        if let core = watch.watcher as? PortCore { state.scheduled.append(core) }
      }
    }
  }

  private func runThread() {
    threadID.store(csupport_thread_id(), ordering: .relaxed)
    do {
      var runner = LoopRunner(self)
      runner.run()
    }
    letGo()
    // Another thread may get the same number.
    threadID.store(0, ordering: .relaxed)
  }

  /// Runs `body` on the loop's thread once so much time has passed. Returns what cancels it.
  @discardableResult
  func after(nanoseconds: UInt64, _ body: @escaping @Sendable () -> Void) -> LoopTimers.ID {
    let deadline = csupport_monotonic_ns() &+ nanoseconds
    var id: LoopTimers.ID = 0
    add { id = $0.timers.add(deadline: deadline, body) }
    return id
  }

  func cancel(_ timer: LoopTimers.ID) { state.withLock { $0.timers.cancel(timer) } }

  // MARK: Watching descriptors

  /// Tells `watcher` of hang-up on `fd`, and of `events` besides; for a port on epoll, also when it becomes readable.
  ///
  /// The descriptor stays with the caller, who calls ``unwatch(_:hasDoorbell:)`` before closing it.
  func watch(_ fd: CInt, _ watcher: any LoopWatcher, events: UInt32 = 0) -> Token {
    let (token, isWatched) = state.withLock { state in
      state.lastToken += 1
      let watch = Watch(fd: fd, events: events, watcher: watcher)
      state.watchers[state.lastToken] = watch
      if state.isStarted { return (state.lastToken, register(watch, state.lastToken, &state)) }
      if !state.isStopped { start(&state) }
      return (state.lastToken, true)
    }
    // A thread that sleeps hears of the new descriptor as well: there is no need to wake it.
    if !isWatched { add { _ in } }
    return token
  }

  /// Takes effect at once: nobody but the caller refers to the descriptor afterwards. A watcher that is being told
  /// something at this moment may still be told it.
  ///
  /// - Parameter hasDoorbell: a wait on a doorbell may be armed, which keeps the memory: the thread takes it down.
  func unwatch(_ token: Token, hasDoorbell: Bool = false) {
    // The watcher is released outside the lock.
    let watch = state.withLock { state in
      let watch = state.watchers.removeValue(forKey: token)
      if let watch, state.epoll >= 0 { _ = csupport_epoll_remove(state.epoll, watch.fd) }
      return watch
    }
    if watch != nil, hasDoorbell { add { $0.abandoned.append(token) } }
  }

  func watcher(_ token: Token) -> (any LoopWatcher)? { state.withLock { $0.watchers[token]?.watcher } }
}

/// Who wants to know of events on a descriptor. Called on the loop's thread.
protocol LoopWatcher: AnyObject, Sendable {
  func ready(_ events: UInt32)
}

/// What else runs on a loop.
enum LoopJob: Sendable {
  case closure(@Sendable () -> Void)
  case job(UnownedJob)
}

// MARK: - Executor

extension EventLoop: SerialExecutor, TaskExecutor {
  /// Runs a task's next step on this loop. Thread-safe; one system call, and only if the loop sleeps.
  public func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    add { $0.jobs.append(.job(job)) }
  }

  public func isIsolatingCurrentContext() -> Bool? { isCurrent }

  public func checkIsolated() { precondition(isCurrent, "not on the event loop \(name)") }

  func perform(_ job: LoopJob) {
    switch job {
    case .closure(let body): body()
    case .job(let job): unsafe job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
    }
  }
}

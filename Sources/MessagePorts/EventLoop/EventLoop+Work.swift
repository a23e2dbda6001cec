import CSupport
import Glibc
import SharedRing

extension EventLoop {
  /// Gives a client a turn.
  func schedule(_ client: any LoopClient) {
    add { $0.scheduled.append(client) }
  }

  /// Runs `body` on the loop's thread.
  func run(_ body: @escaping @Sendable () -> Void) {
    add { $0.jobs.append(.closure(body)) }
  }

  /// Runs `body` on the loop's thread after this time, unless it is cancelled.
  @discardableResult
  func after(nanoseconds: UInt64, _ body: @escaping @Sendable () -> Void) -> LoopTimers.ID {
    let deadline = Self.deadline(in: nanoseconds)
    var id: LoopTimers.ID = 0
    add { id = $0.timers.add(deadline: deadline, body) }
    return id
  }

  func cancel(_ timer: LoopTimers.ID) {
    // What the timer holds is released without the lock.
    let body = state.withLock { $0.timers.cancel(timer) }
    _ = consume body
  }

  /// A time that the clock never reaches, if it has no room for the sum.
  static func deadline(in nanoseconds: UInt64) -> UInt64 { Deadline.time(nanoseconds, after: csupport_monotonic_ns()) }

  /// Changes the inbox, and wakes the thread. `false`: the loop was stopped, and takes nothing.
  @discardableResult
  func add(_ change: (inout LoopState) -> Void) -> Bool {
    var sleeper: (any LoopDriver)?
    var problem: StartProblem?
    let isTaken = state.withLock { state in
      guard state.takesWork else { return false }
      change(&state)
      sleeper = state.endSleep()
      if case .unstarted = state.life { problem = startIfPossible(&state) }
      return true
    }
    sleeper?.wake()
    if let problem { complain(problem) }
    return isTaken
  }

  // MARK: The thread

  /// Starts the thread, in its place.
  func start(_ state: inout LoopState) throws(EventLoopError) { try start(&state, in: placement) }

  private func start(_ state: inout LoopState, in placement: Placement?) throws(EventLoopError) {
    let loop = unsafe Unmanaged.passRetained(self)
    let body: @convention(c) (UnsafeMutableRawPointer?) -> Void = {
      unsafe Unmanaged<EventLoop>.fromOpaque($0!).takeRetainedValue().runThread()
    }
    let refusal = unsafe name.withCString { name -> EventLoopError? in
      if let placement { return unsafe placement.startThread(name, body, loop.toOpaque()) }
      let result = unsafe csupport_thread_start(name, body, loop.toOpaque())
      return result < 0 ? .system(SystemError(call: "pthread_create", errno: -result)) : nil
    }
    if let refusal {
      unsafe loop.release()
      throw refusal
    }
    // Here and now, if possible, so that nobody takes the last descriptors before the thread runs.
    state.life = .starting(try? EpollDriver(of: self))
    ProcessEnd.add(self)
  }

  /// What went wrong when a thread was to start, for people.
  enum StartProblem: Sendable {
    /// There is none to be had: everything waits until somebody adds something, and tries again.
    case noThread(EventLoopError)
    /// It may not be placed as it was where the loop was made: in a process that was forked off, which may have fewer privileges.
    case notPlaced(EventLoopError)
    /// The thread has nothing to sleep on yet.
    case noDescriptors(SystemError)
  }

  func startIfPossible(_ state: inout LoopState) -> StartProblem? {
    do throws(EventLoopError) {
      try start(&state)
      return nil
    } catch {
      if placement == nil { return .noThread(error) }
      do throws(EventLoopError) {
        try start(&state, in: nil)
        return .notPlaced(error)
      } catch {
        return .noThread(error)
      }
    }
  }

  func complain(_ problem: StartProblem) {
    switch problem {
    case .noThread(let error): Log.logger.error("an event loop cannot start yet: \(error)")
    case .noDescriptors(let error): Log.logger.error("an event loop cannot start yet: \(error)")
    case .notPlaced(let error): Log.logger.error("an event loop is not where it was to be: \(error)")
    }
  }

  private func runThread() {
    threadID.store(csupport_thread_id(), ordering: .relaxed)
    if let driver = openDriver() {
      var runner = LoopRunner(self, driver)
      runner.run()
      runner.end()
    }
    letGo()
    // Another thread may get the same number.
    threadID.store(0, ordering: .relaxed)
  }

  /// How soon a thread without descriptors asks for them again.
  private static let patienceMicroseconds: UInt32 = 10_000

  /// Opens what the thread sleeps on. Until there are descriptors for that, the thread simply tries again and again.
  /// `nil`: the loop was stopped meanwhile.
  private func openDriver() -> (any LoopDriver)? {
    var hasComplained = false
    while true {
      do throws(SystemError) {
        let epoll = if let opened = epollOpenedAtStart { opened } else { try EpollDriver(of: self) }
        let driver = DriverChoice.open(requestedDriver, on: epoll)
        return begin(driver) ? driver : nil
      } catch {
        if !hasComplained { complain(.noDescriptors(error)) }
        hasComplained = true
      }
      guard state.withLock({ $0.takesWork }) else { return nil }
      usleep(Self.patienceMicroseconds)
    }
  }

  private var epollOpenedAtStart: EpollDriver? {
    state.withLock { if case .starting(let epoll) = $0.life { epoll } else { nil } }
  }

  /// `false`: the loop was stopped.
  private func begin(_ driver: any LoopDriver) -> Bool {
    let (mayBegin, problems) = state.withLock { state -> (Bool, [SystemError]) in
      guard case .starting = state.life else { return (false, []) }
      state.life = .awake(driver)
      state.lastDriver = driver.kind
      return (true, state.watches.compactMap { token, watch in register(watch, token, &state) })
    }
    report(problems)
    return mayBegin
  }

  /// Goes over to another driver. The doorbells may be elsewhere from now on (on the sockets, say), so every client has
  /// to announce itself anew. On the loop's thread.
  func goOver(to driver: any LoopDriver) {
    let problems = state.withLock { state -> [SystemError] in
      state.life = state.takesWork ? .awake(driver) : .stopping(driver)
      state.lastDriver = driver.kind
      return state.watches.compactMap { token, watch in
        if case .client(let client) = watch.watcher { state.scheduled.append(client) }
        driver.unwatch(watch.fd)
        return register(watch, token, &state)
      }
    }
    report(problems)
  }

  /// Gives up what nobody will ever do, and passes on what others wait for. The loop no longer has a thread.
  func letGo() {
    let (scheduled, jobs, timers, kept, driver, watches) = state.withLock { state in
      defer {
        (state.scheduled, state.jobs, state.timers) = ([], [], LoopTimers())
        state.life = .stopped
      }
      return (state.scheduled, state.jobs, state.timers, state.kept, state.driver, Array(state.watches.values))
    }
    hasEnded.store(true, ordering: .relaxed)
    for job in jobs {
      switch job {
      case .job, .task: passOn(job)
      case .closure: break
      }
    }
    // They hold ports, which hold the loop; released here, without the lock.
    withExtendedLifetime((scheduled, jobs, timers, driver)) {}
    for client in kept.values { client.letGo(of: self) }
    // Threads that wait for what this loop would have heard have to listen themselves.
    for watch in watches { watch.watcher.loopHasEnded() }
  }
}

import CSupport
import Glibc
import SharedRing

extension EventLoop {
  /// Tells `watcher` of hang-up on `fd`, and of `events` besides.
  ///
  /// The descriptor stays with the caller, who calls ``unwatch(_:hasDoorbell:)`` before closing it.
  func watch(_ fd: CInt, _ watcher: any LoopWatcher, events: UInt32 = 0) -> Token {
    watch(LoopWatch(fd: fd, events: events, watcher: .watcher(watcher)))
  }

  /// Tells `client` of hang-up on its socket; where the driver rings on sockets, also of rings.
  func watch(_ fd: CInt, client: any LoopClient) -> Token {
    watch(LoopWatch(fd: fd, events: 0, watcher: .client(client)))
  }

  private func watch(_ watch: LoopWatch) -> Token {
    let (token, problems, startProblem) = state.withLock { state -> (Token, [SystemError], SystemError?) in
      state.lastToken += 1
      state.watches[state.lastToken] = watch
      var startProblem: SystemError?
      if case .unstarted = state.life { startProblem = start(&state) }
      return (state.lastToken, register(watch, state.lastToken, &state).map { [$0] } ?? [], startProblem)
    }
    if let startProblem { complain(startProblem) }
    report(problems)
    // A thread that sleeps hears of the new descriptor as well. But it has to be told of the timer that tries again.
    if !problems.isEmpty { add { _ in } }
    return token
  }

  /// Takes effect at once: nobody but the caller refers to the descriptor afterwards. A watcher that is being told
  /// something at this moment may still be told it.
  ///
  /// - Parameter hasDoorbell: a wait on a doorbell may be armed, which keeps the memory: the thread takes it down.
  func unwatch(_ token: Token, hasDoorbell: Bool = false) {
    // The watcher is released outside the lock.
    let watch = state.withLock { state in
      let watch = state.watches.removeValue(forKey: token)
      if let watch { state.driver?.unwatch(watch.fd) }
      return watch
    }
    if watch != nil, hasDoorbell { add { $0.abandoned.append(token) } }
  }

  func watcher(_ token: Token) -> LoopWatch.Watcher? { state.withLock { $0.watches[token]?.watcher } }

  /// How soon a descriptor that the system does not let be watched is tried again.
  private static let retryNanoseconds: UInt64 = 50_000_000

  /// Lets the driver watch a descriptor, if there is one already. If the system refuses, because memory lacks, or the
  /// user's right to watch more, it is done later, and the reason is returned.
  func register(_ watch: LoopWatch, _ token: Token, _ state: inout LoopState) -> SystemError? {
    guard let driver = state.driver else { return nil }
    let result = driver.watch(watch.fd, events: watch.events, isClient: watch.isClient, token)
    guard result < 0, result != -EEXIST else { return nil }
    _ = state.timers.add(deadline: Self.deadline(in: Self.retryNanoseconds)) { [weak self] in
      guard let self else { return }
      let problem = self.state.withLock { state in
        state.watches[token].flatMap { self.register($0, token, &state) }
      }
      if let problem { report([problem]) }
    }
    return SystemError(call: "epoll_ctl", errno: -result)
  }

  func report(_ problems: [SystemError]) {
    for problem in problems { Log.logger.warning("watched later: \(problem)") }
  }
}

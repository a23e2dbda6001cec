import CSupport
import Glibc
import SharedRing

extension EventLoop {
  /// Tells `watcher` of a hang-up on `fd`, and of `events` besides.
  ///
  /// The descriptor remains the caller's, who calls ``unwatch(_:hasDoorbell:)`` before closing it.
  func watch(_ fd: CInt, _ watcher: any LoopWatcher, events: UInt32 = 0) -> Token {
    watch(LoopWatch(fd: fd, events: events, watcher: .watcher(watcher)))
  }

  /// Tells `client` of hang-up on its socket, and of packets: the first report may be of some that were there before.
  func watch(_ fd: CInt, client: any LoopClient) -> Token {
    watch(LoopWatch(fd: fd, events: 0, watcher: .client(client)))
  }

  private func watch(_ watch: LoopWatch) -> Token {
    let (token, problems, startProblem) = state.withLock { state -> (Token, [SystemError], StartProblem?) in
      state.lastToken += 1
      state.watches[state.lastToken] = watch
      var startProblem: StartProblem?
      if case .unstarted = state.life { startProblem = startIfPossible(&state) }
      return (state.lastToken, register(watch, state.lastToken, &state).map { [$0] } ?? [], startProblem)
    }
    if let startProblem { complain(startProblem) }
    report(problems)
    // A sleeping thread hears of the new descriptor. But somebody has to tell it of the timer that tries again.
    if !problems.isEmpty { add { _ in } }
    return token
  }

  /// Takes effect at once: afterwards nobody but the caller refers to the descriptor. A call to the watcher that has
  /// begun goes on.
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

  /// How soon the loop tries again to watch a descriptor if the system has refused.
  private static let retryNanoseconds: UInt64 = 50_000_000

  /// Makes the driver watch a descriptor, if there is a driver already. If the system refuses (no memory, or the user
  /// may watch no more), this is done later, and the reason is returned.
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

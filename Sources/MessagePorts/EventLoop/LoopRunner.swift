import CSupport
import DequeModule
import Logging
import SharedRing

/// What an event loop's thread does. Belongs to that thread.
struct LoopRunner {
  private let loop: EventLoop
  private var driver: any LoopDriver
  /// Ports whose turn it is, in order.
  private var ready = Deque<PortCore>()
  /// Ports that have just run dry: looked at for a moment longer before their doorbells are armed, which costs the
  /// peer a system call for its next message.
  private var hot: [PortCore] = []
  private var jobs = Deque<LoopJob>()
  private var events: [LoopEvent] = []
  private var spin: LoopSpin
  /// How often there was something to do again instead of going to sleep.
  private var timesBusyAgain: UInt32 = 0

  init(_ loop: EventLoop) {
    self.loop = loop
    spin = LoopSpin(loop.spinPolicy)
    let (wanted, epoll) = loop.state.withLock { ($0.driver, $0.epoll) }
    let epollDriver = EpollDriver(epoll: epoll, waker: loop.waker)
    // Registered in any case: should io_uring be refused later, there is still epoll.
    _ = csupport_epoll_add(epoll, loop.waker.descriptor, UInt32(CSUPPORT_EVENT_IN), 0)
    if wanted == .uring, let uring = UringDriver(epollDriver, epoll: epoll, waker: loop.waker) {
      driver = uring
    } else {
      driver = epollDriver
      if wanted == .uring { loop.fallBackToEpoll() }
    }
  }

  /// How many events a port may have before the others get their turn.
  private static let turnBudget = 64
  /// How many ports are looked at in each round of a busy loop.
  private static let mostHot = 32
  /// How soon a port that lacked resources tries again.
  private static let retryNanoseconds: UInt64 = 10_000_000

  mutating func run() {
    while true {
      guard takeFromInbox() else { return }
      runTurns()
      runJobs()
      if ready.isEmpty && jobs.isEmpty && inboxIsEmpty {
        spinOnHot()
        if ready.isEmpty { sleep() }
        // A port that always has something just before the loop would sleep must not keep the others' events from it.
        if !ready.isEmpty {
          timesBusyAgain &+= 1
          if timesBusyAgain % 16 == 0 { collect(sleepingSince: nil) }
        }
      } else {
        lookAtHot()
        collect(sleepingSince: nil)
      }
    }
  }

  /// While others keep the loop from sleeping, ports that have just run dry get their turn as well. A few are looked at
  /// in each round, which costs their peers nothing; if there are many, their doorbells are armed.
  private mutating func lookAtHot() {
    guard hot.count <= Self.mostHot else { return armHot() }
    var claimed: [PortCore] = []
    hot.removeAll { core in
      guard core.claimTurnIfReady() else { return false }
      claimed.append(core)
      return true
    }
    ready.append(contentsOf: claimed)
  }

  private var inboxIsEmpty: Bool {
    loop.state.withLock { $0.scheduled.isEmpty && $0.jobs.isEmpty && $0.abandoned.isEmpty && !$0.isStopped }
  }

  /// `false`: the loop was stopped.
  private mutating func takeFromInbox() -> Bool {
    var scheduled: [PortCore] = []
    var added = Deque<LoopJob>()
    var abandoned: [EventLoop.Token] = []
    var due: [@Sendable () -> Void] = []
    let isStopped = loop.state.withLock { state in
      if state.timers.nextDeadline != nil { due = state.timers.takeDue(now: csupport_monotonic_ns()) }
      swap(&scheduled, &state.scheduled)
      swap(&added, &state.jobs)
      swap(&abandoned, &state.abandoned)
      return state.isStopped
    }
    ready.append(contentsOf: scheduled)
    if jobs.isEmpty { jobs = added } else { jobs.append(contentsOf: added) }
    jobs.append(contentsOf: due.lazy.map { .closure($0) })
    for token in abandoned { driver.disarm(token) }
    return !isStopped
  }

  /// One turn for each port that is ready now; those that have more to do get another one after all the others.
  private mutating func runTurns() {
    for _ in 0..<ready.count {
      let core = ready.removeFirst()
      switch core.turn(budget: Self.turnBudget, on: loop) {
      case .more: ready.append(core)
      case .wait: hot.append(core)
      case .idle: break
      // For want of resources; there may be some again soon.
      case .blocked: loop.after(nanoseconds: Self.retryNanoseconds) { core.loop.schedule(core) }
      }
      prepareSpace(core)
    }
  }

  private mutating func runJobs() {
    for _ in 0..<jobs.count { loop.perform(jobs.removeFirst()) }
  }

  private mutating func prepareSpace(_ core: PortCore) {
    switch core.spaceTurn(driver.doorbell, on: loop) {
    case .notNeeded: break
    case .hasWork: ready.append(core)
    case .ready(let word, let memory):
      if let token = core.tokenForDoorbell(on: loop) { unsafe driver.arm(.space, token, word, in: memory) }
    }
  }

  // MARK: Sleeping

  private mutating func spinOnHot() {
    guard !hot.isEmpty, let remaining = spin.begin() else { return }
    while remaining.goesOn() {
      for core in hot where core.claimTurnIfReady() { ready.append(core) }
      if !ready.isEmpty || !inboxIsEmpty {
        spin.succeeded()
        // The others stay hot: they are armed before the loop sleeps.
        hot.removeAll { core in ready.contains { $0 === core } }
        return
      }
    }
    spin.failed()
  }

  private mutating func armHot() {
    for core in hot {
      switch core.prepareToSleep(driver.doorbell, on: loop) {
      case .notNeeded: break
      case .hasWork: ready.append(core)
      case .ready(let word, let memory):
        if let token = core.tokenForDoorbell(on: loop) { unsafe driver.arm(.message, token, word, in: memory) }
      }
    }
    hot.removeAll(keepingCapacity: true)
  }

  private mutating func sleep() {
    armHot()
    guard ready.isEmpty else { return }
    let ticket = loop.waker.count
    let maySleep = loop.state.withLock { state in
      guard state.scheduled.isEmpty, state.jobs.isEmpty, state.abandoned.isEmpty, !state.isStopped else { return false }
      state.isAsleep = true
      return true
    }
    collect(sleepingSince: maySleep ? ticket : nil)
    loop.state.withLock { $0.isAsleep = false }
  }

  /// -1: there is none.
  private var nanosecondsToNextTimer: Int64 {
    guard let deadline = loop.state.withLock({ $0.timers.nextDeadline }) else { return -1 }
    let now = csupport_monotonic_ns()
    return deadline <= now ? 0 : Int64(clamping: deadline - now)
  }

  private mutating func collect(sleepingSince ticket: UInt32?) {
    events.removeAll(keepingCapacity: true)
    if !driver.collect(sleepingSince: ticket, timeoutNanoseconds: nanosecondsToNextTimer, into: &events) {
      Log.logger.notice("event loop goes over to epoll: io_uring is refused")
      driver = EpollDriver(epoll: loop.state.withLock { $0.epoll }, waker: loop.waker)
      loop.fallBackToEpoll()
    }
    for event in events {
      switch event {
      case .message(let token), .space(let token):
        if let core = loop.watcher(token) as? PortCore { ready.append(core) }
      case .descriptor(let token, let events): loop.watcher(token)?.ready(events)
      }
    }
  }
}

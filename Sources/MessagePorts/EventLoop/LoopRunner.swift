import CSupport
import DequeModule
import SharedRing

/// What an event loop's thread does. Belongs to that thread.
struct LoopRunner {
  private let loop: EventLoop
  private var driver: any LoopDriver
  /// Ports whose turn it is, in order.
  private var ready = Deque<any LoopClient>()
  /// Ports that have just run dry: looked at for a moment longer before their doorbells are armed, which costs the
  /// peer a system call for its next message.
  private var hot: [any LoopClient] = []
  private var jobs = Deque<LoopJob>()
  private var events: [LoopEvent] = []
  private var spin: LoopSpin
  /// Ports that lacked resources, and when they try again.
  private var blocked: [ObjectIdentifier: any LoopClient] = [:]
  private var retryDeadline = UInt64.max
  /// How often there was something to do again instead of going to sleep.
  private var timesBusyAgain: UInt32 = 0

  init(_ loop: EventLoop, _ driver: any LoopDriver) {
    self.loop = loop
    self.driver = driver
    spin = LoopSpin(loop.spinPolicy)
  }

  /// How many events a port may have before the others get their turn.
  private static let turnBudget = 64
  /// How many ports are looked at in each round of a busy loop, and of one that spins.
  private static let mostHot = 32
  private static let mostSpunOn = 4096
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
    claimHot()
  }

  /// Gives a turn to those hot ports that have something; the others stay hot.
  private mutating func claimHot() {
    var claimed: [any LoopClient] = []
    hot.removeAll { client in
      guard client.claimTurnIfReady() else { return false }
      claimed.append(client)
      return true
    }
    ready.append(contentsOf: claimed)
  }

  private var inboxIsEmpty: Bool { loop.state.withLock { $0.mayWait } }

  /// `false`: the loop was stopped.
  private mutating func takeFromInbox() -> Bool {
    var scheduled: [any LoopClient] = []
    var added = Deque<LoopJob>()
    var abandoned: [EventLoop.Token] = []
    var due: [@Sendable () -> Void] = []
    let goesOn = loop.state.withLock { state in
      // What waits in the inbox is not the runner's any more.
      guard state.takesWork else { return false }
      if state.timers.nextDeadline != nil { due = state.timers.takeDue(now: csupport_monotonic_ns()) }
      swap(&scheduled, &state.scheduled)
      swap(&added, &state.jobs)
      swap(&abandoned, &state.abandoned)
      return true
    }
    if retryDeadline != .max, retryDeadline <= csupport_monotonic_ns() {
      ready.append(contentsOf: blocked.values)
      blocked.removeAll(keepingCapacity: true)
      retryDeadline = .max
    }
    ready.append(contentsOf: scheduled)
    if jobs.isEmpty { jobs = added } else { jobs.append(contentsOf: added) }
    jobs.append(contentsOf: due.lazy.map { .closure($0) })
    for token in abandoned { driver.disarm(token) }
    return goesOn
  }

  /// One turn for each port that is ready now; those that have more to do get another one after all the others.
  private mutating func runTurns() {
    for _ in 0..<ready.count {
      let client = ready.removeFirst()
      switch client.turn(budget: Self.turnBudget, on: loop) {
      case .more: ready.append(client)
      case .wait: hot.append(client)
      case .idle: break
      case .blocked:
        if blocked.isEmpty { retryDeadline = EventLoop.deadline(in: Self.retryNanoseconds) }
        blocked[ObjectIdentifier(client)] = client
      }
      prepareSpace(client)
    }
  }

  private mutating func runJobs() {
    for _ in 0..<jobs.count { loop.perform(jobs.removeFirst()) }
  }

  private mutating func prepareSpace(_ client: any LoopClient) {
    switch client.spaceTurn(driver.doorbell, on: loop) {
    case .notNeeded: break
    case .hasWork: ready.append(client)
    case .ready(let word, let memory):
      if let token = client.tokenForDoorbell(on: loop) { unsafe driver.arm(.space, token, word, in: memory) }
    }
  }

  // MARK: Sleeping

  /// Waits for the hot ports by looking at them, and hears meanwhile all that a loop hears asleep.
  private mutating func spinOnHot() {
    guard !hot.isEmpty, hot.count <= Self.mostSpunOn, var remaining = spin.begin() else { return }
    while remaining.goesOn() {
      claimHot()
      if remaining.isVisitDue() { collect(sleepingSince: nil) }
      // The others stay hot: they are armed before the loop sleeps.
      if !ready.isEmpty || !inboxIsEmpty { return spin.succeeded() }
      if let deadline = nextDeadline, deadline <= remaining.now { return }
    }
    spin.failed()
  }

  private mutating func armHot() {
    for client in hot {
      switch client.prepareToSleep(driver.doorbell, on: loop) {
      case .notNeeded: break
      case .hasWork: ready.append(client)
      case .ready(let word, let memory):
        if let token = client.tokenForDoorbell(on: loop) { unsafe driver.arm(.message, token, word, in: memory) }
      }
    }
    hot.removeAll(keepingCapacity: true)
  }

  private mutating func sleep() {
    armHot()
    guard ready.isEmpty else { return }
    let ticket = driver.ticket
    let maySleep = loop.state.withLock { state in
      guard state.mayWait else { return false }
      state.life = .asleep(driver)
      return true
    }
    collect(sleepingSince: maySleep ? ticket : nil)
    _ = loop.state.withLock { $0.endSleep() }
  }

  private var nextDeadline: UInt64? {
    let timer = loop.state.withLock { $0.timers.nextDeadline }
    return retryDeadline == .max ? timer : min(timer ?? .max, retryDeadline)
  }

  /// -1: there is none.
  private var nanosecondsToNextTimer: Int64 {
    guard let deadline = nextDeadline else { return -1 }
    let now = csupport_monotonic_ns()
    return deadline <= now ? 0 : Int64(clamping: deadline - now)
  }

  private mutating func collect(sleepingSince ticket: UInt32?) {
    events.removeAll(keepingCapacity: true)
    let successor = driver.collect(
      sleepingSince: ticket, timeoutNanoseconds: ticket == nil ? 0 : nanosecondsToNextTimer, into: &events)
    if let successor {
      driver = successor
      loop.goOver(to: successor)
    }
    for event in events {
      switch event {
      case .message(let token), .space(let token):
        if case .client(let client) = loop.watcher(token) { ready.append(client) }
      case .descriptor(let token, let events):
        switch loop.watcher(token) {
        case .client(let client): client.ready(events)
        case .watcher(let watcher): watcher.ready(events)
        case nil: break
        }
      }
    }
  }
}

import CSupport
import DequeModule
import SharedRing

/// What an event loop's thread does. It belongs to that thread.
struct LoopRunner {
  private let loop: EventLoop
  private var driver: any LoopDriver
  /// Ports for which something has come just now: they are served first.
  private var woken = Deque<any LoopClient>()
  /// Others whose turn it is, in order: that go on, begin, or end. In each round, they have a share of the time.
  private var ready = Deque<any LoopClient>()
  /// Ports that took more than a port's share in their last turn. One of them has a turn after each round of the others.
  private var greedy = Deque<any LoopClient>()
  /// Ports that have just run dry: looked at for a moment longer before their doorbells are armed, which costs the
  /// peer a system call for its next message.
  private var hot: [any LoopClient] = []
  private var jobs = Deque<LoopJob>()
  private var events: [LoopEvent] = []
  /// The wait that is under way.
  private var spin: Spin?
  private var learnedSpin = Spin.first
  /// Ports for which resources ran out, and when they try again.
  private var blocked: [ObjectIdentifier: any LoopClient] = [:]
  private var retryDeadline = UInt64.max
  /// When a loop that is busy asks the kernel again.
  private var nextVisit: UInt64 = 0
  /// How often there was more to do just before the loop would have slept.
  private var timesBusyAgain: UInt32 = 0

  /// Tells this one's notes from those of others.
  private let number = LoopStanding.nextLoop()

  init(_ loop: EventLoop, _ driver: any LoopDriver) {
    self.loop = loop
    self.driver = driver
  }

  /// How many events a port may have before the others get their turn.
  private static let turnBudget = 64
  /// At how many hot ports a busy loop looks in each round, and one that spins.
  private static let mostHot = 32
  private static let mostSpunOn = 4096
  /// How long, in each round, the ports may take that nothing has come for just now.
  private static let shareNanoseconds: UInt64 = 1_000_000
  /// How soon a port for which resources ran out tries again.
  private static let retryNanoseconds: UInt64 = 10_000_000

  mutating func run() {
    let process = ProcessMark.current
    while true {
      // Handlers and tasks are followed by such a look at once; this is for what else may run code of the program's.
      process.endProcessIfInherited()
      guard takeFromInbox() else { return }
      runTurns()
      let mayWait = takeJobs()
      let hasRunJobs = runJobs()
      if !hasTurns && jobs.isEmpty && (hasRunJobs ? inboxIsEmpty : mayWait) {
        spinOnHot()
        if !hasTurns { sleep() }
        if let learned = spin.take()?.ended() { learnedSpin = learned }
        // A port that always has something just before the loop would sleep must not make it deaf to the others.
        if hasTurns {
          timesBusyAgain &+= 1
          if timesBusyAgain % 16 == 0 { collect(sleepingSince: nil) }
        }
      } else {
        lookAtHot()
        collectIfDue()
      }
    }
  }

  /// Nothing is looked at any more.
  func end() { driver.stopLookingOut() }

  /// While others keep the loop from sleeping, ports that have just run dry get their turn as well. If they are few,
  /// the loop looks at them in each round, which costs their peers nothing; if they are many, it arms their doorbells.
  private mutating func lookAtHot() {
    guard hot.count <= Self.mostHot else { return armHot() }
    claimHot()
  }

  /// Gives a turn to the hot ports that have something; the others stay hot.
  private mutating func claimHot() {
    var index = 0
    while index < hot.count {
      guard hot[index].claimTurnIfReady() else {
        index += 1
        continue
      }
      hot.swapAt(index, hot.count - 1)
      wake(hot.removeLast())
    }
  }

  private var inboxIsEmpty: Bool { loop.state.withLock { $0.mayWait } }

  /// `false`: the loop was stopped.
  private mutating func takeFromInbox() -> Bool {
    var scheduled: [any LoopClient] = []
    var added = Deque<LoopJob>()
    var abandoned: [EventLoop.Token] = []
    var due: [@Sendable () -> Void] = []
    let goesOn = loop.state.withLock { state in
      // What waits in the inbox is no longer the runner's.
      guard state.takesWork else { return false }
      // As in most rounds of a loop that is busy with ports.
      if state.isQuiet { return true }
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

  /// Tasks that the turns have woken go on at once, and not only after a look at the kernel. Returns whether nothing is left.
  private mutating func takeJobs() -> Bool {
    loop.state.withLock { state in
      // What waits when the loop is stopped is passed on.
      guard !state.jobs.isEmpty, state.takesWork else { return state.mayWait }
      if jobs.isEmpty { swap(&jobs, &state.jobs) } else { while let job = state.jobs.popFirst() { jobs.append(job) } }
      return state.mayWait
    }
  }

  private var hasTurns: Bool { !(woken.isEmpty && ready.isEmpty && greedy.isEmpty) }

  /// Something has come for a port. One that has shown to be greedy waits among its like, however often it is rung.
  private mutating func wake(_ client: any LoopClient) {
    switch standing(of: client) {
    case .fair: woken.append(client)
    case .paroled:
      note(.waiting, of: client)
      greedy.append(client)
    // It is there.
    case .greedy, .waiting: break
    }
  }

  /// One turn for each port that was woken, for the others as far as their share of the time goes, and for a greedy one. So a
  /// port waits for whatever others can do in a share and a greedy turn, and not for as many as there are.
  private mutating func runTurns() {
    let greedyOne = greedy.popFirst()
    for _ in 0..<woken.count { runTurnUnlessGreedy(woken.removeFirst()) }
    let end = ready.count > 1 ? csupport_monotonic_ns() + Self.shareNanoseconds : 0
    for _ in 0..<ready.count {
      runTurnUnlessGreedy(ready.removeFirst())
      if end > 0, csupport_monotonic_ns() > end { break }
    }
    if let greedyOne { runTurn(of: greedyOne) }
  }

  /// Its turn among the greedy ones, if it waits there, is as good.
  private mutating func runTurnUnlessGreedy(_ client: any LoopClient) {
    if !standing(of: client).waitsAmongGreedy { runTurn(of: client) }
  }

  private func standing(of client: any LoopClient) -> LoopStanding { LoopStanding(note: client.loopNote, of: number) }

  private func note(_ standing: LoopStanding, of client: any LoopClient) { client.loopNote = standing.note(of: number) }

  private mutating func runTurn(of client: any LoopClient) {
    let result = client.turn(budget: Self.turnBudget, on: loop)
    let before = standing(of: client), after = before.after(result)
    if after != before { note(after, of: client) }
    switch result {
    case .more: ready.append(client)
    case .spent: greedy.append(client)
    case .wait: hot.append(client)
    case .idle: break
    case .blocked: retryLater(client)
    }
    prepareSpace(client)
  }

  private mutating func retryLater(_ client: any LoopClient) {
    if blocked.isEmpty { retryDeadline = EventLoop.deadline(in: Self.retryNanoseconds) }
    blocked[ObjectIdentifier(client)] = client
  }

  /// Whether there were any.
  private mutating func runJobs() -> Bool {
    let count = jobs.count
    for _ in 0..<count { loop.perform(jobs.removeFirst()) }
    return count > 0
  }

  private mutating func prepareSpace(_ client: any LoopClient) {
    switch client.spaceTurn(driver.doorbell, on: loop) {
    case .notNeeded: break
    case .hasWork: ready.append(client)
    case .mustPoll: retryLater(client)
    case .ready(let word, let memory):
      if let token = client.tokenForDoorbell(on: loop) { unsafe driver.arm(.space, token, word, in: memory) }
    }
  }

  // MARK: Sleeping

  /// Waits for the hot ports by looking at them, and meanwhile hears whatever a sleeping loop hears.
  private mutating func spinOnHot() {
    guard !hot.isEmpty, hot.count <= Self.mostSpunOn else { return }
    var spin = Spin(loop.spinPolicy, learned: learnedSpin)
    defer { self.spin = spin }
    while spin.goesOn() {
      claimHot()
      if spin.isVisitDue() { collect(sleepingSince: nil) }
      // The others stay hot: the loop arms them before it sleeps.
      if hasTurns || !inboxIsEmpty { return }
      if let deadline = nextDeadline, deadline <= spin.now { return }
    }
  }

  private mutating func armHot() {
    for client in hot {
      switch client.prepareToSleep(driver.doorbell, on: loop) {
      case .notNeeded: break
      case .hasWork: ready.append(client)
      case .mustPoll: retryLater(client)
      case .ready(let word, let memory):
        if let token = client.tokenForDoorbell(on: loop) { unsafe driver.arm(.message, token, word, in: memory) }
      }
    }
    hot.removeAll(keepingCapacity: true)
  }

  private mutating func sleep() {
    armHot()
    guard !hasTurns else { return }
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

  /// A busy loop does not ask the kernel in each round: most of them take less time than the question.
  private mutating func collectIfDue() {
    let now = csupport_monotonic_ns()
    guard now >= nextVisit else { return }
    nextVisit = now + Spin.deafNanoseconds
    collect(sleepingSince: nil)
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
        if case .client(let client) = loop.watcher(token) { wake(client) }
      case .descriptor(let token, let events):
        switch loop.watcher(token) {
        case .client(let client):
          client.ready(events)
          // An end is not urgent, and there may be very many at once.
          if events & UInt32(CSUPPORT_EVENT_HUP | CSUPPORT_EVENT_ERR) == 0 {
            wake(client)
          } else {
            ready.append(client)
          }
        case .watcher(let watcher): watcher.ready(events)
        case nil: break
        }
      }
    }
  }
}

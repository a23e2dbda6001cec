import DequeModule

/// What a loop's thread shares with all others, under the loop's lock.
struct LoopState: Sendable {
  /// A loop's life, from top to bottom; from ``awake(_:)`` to ``asleep(_:)`` and back as often as need be.
  enum Life: Sendable {
    /// Nothing was given to it yet, or there was no thread for it.
    case unstarted
    /// The thread opens what it sleeps on. If the system had no descriptors for epoll, which every driver needs, the
    /// thread begins with that, as soon as there are some.
    case starting(EpollDriver?)
    case awake(any LoopDriver)
    /// The thread sleeps, or is about to: whoever adds something has to wake it.
    case asleep(any LoopDriver)
    /// The thread ends after what it is doing now. `nil`: it had nothing to sleep on yet.
    case stopping((any LoopDriver)?)
    case stopped
  }

  var life = Life.unstarted
  /// What the loop has slept on last; `nil`: it never has.
  var lastDriver: EventLoop.Driver?
  var scheduled: [any LoopClient] = []
  var jobs = Deque<LoopJob>()
  var watches: [EventLoop.Token: LoopWatch] = [:]
  var lastToken: EventLoop.Token = 0
  /// Waits in the kernel that are of no use any more.
  var abandoned: [EventLoop.Token] = []
  var timers = LoopTimers()
  /// Clients that the library keeps alive: ports that are started, have a message handler, and are open.
  var kept: [ObjectIdentifier: any LoopClient] = [:]
  /// Those who wait until there are none.
  var idleWaiters: [UInt64: Resumption<Void>] = [:]

  var driver: (any LoopDriver)? {
    switch life {
    case .awake(let driver), .asleep(let driver): driver
    case .stopping(let driver): driver
    case .unstarted, .starting, .stopped: nil
    }
  }

  /// `false`: the loop was stopped.
  var takesWork: Bool {
    switch life {
    case .unstarted, .starting, .awake, .asleep: true
    case .stopping, .stopped: false
    }
  }

  /// Nothing has to be done at once, and the loop goes on.
  var mayWait: Bool { takesWork && scheduled.isEmpty && jobs.isEmpty && abandoned.isEmpty }

  /// Takes the sleep from a thread that sleeps, or is about to. Returns what has to be woken, without the lock.
  mutating func endSleep() -> (any LoopDriver)? {
    guard case .asleep(let driver) = life else { return nil }
    life = .awake(driver)
    return driver
  }
}

/// A descriptor that a loop watches, and for whom.
struct LoopWatch: Sendable {
  enum Watcher: Sendable {
    case client(any LoopClient)
    case watcher(any LoopWatcher)
  }

  let fd: CInt
  let events: UInt32
  let watcher: Watcher

  var isClient: Bool { if case .client = watcher { true } else { false } }
}

/// What else runs on a loop.
enum LoopJob: Sendable {
  case closure(@Sendable () -> Void)
  case job(UnownedJob)
}

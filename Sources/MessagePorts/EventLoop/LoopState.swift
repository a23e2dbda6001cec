import DequeModule

/// What a loop's thread shares with all others, under the loop's lock.
struct LoopState: Sendable {
  /// A loop's life, from top to bottom; from ``awake(_:)`` to ``asleep(_:)`` and back any number of times.
  enum Life: Sendable {
    /// It was given nothing yet, or there was no thread for it.
    case unstarted
    /// The thread opens what it sleeps on. `nil`: there were no descriptors yet for epoll, which every driver needs,
    /// and the thread opens that first.
    case starting(EpollDriver?)
    case awake(any LoopDriver)
    /// The thread sleeps, or is about to: whoever adds something wakes it.
    case asleep(any LoopDriver)
    /// The thread ends after what it is doing now. `nil`: it had nothing to sleep on yet.
    case stopping((any LoopDriver)?)
    case stopped
  }

  var life = Life.unstarted
  /// What the loop sleeps on, or did when it was stopped; `nil`: it has not started.
  var lastDriver: EventLoop.Driver?
  var scheduled: [any LoopClient] = []
  var jobs = Deque<LoopJob>()
  var watches: [EventLoop.Token: LoopWatch] = [:]
  var lastToken: EventLoop.Token = ProcessMark.firstNumber
  /// Clients whose waits in the kernel nobody needs any more.
  var abandoned: [EventLoop.Token] = []
  var timers = LoopTimers()
  /// Clients that the library keeps alive: ports that are started, have a message handler, and are open.
  var kept: [ObjectIdentifier: any LoopClient] = [:]
  /// Tasks that wait until there are none.
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

  /// There is nothing to do at once, and the loop goes on.
  var mayWait: Bool { takesWork && scheduled.isEmpty && jobs.isEmpty && abandoned.isEmpty }

  /// Nor can a timer be due.
  var isQuiet: Bool { mayWait && timers.nextDeadline == nil }

  /// Ends the sleep of a thread that sleeps, or is about to. Returns what to wake, without the lock.
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

    func loopHasEnded() {
      switch self {
      case .client(let client): client.loopHasEnded()
      case .watcher(let watcher): watcher.loopHasEnded()
      }
    }
  }

  let fd: CInt
  let events: UInt32
  let watcher: Watcher

  var isClient: Bool { if case .client = watcher { true } else { false } }
}

/// Work on a loop that is not a port's turn.
enum LoopJob: Sendable {
  case closure(@Sendable () -> Void)
  /// Of an actor whose executor is the loop.
  case job(UnownedJob)
  /// Of a task that prefers the loop.
  case task(UnownedJob)
}

import CSupport
import SharedRing
import Synchronization

/// One thread that runs the handlers of any number of ports, and anything else that it is given.
///
/// There is one by default, ``default``, which starts when it is first needed. A program may make more, and say which
/// of them serves a port (``MessagePort/setEventLoop(_:)``). A slow handler delays only the ports of its own loop.
/// While there is nothing to do, the thread sleeps in the kernel and takes no processor time, however many ports it
/// serves.
///
/// A loop is a Swift executor, too: an actor or task can run on it, and then a message costs one wake-up and not two.
///
/// Open ports do not keep the process alive: it ends when its main thread does. A program that only serves its ports
/// awaits ``waitUntilIdle()``.
///
/// In a process that was forked without an exec, each loop begins anew: see the article "Programs that fork".
///
/// Thread safety: all members may be called from any thread.
public final class EventLoop: Sendable {
  /// The loop that serves ports unless told otherwise.
  public static let `default` = EventLoop(name: "messageports")

  /// What this loop sleeps on: what its maker chose, else what the environment variable `MESSAGEPORTS_DRIVER` says
  /// (`uring` or `epoll`), else io_uring where the kernel's is known to be safe.
  ///
  /// Where io_uring does not work, it is epoll, whatever was asked for. The choice is made when the thread starts;
  /// before that, this says what it would be now. If the system refuses io_uring later, the loop goes over to epoll.
  public var driver: Driver { state.withLock { $0.lastDriver } ?? DriverChoice.now(requestedDriver).driver }
  /// The thread's name.
  public let name: String
  /// What the thread does after it has delivered something, before it sleeps: looking around a little longer saves the
  /// next sender a system call, and the loop a wake-up.
  public let spinPolicy: SpinPolicy
  /// Where the thread runs; `nil`: where the thread that first needed it could.
  public let placement: Placement?

  /// Identifies what the loop watches. Never used again in this process.
  typealias Token = UInt64

  let requestedDriver: Driver?
  /// In a forked child, none of the loops has a thread, and all begin anew.
  let state = PerProcess { LoopState() }
  /// It was stopped, and its thread has ended. Relaxed: those who rely on what the loop hears are rung afterwards.
  let hasEnded = Atomic<Bool>(false)
  /// The thread's number, once it runs.
  let threadID = Atomic<UInt64>(0)

  /// Makes a loop; its thread starts when it is first needed.
  ///
  /// If the system has no descriptors for the thread then, it waits until there are some. Nothing is lost meanwhile.
  ///
  /// - Parameters:
  ///   - name: for the thread; the system shows up to 15 bytes of it.
  ///   - driver: what to sleep on; `nil`: see ``driver``.
  ///   - spinPolicy: see ``spinPolicy``.
  public init(name: String, driver: Driver? = nil, spinPolicy: SpinPolicy = .adaptive) {
    self.name = name
    self.spinPolicy = spinPolicy
    placement = nil
    requestedDriver = driver
    ProcessEnd.add(self)
  }

  /// Makes a loop whose thread has a place of its own. It starts at once, and is there until ``stop()``.
  ///
  /// In a process that is forked off, the thread starts when it is first needed. What is refused there is told in the log, and the
  /// loop goes on without.
  ///
  /// - Parameters:
  ///   - name: for the thread; the system shows up to 15 bytes of it.
  ///   - driver: what to sleep on; `nil`: see ``driver``.
  ///   - spinPolicy: see ``spinPolicy``.
  ///   - placement: on which processors the thread runs, and how it is scheduled.
  /// - Throws: ``EventLoopError``, which names what was refused. There is no loop then, and no thread of it.
  /// - Complexity: waits for the thread to be there, some tens of microseconds.
  public init(
    name: String, driver: Driver? = nil, spinPolicy: SpinPolicy = .adaptive, placement: Placement
  ) throws(EventLoopError) {
    self.name = name
    self.spinPolicy = spinPolicy
    self.placement = placement
    requestedDriver = driver
    try placement.validate()
    // Whether spinning is worth it depends on where the process may run, and not on this one thread's place: it is to be found out here.
    _ = Processors.areSeveral
    try state.withLock { (state) throws(EventLoopError) in try start(&state) }
  }

  /// Whether it hears nothing while the caller waits: then whoever waits listens himself.
  var isDeaf: Bool { isCurrent || hasEnded.load(ordering: .relaxed) }

  /// Whether the caller runs on this loop's thread.
  public var isCurrent: Bool { threadID.load(ordering: .relaxed) == csupport_thread_id() }

  /// Ends the loop's thread after what it is doing now. For loops that a program has made itself.
  ///
  /// The handlers of its ports are not called until the ports are given to another loop
  /// (``MessagePort/setEventLoop(_:)``), and no longer keep them alive: ports that the program does not hold close, so
  /// that the other end hears of it. Tasks and actors whose executor it is go on, on a thread that all stopped loops
  /// share.
  public func stop() {
    let (hadThread, sleeper) = state.withLock { state -> (Bool, (any LoopDriver)?) in
      let sleeper = state.endSleep()
      switch state.life {
      case .unstarted: state.life = .stopped
      case .starting: state.life = .stopping(nil)
      case .awake(let driver), .asleep(let driver): state.life = .stopping(driver)
      case .stopping: break
      case .stopped: return (false, nil)
      }
      if case .stopped = state.life { return (false, nil) }
      return (true, sleeper)
    }
    if hadThread { sleeper?.wake() } else { letGo() }
  }

  /// Returns once no port of this loop is left that is started, has a message handler, and is open at both ends; or
  /// when the task is cancelled.
  ///
  /// For programs that only serve ports: open ports by themselves do not keep a process alive.
  public func waitUntilIdle() async {
    let id = Self.lastWaiter.wrappingAdd(1, ordering: .relaxed).newValue
    await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let isOver = state.withLock { state in
          // A task that is cancelled after this finds its waiter below.
          if state.kept.isEmpty || Task.isCancelled { return true }
          state.idleWaiters[id] = resumption
          return false
        }
        if isOver { resumption.resume(()) }
      }
    } onCancel: {
      state.withLock { $0.idleWaiters.removeValue(forKey: id) }?.resume(())
    }
  }

  /// Relaxed: the numbers only have to differ.
  private static let lastWaiter = Atomic<UInt64>(0)
}

// MARK: - Keeping clients

extension EventLoop {
  /// Those that it keeps, and those that it watches.
  var clients: [any LoopClient] {
    state.withLock { state in
      state.kept.values
        + state.watches.values.compactMap { watch in
          if case .client(let client) = watch.watcher { client } else { nil }
        }
    }
  }

  /// Keeps `client` alive until ``giveUp(_:)``. `false`: the loop was stopped.
  func keep(_ client: any LoopClient, for token: AnyObject) -> Bool {
    state.withLock { state in
      if state.takesWork { state.kept[ObjectIdentifier(token)] = client }
      return state.takesWork
    }
  }

  func giveUp(_ token: AnyObject) {
    // The client is released outside the lock.
    let (client, waiters) = state.withLock { state -> ((any LoopClient)?, [UInt64: Resumption<Void>]) in
      let client = state.kept.removeValue(forKey: ObjectIdentifier(token))
      guard client != nil, state.kept.isEmpty else { return (client, [:]) }
      defer { state.idleWaiters = [:] }
      return (client, state.idleWaiters)
    }
    _ = consume client
    for waiter in waiters.values { waiter.resume(()) }
  }
}

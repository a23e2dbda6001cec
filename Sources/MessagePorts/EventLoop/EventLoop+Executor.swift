extension EventLoop: SerialExecutor, TaskExecutor {
  /// Runs a task's next step on this loop, or, once the loop was stopped, on the thread that all stopped loops share.
  ///
  /// Thread-safe; one system call, and only if the loop sleeps.
  public func enqueue(_ job: consuming ExecutorJob) { enqueue(.job(UnownedJob(job))) }

  /// The same for a task that prefers this executor and is no actor's.
  ///
  /// Told apart, because such a task would otherwise be taken for one of an actor that this loop runs. At each resumption it
  /// would leave the actor that it is not in, which takes two more turns in the queue. There is no other way to
  /// implement a requirement that two protocols have in common twice.
  @_implements(TaskExecutor,enqueue(_:))
  public func enqueueTask(_ job: consuming ExecutorJob) { enqueue(.task(UnownedJob(job))) }

  private func enqueue(_ job: LoopJob) {
    if add({ $0.jobs.append(job) }) { return }
    let isOver = state.withLock { state in
      if case .stopped = state.life { return true }
      // The thread may be at another step of the same actor: it passes this on last of all.
      state.jobs.append(job)
      return false
    }
    if isOver { passOn(job) }
  }

  /// Whether the caller runs on this loop's thread, or, once the loop was stopped, on the one that has its tasks.
  public func isIsolatingCurrentContext() -> Bool? { isCurrent || isStopped && Self.heir.isCurrent }

  /// Traps unless ``isIsolatingCurrentContext()`` is true.
  public func checkIsolated() { precondition(isIsolatingCurrentContext() == true, "not on the event loop \(name)") }

  private var isStopped: Bool { state.withLock { if case .stopped = $0.life { true } else { false } } }

  /// Runs the tasks of stopped loops. Nobody can stop it.
  private static let heir = EventLoop(name: "stopped loops")

  func passOn(_ job: LoopJob) { Self.heir.run { self.perform(job) } }

  func perform(_ job: LoopJob) {
    let process = ProcessMark.current
    defer { process.endProcessIfInherited() }
    switch job {
    case .closure(let body): body()
    case .job(let job):
      unsafe job.runSynchronously(
        isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
    case .task(let job): unsafe job.runSynchronously(on: asUnownedTaskExecutor())
    }
  }
}

import DequeModule

/// What the other side has asked over a connection, and how far that is. A value, whose verdicts are pure; the engine's lock
/// guards it.
///
/// The lane is read whatever waits here: an answer that a handler needs may lie behind requests that have to wait.
struct ServingTable: Sendable {
  /// A request that came, and who is to handle it.
  struct Work: Sendable {
    let context: RequestContext
    let handler: RequestHandler
  }

  fileprivate enum Phase: Sendable {
    /// There are enough handlers already.
    case waiting(Work)
    /// The task comes a moment later than the entry.
    case running(Task<Void, Never>?, isCancelled: Bool)
    /// Without a handler: the outcome is about to be posted.
    case answering
  }
  struct Entry: Sendable {
    fileprivate var phase: Phase
    fileprivate let byteCount: Int
    fileprivate var ports: [MessagePort] = []
    fileprivate var freight = Freight()
  }

  private var entries: [UInt64: Entry] = [:]
  /// Numbers of those that wait, in order; perhaps of some that do so no more.
  private var queue = Deque<UInt64>()
  private var window = RequestWindow()
  private(set) var runningCount = 0
  private var hasEnded = false
  /// How many handlers may run at once.
  var limit = Connection.defaultMaximumConcurrentRequests

  var count: Int { entries.count }

  enum Arrival {
    case run(Work)
    case wait
    case answer
    /// Its number is taken, or there are more than a correct peer asks for.
    case violation(String)
    case tooLate
  }

  /// - Parameter handler: `nil`: there is none, and the answer says so.
  mutating func arrive(_ context: RequestContext, _ handler: RequestHandler?) -> Arrival {
    if hasEnded { return .tooLate }
    let byteCount = context.message.byteCount
    if entries[context.number] != nil { return .violation("a request with the number of another one") }
    if !window.hasRoom(for: byteCount) { return .violation("more requests than may be unanswered") }
    window.enter(byteCount)
    guard let handler else {
      entries[context.number] = Entry(phase: .answering, byteCount: byteCount)
      return .answer
    }
    let work = Work(context: context, handler: handler)
    guard runningCount < limit else {
      entries[context.number] = Entry(phase: .waiting(work), byteCount: byteCount)
      queue.append(context.number)
      return .wait
    }
    runningCount += 1
    entries[context.number] = Entry(phase: .running(nil, isCancelled: false), byteCount: byteCount)
    return .run(work)
  }

  /// The handler has its task. Returns whether that has to be cancelled at once.
  mutating func started(_ number: UInt64, _ task: Task<Void, Never>) -> Bool {
    guard case .running(nil, let isCancelled) = entries[number]?.phase else { return hasEnded }
    entries[number]?.phase = .running(task, isCancelled: isCancelled)
    return isCancelled
  }

  enum Cancellation {
    case cancel(Task<Void, Never>)
    /// It has not begun, and never will.
    case answer(Work)
    case nothing
  }

  /// Nobody waits for the outcome any more. It may be under way already.
  mutating func cancel(_ number: UInt64) -> Cancellation {
    switch entries[number]?.phase {
    case .waiting(let work):
      entries[number]?.phase = .answering
      return .answer(work)
    case .running(let task, _):
      entries[number]?.phase = .running(task, isCancelled: true)
      return task.map { .cancel($0) } ?? .nothing
    case .answering, nil: return .nothing
    }
  }

  /// What goes with the reply, behind what does already. `false`: it is over.
  mutating func add(_ ports: [MessagePort], _ freight: Freight, to number: UInt64) -> Bool {
    guard case .running = entries[number]?.phase else { return false }
    entries[number]?.ports += ports
    entries[number]?.freight += freight
    return true
  }

  mutating func takeCargo(of number: UInt64) -> MessageCargo? {
    guard let entry = entries[number] else { return nil }
    entries[number]?.ports = []
    entries[number]?.freight = Freight()
    return .of(entry.ports, entry.freight)
  }

  /// The outcome was posted. Returns what may run now, and what is to be released without the lock.
  mutating func answered(_ number: UInt64) -> (work: [Work], released: Entry?) {
    guard let entry = entries.removeValue(forKey: number) else { return ([], nil) }
    window.leave(entry.byteCount)
    if case .running = entry.phase { runningCount -= 1 }
    return (takeRunnable(), entry)
  }

  mutating func setLimit(_ limit: Int) -> [Work] {
    self.limit = limit
    return takeRunnable()
  }

  private mutating func takeRunnable() -> [Work] {
    var work: [Work] = []
    while runningCount < limit, let number = queue.popFirst() {
      guard case .waiting(let next) = entries[number]?.phase else { continue }
      runningCount += 1
      entries[number]?.phase = .running(nil, isCancelled: false)
      work.append(next)
    }
    return work
  }

  /// Nobody will hear an answer any more. Returns the tasks to be cancelled, and what is to be released without the lock.
  mutating func end() -> (tasks: [Task<Void, Never>], released: any Sendable) {
    hasEnded = true
    let released = entries.values.map { $0 }
    defer { (entries, queue, window, runningCount) = ([:], [], RequestWindow(), 0) }
    let tasks = entries.values.compactMap { entry -> Task<Void, Never>? in
      if case .running(let task, _) = entry.phase { task } else { nil }
    }
    return (tasks, released)
  }
}

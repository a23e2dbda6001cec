import Foundation
import Synchronization

/// A thread of a test's own, for calls that block: Swift's pool has only as many threads as there are processors.
public final class TestThread<Value: Sendable>: Sendable {
  private let result = Promise<Result<Value, any Error>>()

  public init(_ body: @escaping @Sendable () throws -> Value) {
    let thread = Thread { [result] in result.fulfil(Result { try body() }) }
    thread.name = "test thread"
    thread.start()
  }

  public var isFinished: Bool { result.value != nil }

  /// Waits for the thread to end; throws what it threw.
  @discardableResult
  public func join(within limit: Duration = patience) throws -> Value {
    try result.wait(within: limit, "end of a thread").get()
  }
}

/// Runs `body` on `count` threads at once, and returns when all have ended.
public func onThreads(
  _ count: Int, within limit: Duration = patience, _ body: @escaping @Sendable (Int) throws -> Void
) throws {
  let threads = (0..<count).map { index in TestThread { try body(index) } }
  for thread in threads { try thread.join(within: limit) }
}

/// An executor with one thread, which a test may block as long as it likes.
public final class OwnThreadExecutor: TaskExecutor {
  private let state = Mutex<(jobs: [UnownedJob], isStopped: Bool)>(([], false))
  private let changed = NSCondition()

  public init() {
    let thread = Thread { [self] in run() }
    thread.name = "test"
    thread.start()
  }

  public func enqueue(_ job: consuming ExecutorJob) {
    let job = UnownedJob(job)
    change { $0.jobs.append(job) }
  }

  /// Ends the thread once nothing is left to do.
  public func stop() { change { $0.isStopped = true } }

  private func change(_ body: (inout (jobs: [UnownedJob], isStopped: Bool)) -> Void) {
    changed.lock()
    state.withLock { body(&$0) }
    changed.signal()
    changed.unlock()
  }

  private func run() {
    while true {
      changed.lock()
      while state.withLock({ $0.jobs.isEmpty && !$0.isStopped }) { changed.wait() }
      let job = state.withLock { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
      changed.unlock()
      guard let job else { return }
      unsafe job.runSynchronously(on: asUnownedTaskExecutor())
    }
  }
}

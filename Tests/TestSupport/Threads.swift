import CSupport
import Glibc
import Synchronization

/// Runs `body`, which may block, on a thread of its own, and waits for it without holding a thread of the pool.
public func onThread<Result: Sendable>(_ body: @escaping @Sendable () throws -> Result) async throws -> Result {
  try await withCheckedThrowingContinuation { continuation in
    startThread { continuation.resume(with: Swift.Result { try body() }) }
  }
}

/// Starts a thread of its own for `body`.
public func startThread(_ body: @escaping @Sendable () -> Void) {
  let job = unsafe Unmanaged.passRetained(Job(body)).toOpaque()
  let result = unsafe csupport_thread_start(
    "test", { unsafe Unmanaged<Job>.fromOpaque($0!).takeRetainedValue().body() }, job)
  precondition(result == 0, "no thread for a test: \(result)")
}

private final class Job: Sendable {
  let body: @Sendable () -> Void
  init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}

/// Blocks the thread.
public func usleepBriefly(_ microseconds: UInt32) { usleep(microseconds) }

/// Tells threads of a test that it is over, however it has ended.
public final class Flag: Sendable {
  private let value = Mutex(false)

  public init() {}
  public var isSet: Bool { value.withLock { $0 } }
  public func set() { value.withLock { $0 = true } }
}

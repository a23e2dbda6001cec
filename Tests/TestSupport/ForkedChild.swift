import CTestSupport
import Glibc
import MessagePorts
import Synchronization

/// A process that was forked off without an exec, and checks what it finds.
///
/// Nothing of the testing library works there, nor of the standard library's `Mutex`: what fails is printed, and makes the
/// exit status differ from 0. One that hangs is killed.
public struct ForkedChild: ~Copyable {
  public let pid: pid_t

  /// What the child has found out.
  public struct Checks: ~Copyable {
    fileprivate var areFailed = false

    public mutating func expect(_ isRight: Bool, _ what: String) {
      if isRight { return }
      areFailed = true
      printNow("in the forked child: not \(what)\n")
    }

    /// Expects that `body` throws an error that `isRight` accepts.
    public mutating func expectThrows<Failure: Error>(
      _ what: String, _ isRight: (Failure) -> Bool, _ body: () throws(Failure) -> Void
    ) {
      do throws(Failure) {
        try body()
        expect(false, "thrown anything: \(what)")
      } catch {
        expect(isRight(error), "the right error, but \(error): \(what)")
      }
    }

    /// Expects that an inherited object says that it is closed.
    public mutating func expectClosed(_ what: String, _ body: () throws(PortError) -> Void) {
      expectThrows(what, { (error: PortError) in if case .closed = error { true } else { false } }, body)
    }
  }

  /// Runs `body` in a new child, on its only thread; the child exits afterwards, without exit handlers.
  ///
  /// - Parameter isAmidOthers: other threads are at work. Otherwise they sleep first: one that is being started, say, may
  ///   have a lock of Swift's runtime, which the child would wait for in vain.
  public init(isAmidOthers: Bool = false, _ body: (inout Checks) throws -> Void) throws {
    let pid = isAmidOthers ? ctest_fork() : Self.fork()
    guard pid == 0 else {
      guard pid > 0 else { throw SystemError(call: "fork", errno: -pid) }
      self.pid = pid
      return
    }
    var checks = Checks()
    do {
      try body(&checks)
    } catch {
      checks.expect(false, "without an error: \(error)")
    }
    _exit(checks.areFailed ? 1 : 0)
  }

  /// Waits until it has exited; whether all its checks were right.
  public consuming func succeeds() -> Bool {
    let status = Self.wait(for: pid)
    if status != 0 { print("the forked child ended with wait status \(status)") }
    return status == 0
  }

  /// Swift's runtime is not made for children that are forked amid threads: what one of those has locked stays so. These
  /// tests run when no others do.
  public static let isAskedFor = unsafe getenv("MESSAGEPORTS_FORK_TESTS") != nil

  /// Forks once the other threads sleep. The child's number, 0 in the child, or -errno.
  public static func fork() -> pid_t {
    // One that is at work for long is not to be waited for.
    for _ in 0..<50 where !othersSleep { usleep(1000) }
    return ctest_fork()
  }

  /// Whether all threads of this process sleep but this one, and not for something that this one has just had.
  private static var othersSleep: Bool {
    for _ in 0..<20 {
      guard othersSleepNow else { return false }
      usleep(1000)
    }
    return true
  }

  private static var othersSleepNow: Bool {
    let own = linkTarget("/proc/thread-self")?.split(separator: "/").last.map(String.init)
    return entries(of: "/proc/self/task").allSatisfy { thread in
      guard thread != own else { return true }
      // The name, in brackets, comes before the state. A thread that has ended meanwhile does no harm.
      let state = text(of: "/proc/self/task/\(thread)/stat").split(separator: ")").last?.first { $0 != " " }
      return state == nil || state == "S"
    }
  }

  /// As `waitpid` says it.
  public static func wait(for pid: pid_t) -> CInt {
    var status: CInt = -1
    while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return status
  }
}

/// Prints to the standard error, here and now.
public func printNow(_ text: String) {
  let bytes = Array(text.utf8)
  _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
}

/// A number that threads of a forked child tell each other.
public final class SharedNumber: Sendable {
  private let number = Atomic<Int>(0)
  public init() {}
  public var value: Int { number.load(ordering: .acquiring) }
  public func set(_ value: Int) { number.store(value, ordering: .releasing) }
  public func add(_ value: Int) { number.wrappingAdd(value, ordering: .acquiringAndReleasing) }
}

/// Runs `body` on a loop's thread, where a forked child has no other to run it, and waits for it on this one.
public func runTask(on loop: EventLoop, _ what: String, _ body: @escaping @Sendable () async throws -> Void) throws {
  let outcome = SharedNumber()
  Task(executorPreference: loop) {
    do {
      try await body()
      outcome.set(1)
    } catch {
      printNow("\(what): \(error)\n")
      outcome.set(2)
    }
  }
  try waitUntil(what) { outcome.value != 0 }
  guard outcome.value == 1 else { throw DeadlineExceeded(what: "\(what) has failed") }
}

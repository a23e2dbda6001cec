import CTestSupport
import Glibc

/// A thread one of whose system calls stands still in the kernel until the test lets it go.
public final class HeldThread<Value: Sendable>: Sendable {
  private let thread: TestThread<Value>
  private let listener: CInt
  private let held: ctest_held

  /// Returns once the first such call of the thread, or of a process that it starts, is held.
  public init(atCall call: CInt, _ body: @escaping @Sendable () throws -> Value) throws {
    let listening = Promise<CInt>()
    thread = TestThread {
      listening.fulfil(ctest_hold(call))
      return try body()
    }
    listener = try listening.wait()
    guard listener >= 0 else { throw Agent.Failure(description: "no filter: \(-listener)") }
    let looking = TestThread { [listener] in
      var held = ctest_held()
      guard unsafe ctest_next_held(listener, &held) == 0 else { throw Agent.Failure(description: "nothing is held") }
      return held
    }
    held = try looking.join()
  }

  /// Whose call it is.
  public var identifier: pid_t { held.thread }

  /// Lets this call go, and all that follow. Returns what the thread did.
  public func join() throws -> Value {
    _ = ctest_let_go(listener, held)
    startThread { [listener] in
      var held = ctest_held()
      while unsafe ctest_next_held(listener, &held) == 0 { _ = ctest_let_go(listener, held) }
      close(listener)
    }
    return try thread.join()
  }
}

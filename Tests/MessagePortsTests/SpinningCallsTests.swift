import CSupport
import TestSupport
import Testing

/// A thread that never sleeps need not enter the kernel: its system calls are counted by the kernel itself.
@Suite("5.4 Spinning without system calls", .serialized, .ownThread, .timeLimit(.minutes(4)))
struct SpinningCallsTests {
  @Test(
    "5.4, 13.7 Whoever always spins makes no system call while messages come and go, and hears of the end all the same",
    .enabled(if: csupport_usable_processors() > 1, "on one processor, it lets others run"),
    arguments: ["callsOnUring", "callsOnEpoll", "callsOfReceive", "callsOfReader"])
  func none(_ experiment: String) throws {
    let report = try LoneProcess.run(experiment)
    guard report["canCount"] == 1 else {
      return withKnownIssue { Issue.record("no notifications of system calls here") }
    }
    #expect(report["calls"] == 0, "the last one is number \(report["last"] ?? -1)")
    #expect(report["closed"] == 1)
    // Where the kernel has no io_uring, that loop is one on epoll, which is the other case.
  }
}

import CSupport
import CTestSupport
import Glibc
import TestSupport
import Testing

/// What a process that is being started has of its parent's, before it executes its program.
@Suite("Processes that are being started", .serialized, .timeLimit(.minutes(2)))
struct BirthTests {
  /// A thread that starts a process one of whose calls is held.
  private static func spawn(heldAt call: CInt) throws -> HeldThread<CInt> {
    try HeldThread(atCall: call) { exitCode(ofScript: "exit 7", fds: [(2, 5)]) }
  }

  @Test("9.5 By the time it executes its program, it has no copy of what a peer may have sent")
  func noCopies() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let slow = LingeringSocket()
        let child = try BirthTests.spawn(heldAt: CInt(CTEST_EXECVE))
        #expect(unsafe access("/proc/\(child.identifier)/fd/5", F_OK) == 0)
        #expect(unsafe access("/proc/\(child.identifier)/fd/\(slow.descriptor)", F_OK) == -1)
        slow.letGo()
        try waitUntil("the close to begin") { fcntl(slow.descriptor, F_GETFD) < 0 }
        #expect(try child.join() == 7)
      }
    }
  }

  @Test("9.5 While it has copies, nothing that a peer may have sent is closed, so that none of them is the last")
  func closersWait() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let slow = LingeringSocket()
        let fds = [slow.descriptor] + (0..<10).map { _ in csupport_eventfd_create() }
        let child = try BirthTests.spawn(heldAt: CInt(CTEST_DUP3))
        #expect(unsafe access("/proc/\(child.identifier)/fd/\(slow.descriptor)", F_OK) == 0)
        for fd in fds { csupport_close_elsewhere(fd) }
        // Long enough for the threads that close, if they were free to.
        usleep(50_000)
        for fd in fds { #expect(fcntl(fd, F_GETFD) >= 0) }
        #expect(try child.join() == 7)
        try waitUntil("all to be closed") { !fds.contains { fcntl($0, F_GETFD) >= 0 } }
      }
    }
  }
}

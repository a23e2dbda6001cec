@testable import MessagePorts
import TestSupport
import Testing

@Suite("Timers of loops", .timeLimit(.minutes(1)))
struct LoopTimerTests {
  @Test("A timer that was cancelled is gone, and the others stay")
  func cancelled() {
    var timers = LoopTimers()
    let ids = (0..<1000).map { timers.add(deadline: UInt64(1000 + $0)) {} }
    for id in ids.dropLast() { timers.cancel(id) }
    #expect(timers.nextDeadline == 1999)
    #expect(timers.takeDue(now: 1998).isEmpty)
    timers.cancel(ids[999])
    #expect(timers.nextDeadline == nil)
    #expect(timers.takeDue(now: .max).isEmpty)
  }

  @Test("13.3 A worker whose exit was heard leaves no timer with its loop")
  func workerExit() async throws {
    let loop = EventLoop(name: "timers")
    defer { loop.stop() }
    for _ in 0..<10 {
      let worker = try PeerProcess.spawn("silent", loop: loop)
      let closes = Collected<CloseReason>()
      worker.connection.onClose = { closes.append($0) }
      worker.connection.start()
      worker.kill()
      #expect(try await closes.wait(for: 1) == [.peerExited(.signalled(9))])
      #expect(loop.state.withLock { $0.timers.nextDeadline } == nil)
    }
  }
}

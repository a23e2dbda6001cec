import CTestSupport
import Glibc
import MessagePorts
import Synchronization
import TestSupport
import Testing

/// What exit handlers have taken apart is not used by handlers of ports.
@Suite("The end of a process", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct ProcessEndTests {
  private static let calls = Atomic<Int>(0)

  /// Ends the process with 0 if nothing is called while it is watched. A call that has begun on either loop may not have been
  /// counted yet: its thread can lose the processor before the handler's first line.
  private static func watchCalls() {
    let before = calls.load(ordering: .relaxed)
    for _ in 0..<100 { usleep(1000) }
    _exit(calls.load(ordering: .relaxed) - before <= 2 ? 0 : 1)
  }

  /// Two ports that answer each other for ever, on a loop of their own.
  private static func startTraffic(_ loop: EventLoop, shared: Bool) throws -> MessageChannel {
    let channel = try MessageChannel()
    var ports = [channel.port1, channel.port2]
    if shared {
      // A port that has left in a message, and has come back, is no local one any more.
      let halves = try ports[1].split()
      ports[1] = try MessagePort(joining: halves.takeWriter(), halves.takeReader())
    }
    for port in ports {
      port.setEventLoop(loop)
      port.onMessage = { [weak port] event in
        calls.add(1, ordering: .relaxed)
        try? port?.postMessage(bytes: event.bytes)
      }
    }
    for _ in 0..<10 { try ports[0].postMessage(bytes: [1]) }
    return channel
  }

  @Test("13.8 Once exit handlers of the program run, no handler of a port begins")
  func exitHandlers() async {
    await #expect(processExitsWith: .exitCode(0)) {
      atexit { ProcessEndTests.watchCalls() }
      let loops = (0..<2).map { EventLoop(name: "traffic \($0)") }
      let channels = try [false, true].flatMap { shared in
        try loops.map { try ProcessEndTests.startTraffic($0, shared: shared) }
      }
      while ProcessEndTests.calls.load(ordering: .relaxed) < 1000 { usleep(100) }
      withExtendedLifetime(channels) { exit(1) }
    }
    await #expect(processExitsWith: .exitCode(0)) {
      atexit { ProcessEndTests.watchCalls() }
      let channel = try ProcessEndTests.startTraffic(.default, shared: true)
      let other = try MessageChannel()
      other.port1.onMessage = { _ in exit(1) }
      while ProcessEndTests.calls.load(ordering: .relaxed) < 1000 { usleep(100) }
      try other.port2.postMessage(bytes: [])
      withExtendedLifetime(channel) { while true { pause() } }
    }
  }

  @Test("13.2, 13.8 A child that was forked exits as usual")
  func forked() async {
    await #expect(processExitsWith: .exitCode(3)) {
      let channel = try ProcessEndTests.startTraffic(.default, shared: true)
      while ProcessEndTests.calls.load(ordering: .relaxed) < 1000 { usleep(100) }
      let child = ctest_fork_and_exit(2)
      var status: CInt = 0
      guard unsafe waitpid(child, &status, 0) == child, status == 2 << 8 else { _exit(4) }
      withExtendedLifetime(channel) { exit(3) }
    }
  }
}

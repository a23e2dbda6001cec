import CTestSupport
import MessagePorts
import TestSupport
import Testing

/// The kernel may keep whoever sends ports for as long as it looks for cycles among sockets in flight.
@Suite("Packets that the kernel holds", .serialized, .timeLimit(.minutes(3)))
struct HeldPacketTests {
  /// Posts a message with a port, and stops inside the call that sends it.
  private static func post(_ port: MessagePort, on near: MessagePort) throws -> HeldThread<Void> {
    try HeldThread(atCall: CInt(CTEST_SENDMSG)) { try near.postMessage(bytes: [1], transfer: [port]) }
  }

  @Test("2.4, 6.1 While ports are sent, the port's loop serves it and others; later posts come after them")
  func othersGoOn() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let loop = EventLoop(name: "served")
        defer { loop.stop() }
        let (near, far) = try sharedChannelHere()
        let (other, carried) = (try MessageChannel(), try MessageChannel())
        let told = Collected<String>()
        for (port, name) in [(near, "near"), (other.port2, "other")] {
          port.setEventLoop(loop)
          port.onMessage = { _ in told.append(name) }
        }
        let sender = try HeldPacketTests.post(carried.port2, on: near)
        let (hasBegun, later) = (Flag(), Collected<Void>())
        let poster = TestThread {
          hasBegun.set()
          try near.postMessage(bytes: [2])
          later.append(())
        }
        try await eventually("the other post to begin") { hasBegun.isSet }
        for number in 0..<3 {
          try far.postMessage(bytes: [3])
          try await told.wait(for: 1 + 2 * number)
          try other.port1.postMessage(bytes: [4])
          try await told.wait(for: 2 + 2 * number)
        }
        if case .empty = try far.tryReceive() {} else { Issue.record("it has come without its port") }
        #expect(later.count == 0)
        try sender.join()
        try poster.join()
        let event = try far.receiveSoon()
        #expect(event.bytes == [1] && event.ports.count == 1)
        try event.ports.first?.postMessage(bitwise: UInt64(5))
        try carried.port1.expect(5)
        #expect(try far.receiveSoon().bytes == [2])
      }
    }
  }

  @Test("4.5, 6.1 A port that is closed while its ports are sent closes, and nobody waits", arguments: [false, true])
  func closedMeanwhile(_ byPeer: Bool) async {
    await #expect(processExitsWith: .success) { [byPeer] in
      await recordErrors {
        let (near, far) = try sharedChannelHere()
        let carried = try MessageChannel()
        let sender = try HeldPacketTests.post(carried.port2, on: near)
        if byPeer { far.close() } else { near.close() }
        try sender.join()
        // Whichever came first: with nobody to receive it, the message is discarded, and its port closes.
        try carried.port1.expectEnd()
        try (byPeer ? near : far).expectEnd()
      }
    }
  }
}

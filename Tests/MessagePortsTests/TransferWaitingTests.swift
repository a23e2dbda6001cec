import Synchronization
import TestSupport
import Testing

@testable import MessagePorts

/// Transfers that have nothing to do with each other do not wait for each other.
@Suite("Transfers at the same time", .serialized, .timeLimit(.minutes(3)))
struct TransferWaitingTests {
  /// A thread that has a lane locked, as one does that posts a very large message.
  private func hold(_ lane: Lane, until isOver: Flag) async throws -> TestThread<Void> {
    let isLocked = Flag()
    let thread = TestThread {
      lane.state.withLock { _ in
        isLocked.set()
        while !isOver.isSet { usleepBriefly(100) }
      }
    }
    try await eventually("the lane is locked") { isLocked.isSet }
    return thread
  }

  @Test(
    "2.4 A transfer, a split and a close go on while another transfer waits for a long post", arguments: Place.allCases)
  func unrelated(_ place: Place) async throws {
    let agent = try Agent(place)
    let (link, other) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [link.port2])
    let (leaving, free, split) = (try MessageChannel(), try MessageChannel(), try MessageChannel())
    for lane in [leaving.port2.core.outgoing, leaving.port2.core.incoming, link.port1.core.outgoing] {
      let isOver = Flag()
      defer { isOver.set() }
      let holder = try await hold(lane, until: isOver)
      let carried = lane === link.port1.core.outgoing ? try MessageChannel().port2 : leaving.port2
      let slow = TestThread { portError { try link.port1.postMessage(bitwise: 1 as UInt64, transfer: [carried]) } }
      usleepBriefly(20_000)
      try await onThread {
        let near = try MessageChannel()
        try other.port1.postMessage(bytes: [1], transfer: [near.port2])
        near.port1.close()
        let channel = try MessageChannel()
        _ = try channel.port1.split()
        _ = try other.port2.receiveSoon()
      }
      isOver.set()
      try holder.join()
      // Those of a lane that was held have left by now, once.
      let error = try slow.join()
      #expect(error == "none" || carried === leaving.port2 && error == "invalidTransfer.isDetached")
    }
    withExtendedLifetime((free, split)) {}
  }

  @Test("6.1 Two ports that are posted over each other at the same time leave one way, and nobody waits for ever")
  func crosswise() async throws {
    for _ in 0..<300 {
      let (a, b) = (try sharedChannelHere(), try sharedChannelHere())
      let threads = [(a.0, b.0), (b.0, a.0)].map { carrier, carried in
        TestThread { portError { try carrier.postMessage(bytes: [1], transfer: [carried]) } }
      }
      let errors = try threads.map { try $0.join() }
      // Whoever comes second posts on a port that has left.
      #expect(errors.sorted() == ["detached", "none"], "\(errors)")
    }
  }

  @Test("6.1 A port that is posted on all the time, with ports, can be transferred, split and closed")
  func busyCarrier() async throws {
    for round in 0..<30 {
      let (carrier, far) = try sharedChannelHere()
      let (link, linkFar) = try sharedChannelHere()
      let posters = (0..<3).map { _ in
        TestThread { () -> Int in
          for count in 0..<10_000 {
            let error = portError { try carrier.postMessage(bytes: [1], transfer: [try MessageChannel().port2]) }
            if error == "transferQueueFull" { continue }
            if error != "none" { return error == "detached" || error == "closed" ? count : -1 }
          }
          return -2
        }
      }
      usleepBriefly(500)
      switch round % 3 {
      case 0:
        try link.postMessage(bytes: [], transfer: [carrier])
        _ = try linkFar.receiveSoon()
      case 1: _ = try carrier.split()
      default: carrier.close()
      }
      for poster in posters { #expect(try poster.join() >= 0) }
      withExtendedLifetime((far, link)) {}
    }
  }
}

import Foundation
import MessagePorts
import TestSupport
import Testing

/// Ports inside messages that wait inside ports.
@Suite("Transfer nesting", .serialized, .timeLimit(.minutes(5)))
struct TransferNestingTests {
  /// A chain: each channel's `port2` waits in a message at the one before; the last holds the number 4711.
  /// Returns what is left in hand: the first `port2`, and all `port1`s, which stay open.
  private func makeChain(depth: Int) throws -> (outermost: MessagePort, others: [MessagePort]) {
    var others: [MessagePort] = []
    let innermost = try MessageChannel()
    try innermost.port1.postMessage(bitwise: 4711 as UInt64)
    others.append(innermost.port1)
    var inner = innermost.port2
    for level in 1..<depth {
      let channel = try MessageChannel()
      try channel.port1.postMessage(bitwise: UInt64(level), transfer: [inner])
      others.append(channel.port1)
      inner = channel.port2
    }
    return (inner, others)
  }

  @Test("6.5 A nesting that is deeper than the stack can be shared")
  func deeperThanTheStack() async throws {
    let (outermost, others) = try makeChain(depth: 1000)
    let carrier = try MessageChannel()
    try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
      let thread = Thread {
        continuation.resume(
          with: Result {
            let halves = try carrier.port1.split()  // shared from now on
            let sender = try MessagePort(joining: halves.takeWriter(), halves.takeReader())
            try sender.postMessage(bitwise: 1000 as UInt64, transfer: [outermost])
          })
      }
      thread.stackSize = 128 << 10
      thread.start()
    }
    try await onThread {
      var port = carrier.port2
      for level in stride(from: 1000, to: 0, by: -1) {
        let event = try port.receiveSoon()
        guard try event.load(as: UInt64.self) == level, event.ports.count == 1 else {
          throw Agent.Failure(description: "level \(level)")
        }
        port = event.ports[0]
      }
      try port.expect(4711)
    }
    withExtendedLifetime(others) {}
  }

  @Test("6.5 A hundred ports, each in a message at the next, come out in one process, in order")
  func deepChainHere() async throws {
    let (outermost, others) = try makeChain(depth: 100)
    try await onThread {
      var port = outermost
      for level in stride(from: 99, to: 0, by: -1) {
        let event = try port.receiveSoon()
        guard try event.load(as: UInt64.self) == level, event.ports.count == 1 else {
          throw Agent.Failure(description: "level \(level)")
        }
        port = event.ports[0]
      }
      try port.expect(4711)
      try port.postMessage(bitwise: 1 as UInt64)
      try others[0].expect(1)
    }
  }

  @Test(
    "6.5 Twenty ports, each in a message at the next, cross to another process and back",
    arguments: [1, 2, 3, 4, 5, 6, 20])
  func deepChainCrosses(_ depth: Int) async throws {
    let agent = try Agent(.anotherProcess)
    let (outermost, others) = try makeChain(depth: depth)
    try await agent.call(.keep, 0, transfer: [outermost])
    for step in 0..<depth - 1 {
      try await agent.call(.take, UInt64(step), UInt64(step + 1), UInt64(depth - 1 - step))
    }
    let innermost = UInt64(depth - 1)
    try await agent.call(.expect, innermost, 4711, 1)
    try await agent.call(.post, innermost, 1, 1)
    try await onThread { try others[0].expect(1) }
    for key in 0..<UInt64(depth) { try await agent.call(.close, key) }
    try await onThread { for port in others { try port.expectEnd() } }
  }

  @Test("6.5 A chain that was unpacked to the middle goes on to a third process")
  func chainMovesOn() async throws {
    let (one, other) = (try Agent(.anotherProcess), try Agent(.anotherProcess))
    let link = try MessageChannel()
    try await one.call(.keep, 100, transfer: [link.port1])
    try await other.call(.keep, 100, transfer: [link.port2])
    let (outermost, others) = try makeChain(depth: 8)
    try await one.call(.keep, 0, transfer: [outermost])
    for step in 0..<4 { try await one.call(.take, UInt64(step), UInt64(step + 1), UInt64(7 - step)) }
    try await one.call(.pass, 4, 100, 55)
    try await other.call(.take, 100, 4, 55)
    for step in 4..<7 { try await other.call(.take, UInt64(step), UInt64(step + 1), UInt64(7 - step)) }
    try await one.kill()
    try await other.call(.expect, 7, 4711, 1)
    try await other.call(.post, 7, 2, 1)
    try await onThread { try others[0].expect(2) }
  }

  @Test("6.5 Many ports that wait in one local channel cross together with it", arguments: [10, 200])
  func manyWaitingPorts(_ count: Int) async throws {
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel()
    let carried = try (0..<count).map { _ in try MessageChannel() }
    for (index, one) in carried.enumerated() {
      try channel.port1.postMessage(bitwise: UInt64(index), transfer: [one.port2])
      try one.port1.postMessage(bitwise: UInt64(1000 + index))
    }
    try await agent.call(.keep, 0, transfer: [channel.port2])
    for index in 0..<UInt64(count) {
      try await agent.call(.take, 0, 1, index)
      try await agent.call(.expect, 1, 1000 + index, 1)
    }
  }

  @Test(
    "2.2 A channel in which its own end waits, by way of another, is refused if it cannot cross, and nothing changes")
  func channelsInEachOther() async throws {
    // In a process of its own: this was a way to crash.
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try Agent(.anotherProcess)
        try await agent.call(.processIdentifier)
        let (x, y) = (try MessageChannel(), try MessageChannel())
        try x.port1.postMessage(bitwise: 1 as UInt64, transfer: [y.port1])  // y.port1 waits at x.port2
        try y.port2.postMessage(bitwise: 2 as UInt64, transfer: [x.port1])  // x.port1 waits at y.port1
        #expect(portError { try agent.begin(.keep, 0, transfer: [x.port2]) } == "invalidTransfer.holdsItself")
        #expect(!x.port2.isDetached && !x.port2.isPeerClosed && !y.port2.isPeerClosed)
        let received = try x.port2.receiveSoon().ports[0]
        let innermost = try received.receiveSoon().ports[0]
        try innermost.postMessage(bitwise: 3 as UInt64)
        try x.port2.expect(3)
        try y.port2.postMessage(bitwise: 4 as UInt64)
        try received.expect(4)
        try await agent.call(.processIdentifier)
      }
    }
  }

  @Test(
    "6.7 Ports that nobody can take any more, since each waits at the next, close, and their peers hear of it",
    arguments: [2, 3, 50])
  func ring(_ count: Int) throws {
    let closed = Collected<Int>()
    let channels = try (0..<count).map { _ in try MessageChannel() }
    for (index, channel) in channels.enumerated() { channel.port1.onClose = { _ in closed.append(index) } }
    let bystander = try MessageChannel()
    for (index, channel) in channels.enumerated() {
      // Each next port waits at the one before, and at the last the first.
      let next = channels[(index + 1) % count].port2
      try channel.port1.postMessage(bitwise: index, transfer: index == 0 ? [bystander.port2, next] : [next])
      #expect(next.isDetached)
      if index < count - 1 { #expect(closed.count == 0) }
    }
    let indices = try closed.wait(for: count)
    #expect(Set(indices) == Set(0..<count))
    #expect(bystander.port1.isPeerClosed)
    // What is posted on is like any port whose peer has closed.
    try channels[0].port1.postMessage(bitwise: 1)
    #expect(portError { _ = try channels[0].port1.receiveSoon() } == "peerClosed.closed by peer")
  }

  @Test("6.5 A port that has been taken out of a message may carry what waits where it waited")
  func noRingAnyMore() throws {
    let (x, y) = (try MessageChannel(), try MessageChannel())
    try x.port1.postMessage(bitwise: 1, transfer: [y.port1])  // y.port1 waits at x.port2
    let y1 = try x.port2.receiveSoon().ports[0]
    try y.port2.postMessage(bitwise: 2, transfer: [x.port2])
    let x2 = try y1.receiveSoon().ports[0]
    try x.port1.postMessage(bitwise: 3)
    #expect(try x2.receiveNumber() == 3)
  }

  @Test("6.5 A port crosses while its peer waits, inside a message, at a port that crosses too")
  func peersCrossInDifferentMessages() async throws {
    let agent = try Agent(.anotherProcess)
    let (x, y) = (try MessageChannel(), try MessageChannel())
    try x.port1.postMessage(bitwise: 1 as UInt64)
    try y.port1.postMessage(bitwise: 2 as UInt64, transfer: [x.port1])
    try await agent.call(.keep, 0, transfer: [x.port2, y.port2])
    try await agent.call(.expect, 0, 1, 1)
    try await agent.call(.take, 1, 2, 2)
    try await agent.call(.post, 2, 5, 1)
    try await agent.call(.expect, 0, 5, 1)
  }
}

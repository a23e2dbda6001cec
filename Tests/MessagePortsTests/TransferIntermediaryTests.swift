import MessagePorts
import TestSupport
import Testing

/// Processes that a port has passed through, and messages that nobody reads.
@Suite("Transfer intermediaries", .serialized, .timeLimit(.minutes(5)))
struct TransferIntermediaryTests {
  enum Ending: String, CaseIterable, CustomStringConvertible {
    case exit = "exits"
    case kill = "is killed"
    var description: String { rawValue }

    func end(_ agent: Agent) async throws {
      switch self {
      case .exit:
        try agent.begin(.exit, 0)
        #expect(await agent.worker?.exitStatus == .exited(0))
      case .kill: #expect(try await agent.kill() == .signalled(9))
      }
    }
  }

  @Test("6.6 Once a port has arrived, the process it came through may end", arguments: Ending.allCases)
  func intermediaryEnds(_ ending: Ending) async throws {
    let (middle, last) = (try Agent(.anotherProcess), try Agent(.anotherProcess))
    let link = try MessageChannel()
    let channel = try MessageChannel()
    let closes = Collected<CloseReason>()
    channel.port1.onClose = { closes.append($0) }
    try await middle.call(.keep, 0, transfer: [link.port1])
    try await last.call(.keep, 0, transfer: [link.port2])
    try channel.port1.postMessage(bitwise: 1 as UInt64)
    try await middle.call(.keep, 1, transfer: [channel.port2])
    try await middle.call(.expect, 1, 1, 1)
    try await middle.call(.post, 1, 100, 1)
    try channel.port1.postMessage(bitwise: 2 as UInt64)
    try await middle.call(.pass, 1, 0, 7)
    try await last.call(.take, 0, 1, 7)
    try await ending.end(middle)

    try channel.port1.postMessage(bitwise: 3 as UInt64)
    try await last.call(.expect, 1, 2, 2)
    try await last.call(.post, 1, 101, 1)
    try await onThread {
      try channel.port1.expect(100)
      try channel.port1.expect(101)
    }
    #expect(closes.all.isEmpty)
    try await ending.end(last)
    try await closes.wait(for: 1)
  }

  @Test(
    "6.6 The process that made a channel may end once both its ports have arrived elsewhere", arguments: Ending.allCases
  )
  func creatorEnds(_ ending: Ending) async throws {
    let (creator, one, other) = (try Agent(.anotherProcess), try Agent(.anotherProcess), try Agent(.anotherProcess))
    let made = try await creator.call(.makeChannels, 0, 1)
    let second = try #require(made.ports.first)
    let first = try #require(try await creator.call(.give, 0).ports.first)
    try await one.call(.keep, 0, transfer: [first])
    try await other.call(.keep, 0, transfer: [second])
    try await ending.end(creator)
    try await one.call(.post, 0, 0, 100)
    try await other.call(.expect, 0, 0, 100)
    try await other.call(.post, 0, 0, 100)
    try await one.call(.expect, 0, 0, 100)
    try await other.kill()
    try await one.call(.expectEnd, 0)
  }

  @Test("6.6 A port that comes from a process which ended before it was received works", arguments: Ending.allCases)
  func senderEndsBeforeArrival(_ ending: Ending) async throws {
    let (middle, last) = (try Agent(.anotherProcess), try Agent(.anotherProcess))
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    try await middle.call(.keep, 0, transfer: [link.port1, channel.port2])
    try await last.call(.keep, 0, transfer: [link.port2])
    try await middle.call(.post, 1, 1, 1)
    try await middle.call(.pass, 1, 0, 7)
    try await ending.end(middle)
    try await last.call(.take, 0, 1, 7)
    try await last.call(.expectEnd, 0)
    try await last.call(.post, 1, 2, 1)
    try await onThread {
      try channel.port1.expect(1)
      try channel.port1.expect(2)
    }
    try channel.port1.postMessage(bitwise: 3 as UInt64)
    try await last.call(.expect, 1, 3, 1)
  }

  @Test("6.6 A port's thousandth transfer costs what its first did")
  func transfersStayCheap() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let channel = try MessageChannel()
        let port = Collected<MessagePort>()
        port.append(channel.port2)
        /// The processor time of the cheapest of several rounds of ten: other work on the machine only adds to it.
        func least(of rounds: Int) async throws -> Duration {
          var least = Duration.seconds(1000)
          for _ in 0..<rounds {
            let start = Resources.processorTime
            for _ in 0..<10 {
              try await agent.call(.keep, 1, transfer: [port.all[0]])
              let back = try #require(try await agent.call(.give, 1).ports.first)
              port.removeAll()
              port.append(back)
            }
            least = min(least, Resources.processorTime - start)
          }
          return least
        }
        var before = Resources.now()
        before.descriptors += 3
        let far = try await agent.call(.descriptors).value
        let first = try await least(of: 10)
        _ = try await least(of: 80)
        let last = try await least(of: 10)
        // Anything that grew with each hop would be a hundred times as much by now.
        #expect(last < first * 10, "\(first) at first, \(last) at last")
        try await expectBack(before)
        try await expectBack(far + 2, of: agent)
      }
    }
  }

  // MARK: 6.7

  @Test("6.7 A port in a message that its receiver leaves unread closes with the receiver", arguments: Place.allCases)
  func receiverCloses(_ place: Place) async throws {
    let agent = try Agent(place)
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    let closes = Collected<CloseReason>()
    channel.port1.onClose = { closes.append($0) }
    try await agent.call(.keep, 0, transfer: [link.port2])
    try link.port1.postMessage(bytes: [], transfer: [channel.port2])
    try await Task.sleep(for: .milliseconds(20))
    #expect(closes.all.isEmpty)
    try await agent.call(.close, 0)
    try await closes.wait(for: 1)
    #expect(channel.port1.isPeerClosed)
  }

  @Test(
    "6.7 A port in a message that its receiver leaves unread closes when the receiver is released",
    arguments: Place.allCases)
  func receiverReleased(_ place: Place) async throws {
    let agent = try Agent(place)
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    let closes = Collected<CloseReason>()
    channel.port1.onClose = { closes.append($0) }
    let far = link.port2
    try await agent.call(.keep, 0, transfer: [far])
    try link.port1.postMessage(bytes: [], transfer: [channel.port2])
    try await agent.call(.release, 0)
    try await closes.wait(for: 1)
  }

  @Test("6.7 A port in a message at a process that is killed closes")
  func receiverKilled() async throws {
    let agent = try Agent(.anotherProcess)
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    let closes = Collected<CloseReason>()
    channel.port1.onClose = { closes.append($0) }
    try await agent.call(.keep, 0, transfer: [link.port2])
    try link.port1.postMessage(bytes: [], transfer: [channel.port2])
    try await agent.kill()
    try await closes.wait(for: 1)
  }

  @Test("6.7 Ports several messages deep close with the message that is destroyed", arguments: Place.allCases)
  func nestedUnread(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel()
    let chain = try (0..<5).map { _ in try MessageChannel() }
    let closes = Collected<Int>()
    for (index, channel) in chain.enumerated() { channel.port1.onClose = { _ in closes.append(index) } }
    for (outer, inner) in zip(chain, chain.dropFirst()) {
      try outer.port1.postMessage(bytes: [], transfer: [inner.port2])
    }
    try await agent.call(.keep, 0, transfer: [link.port2])
    try link.port1.postMessage(bytes: [], transfer: [chain[0].port2])
    try await agent.call(.close, 0)
    #expect(try await Set(closes.wait(for: 5)) == Set(0..<5))
    withExtendedLifetime(chain) {}
  }

  @Test("6.7 A port in a message whose handler does not keep it closes", arguments: Place.allCases)
  func receiverIgnores(_ place: Place) async throws {
    let agent = try Agent(place)
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.ignore, 0)
    try channel.port2.postMessage(bitwise: 9 as UInt64)
    try link.port1.postMessage(bytes: [], transfer: [channel.port2])
    try await onThread {
      try channel.port1.expect(9)
      try channel.port1.expectEnd()
    }
  }

  @Test(
    "2.7 A port posted to a channel whose other end is gone closes, and the post is no error", arguments: Place.allCases
  )
  func receiverGone(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.close, 0)
    try await eventually("the end of the link") { link.port1.isPeerClosed }
    let channel = try MessageChannel()
    try link.port1.postMessage(bytes: [], transfer: [channel.port2])
    #expect(channel.port2.isDetached)
    try await onThread { try channel.port1.expectEnd() }
  }

  // MARK: 6.8

  @Test("6.8 A message with ports survives the normal exit of its sender", arguments: Ending.allCases)
  func survivesSender(_ ending: Ending) async throws {
    let sender = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await sender.call(.keep, 0, transfer: [link.port2])
    let third = try await sender.call(.makeChannels, 10, 3)
    for key in 0..<3 as Range<UInt64> {
      try await sender.call(.post, 10 + key, key, 1)
      try await sender.call(.pass, 10 + key, 0, key)
    }
    try await ending.end(sender)
    try await eventually("the sender's end") { link.port1.isPeerClosed }
    let received = try await onThread {
      try (0..<3).map { number in
        let event = try link.port1.receiveSoon()
        guard try event.load(as: UInt64.self) == number else { throw Agent.Failure(description: "wrong message") }
        return event.ports[0]
      }
    }
    try await onThread {
      try link.port1.expectEnd()
      for (index, port) in received.enumerated() {
        try third.ports[index].expect(UInt64(index))
        try port.postMessage(bitwise: UInt64(index))
        try third.ports[index].expect(UInt64(index))
        try third.ports[index].postMessage(bitwise: UInt64(index))
        try port.expect(UInt64(index))
      }
    }
  }

  @Test(
    "6.8 A message with ports survives its sender's closing of the port it was posted on", arguments: Place.allCases)
  func survivesClose(_ place: Place) async throws {
    let agent = try Agent(place)
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [link.port2])
    try link.port1.postMessage(bitwise: 3 as UInt64, transfer: [channel.port2])
    link.port1.close()
    try await agent.call(.take, 0, 1, 3)
    try await agent.call(.expectEnd, 0)
    try channel.port1.postMessage(bitwise: 1 as UInt64)
    try await agent.call(.expect, 1, 1, 1)
  }
}

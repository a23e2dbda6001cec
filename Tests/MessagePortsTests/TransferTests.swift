import MessagePorts
import TestSupport
import Testing

@Suite("Transfer", .serialized, .timeLimit(.minutes(5)))
struct TransferTests {
  // MARK: 6.1

  @Test(
    "6.1 A transferred port is detached when the post returns, and all its members say so", arguments: Place.allCases)
  func detachedAfterPost(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    let (near, far) = (channel.port1, channel.port2)
    let closes = Collected<CloseReason>()
    far.onMessage = { _ in Issue.record("a detached port delivers nothing") }
    far.onClose = { closes.append($0) }
    try agent.begin(.keep, 1, transfer: [far])

    #expect(far.isDetached)
    #expect(!far.isClosed)
    #expect(!far.isStarted)
    #expect(far.onMessage == nil && far.onClose == nil && far.onMessageError == nil)
    expectDetached { try far.postMessage(bytes: [1]) }
    expectDetached { try far.postMessage(bitwise: 1) }
    expectDetached { try far.postMessage(byteCount: 1) { $0.append(1) } }
    expectDetached { _ = try far.tryReceive() }
    expectDetached { _ = try far.receiveSoon() }
    await #expect { try await far.waitForSpace(byteCount: 1) } throws: { isDetached($0) }
    var messages = far.messages.makeAsyncIterator()
    #expect(try await messages.next() == nil)

    far.start()
    far.onMessage = { _ in Issue.record("a detached port delivers nothing") }
    far.onClose = { closes.append($0) }
    far.setEventLoop(.default)
    far.close()
    try await agent.end()

    // Neither end has noticed anything of all that.
    try await onThread { try near.postMessage(bitwise: 1 as UInt64) }
    try await agent.call(.expect, 1, 1, 1)
    try await agent.call(.post, 1, 7, 1)
    try await onThread { try near.expect(7) }
    #expect(!near.isPeerClosed)
    #expect(closes.all.isEmpty)
  }

  @Test("6.1 A transfer raises no close event at either end, nor at the old object", arguments: Place.allCases)
  func noCloseEvent(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    let closes = Collected<String>()
    channel.port1.onClose = { closes.append("peer: \($0)") }
    channel.port2.onClose = { closes.append("old object: \($0)") }
    try await agent.call(.keep, 1, transfer: [channel.port2])
    try await agent.call(.countCloses, 1)
    // Passing numbers both ways takes longer than an event that was raised by the transfer.
    try await agent.call(.post, 1, 0, 100)
    try await onThread { for number in 0..<100 { try channel.port1.expect(UInt64(number)) } }
    #expect(closes.all.isEmpty)
    #expect(try await agent.call(.closeCount).value == 0)
    // A real end is told to the new owner, and to nobody else.
    channel.port1.close()
    try await agent.call(.expectEnd, 1)
    var count: UInt64 = 0
    let deadline = ContinuousClock.now + patience
    while count == 0 && ContinuousClock.now < deadline { count = try await agent.call(.closeCount).value }
    #expect(count == 1)
    #expect(closes.all.isEmpty)
  }

  @Test("6.1 A transferred port's handlers are released", arguments: Place.allCases)
  func handlersReleased(_ place: Place) async throws {
    final class Token: Sendable {}
    let agent = try Agent(place)
    let channel = try MessageChannel()
    weak var weakToken: Token?
    do {
      let token = Token()
      weakToken = token
      channel.port2.onMessage = { _ in _ = token }
      channel.port2.onMessageError = { _ in _ = token }
      channel.port2.onClose = { _ in _ = token }
    }
    #expect(weakToken != nil)
    try await agent.call(.keep, 1, transfer: [channel.port2])
    try await eventually("the handlers' release") { weakToken == nil }
  }

  @Test("6.1 Releasing the old object of a transferred port leaves the channel alone", arguments: Place.allCases)
  func oldObjectReleased(_ place: Place) async throws {
    let agent = try Agent(place)
    let near = try await { () async throws -> MessagePort in
      let channel = try MessageChannel()
      try await agent.call(.keep, 1, transfer: [channel.port2])
      return channel.port1
    }()
    try near.postMessage(bitwise: 5 as UInt64)
    try await agent.call(.expect, 1, 5, 1)
    #expect(!near.isPeerClosed)
  }

  @Test("6.1 Waiting receivers and posters of a port that is transferred are told", arguments: Place.allCases)
  func waitersAreTold(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 64))
    let far = channel.port2
    try far.postMessage(bytes: [UInt8](repeating: 0, count: 40))
    async let blocked: Void = expectDetachedLater { try await onThread { _ = try far.receiveSoon() } }
    async let space: Void = expectDetachedLater { try await far.waitForSpace(byteCount: 40) }
    async let next = {
      var messages = far.messages.makeAsyncIterator(); return try await messages.next()
    }()
    try await Task.sleep(for: .milliseconds(50))
    try await agent.call(.keep, 1, transfer: [far])
    try await blocked
    try await space
    #expect(try await next == nil)
  }

  // MARK: 6.3

  @Test("6.3 A port whose peer is closed travels with its unread messages and its end", arguments: Place.allCases)
  func closedPeerTravels(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    for number in 0..<3 { try channel.port1.postMessage(bitwise: UInt64(number)) }
    channel.port1.close()
    try await agent.call(.keep, 1, transfer: [channel.port2])
    try await agent.call(.expect, 1, 0, 3)
    try await agent.call(.expectEnd, 1)
  }

  @Test(
    "6.3 The close event of a port that travelled with a closed peer comes after the messages, once",
    arguments: Place.allCases)
  func closeEventTravels(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    try channel.port1.postMessage(bitwise: 1)
    channel.port1.close()
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let back = try #require(try await agent.call(.give, 1).ports.first)
    #expect(back.isPeerClosed)
    let events = Collected<String>()
    back.onClose = { events.append("close: \($0)") }
    #expect(events.all.isEmpty)
    back.onMessage = { _ in events.append("message") }
    #expect(try await events.wait(for: 2) == ["message", "close: closed by peer"])
    try await Task.sleep(for: .milliseconds(20))
    #expect(events.count == 2)
  }

  @Test("6.3 A port whose peer's process was killed travels with what that process had posted")
  func killedPeerTravels() async throws {
    let (poster, receiver) = (try Agent(.anotherProcess), try Agent(.anotherProcess))
    let channel = try MessageChannel()
    try await poster.call(.keep, 1, transfer: [channel.port1])
    try await poster.call(.post, 1, 0, 1000)
    try await poster.kill()
    try await receiver.call(.keep, 1, transfer: [channel.port2])
    try await receiver.call(.expect, 1, 0, 1000)
    try await receiver.call(.expectEnd, 1)
  }

  // MARK: 6.4, 6.5

  @Test("6.4 Messages from before, during and after a transfer reach the new owner in order", arguments: Place.allCases)
  func orderAcrossTransfer(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    let near = channel.port1
    for number in 0..<100 { try near.postMessage(bitwise: UInt64(number)) }
    // Those that the port itself posts before it leaves precede those it posts afterwards.
    for number in 0..<100 { try channel.port2.postMessage(bitwise: UInt64(number)) }
    async let posting: Void = onThread {
      for number in 100..<5000 { try near.postMessage(bitwise: UInt64(number)) }
    }
    try await agent.call(.keep, 1, transfer: [channel.port2])
    try agent.begin(.post, 1, 100, 900)
    try await posting
    for number in 5000..<5100 { try near.postMessage(bitwise: UInt64(number)) }
    try await agent.end()
    try await agent.call(.expect, 1, 0, 5100)
    try await onThread { for number in 0..<1000 { try near.expect(UInt64(number)) } }
  }

  @Test("6.5 A port goes to the far end and back to where it came from, again and again", arguments: Place.allCases)
  func backToTheOrigin(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    var port = channel.port2
    for round in 0..<50 {
      let number = UInt64(round)
      try channel.port1.postMessage(bitwise: 2 * number)
      try await agent.call(.keep, 1, transfer: [port])
      try await agent.call(.expect, 1, 2 * number, 1)
      try await agent.call(.post, 1, number, 1)
      try channel.port1.postMessage(bitwise: 2 * number + 1)
      port = try #require(try await agent.call(.give, 1).ports.first)
      let here = port
      try await onThread {
        try here.expect(2 * number + 1)
        try channel.port1.expect(number)
      }
    }
    port.close()
    try await onThread { try channel.port1.expectEnd() }
  }

  @Test("6.5 Both ends of a channel travel in one message, and still know each other", arguments: Place.allCases)
  func bothEndsInOneMessage(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    try channel.port1.postMessage(bitwise: 0 as UInt64)
    try channel.port2.postMessage(bitwise: 0 as UInt64)
    try await agent.call(.keep, 1, transfer: [channel.port1, channel.port2])
    #expect(channel.port1.isDetached && channel.port2.isDetached)
    try await agent.call(.post, 1, 1, 10)
    try await agent.call(.post, 2, 1, 20)
    try await agent.call(.expect, 2, 0, 11)
    try await agent.call(.expect, 1, 0, 21)
    try await agent.call(.close, 1)
    try await agent.call(.expectEnd, 2)
  }

  @Test("6.5 Both ends of a channel travel at once, to different places", arguments: Place.allCases)
  func bothEndsInFlight(_ place: Place) async throws {
    let (one, other) = (try Agent(place), try Agent(place))
    for _ in 0..<50 {
      let channel = try MessageChannel()
      try channel.port1.postMessage(bitwise: 0 as UInt64)
      async let first: Void = onThread { try one.begin(.keep, 1, transfer: [channel.port1]) }
      async let second: Void = onThread { try other.begin(.keep, 1, transfer: [channel.port2]) }
      _ = try await (first, second)
      try one.begin(.post, 1, 1, 3)
      try other.begin(.expect, 1, 0, 4)
      try other.begin(.post, 1, 0, 2)
      try one.begin(.expect, 1, 0, 2)
      for agent in [one, other] { for _ in 0..<3 { try await agent.end() } }
    }
  }

  @Test("6.5 Up to 126 ports travel in one message, in their order", arguments: Place.allCases)
  func manyPorts(_ place: Place) async throws {
    let agent = try Agent(place)
    let channels = try (0..<126).map { _ in try MessageChannel() }
    try await agent.call(.keep, 1, transfer: channels.map(\.port2))
    for (index, channel) in channels.enumerated() { try channel.port1.postMessage(bitwise: UInt64(1000 + index)) }
    for index in 0..<126 {
      try await agent.call(.expect, UInt64(1 + index), UInt64(1000 + index), 1)
    }
  }

  @Test("2.3 A message with 127 ports is refused with a typed error, and all stay", arguments: Place.allCases)
  func tooManyPorts(_ place: Place) async throws {
    let agent = try Agent(place)
    let channels = try (0..<127).map { _ in try MessageChannel() }
    #expect {
      try agent.begin(.keep, 1, transfer: channels.map(\.port2))
    } throws: { error in
      if case .tooManyPorts(count: 127, limit: 126)? = error as? PortError { true } else { false }
    }
    try await expectUsable(channels)
    try await agent.call(.keep, 1, transfer: channels.dropLast().map(\.port2))
  }
}

func isDetached(_ error: any Error) -> Bool { if case .detached? = error as? PortError { true } else { false } }

private func expectDetached(_ body: () throws -> Void, sourceLocation: SourceLocation = #_sourceLocation) {
  #expect(sourceLocation: sourceLocation, performing: body, throws: { isDetached($0) })
}

private func expectDetachedLater(_ body: () async throws -> Void) async throws {
  do {
    try await body()
    Issue.record("nothing thrown")
  } catch {
    #expect(isDetached(error))
  }
}

/// Both ends are here, and pass a message each way.
func expectUsable(_ channels: [MessageChannel], sourceLocation: SourceLocation = #_sourceLocation) async throws {
  for channel in channels {
    #expect(!channel.port1.isDetached && !channel.port2.isDetached, sourceLocation: sourceLocation)
    let number = UInt64.random(in: 0 ... .max)
    try await onThread {
      try channel.port1.postMessage(bitwise: number)
      try channel.port2.expect(number)
      try channel.port2.postMessage(bitwise: number)
      try channel.port1.expect(number)
    }
  }
}

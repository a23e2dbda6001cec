import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("Transfer lists", .serialized, .timeLimit(.minutes(5)))
struct TransferListTests {
  /// A channel to post on: its far end is with somebody else, or in this process.
  private struct Carrier {
    let near: MessagePort
    let agent: Agent

    init(_ place: Place) throws {
      agent = try Agent(place)
      near = agent.control
    }
  }

  private func expectInvalid(
    _ problem: TransferProblem, at index: Int, _ carrier: MessagePort, _ ports: [MessagePort],
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(sourceLocation: sourceLocation) {
      try carrier.postMessage(bytes: [1, 2, 3], transfer: ports)
    } throws: { error in
      guard case .invalidTransfer(index, problem)? = error as? PortError else { return false }
      return true
    }
  }

  @Test("6.2 A transfer list with the sending port itself is refused, and nothing changes", arguments: Place.allCases)
  func sendingPort(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    expectInvalid(.isSendingPort, at: 0, channel.port1, [channel.port1])
    try await expectUsable([channel])
    // The same for a port whose other end is far away.
    try await agent.call(.keep, 1, transfer: [channel.port2])
    expectInvalid(.isSendingPort, at: 0, channel.port1, [channel.port1])
    try channel.port1.postMessage(bitwise: 9 as UInt64)
    try await agent.call(.expect, 1, 9, 1)
  }

  @Test(
    "6.2 A transfer list with the sending port's own peer is refused, and nothing changes", arguments: Place.allCases)
  func ownPeer(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    expectInvalid(.isPeerOfSendingPort, at: 0, channel.port1, [channel.port2])
    try await expectUsable([channel])
    // One that has been away and is back, under another object, is still the peer.
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let back = try #require(try await agent.call(.give, 1).ports.first)
    expectInvalid(.isPeerOfSendingPort, at: 0, channel.port1, [back])
    expectInvalid(.isPeerOfSendingPort, at: 0, back, [channel.port1])
    let number = 3 as UInt64
    try channel.port1.postMessage(bitwise: number)
    try await onThread { try back.expect(number) }
  }

  @Test("6.2 A transfer list with the sending port's own, closed peer is refused alike")
  func ownPeerAfterOneEndMoved() async throws {
    // Both ends have been away, in one message, and both are back.
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel()
    try await agent.call(.keep, 1, transfer: [channel.port1, channel.port2])
    let first = try #require(try await agent.call(.give, 1).ports.first)
    let second = try #require(try await agent.call(.give, 2).ports.first)
    expectInvalid(.isPeerOfSendingPort, at: 0, first, [second])
    try first.postMessage(bitwise: 4 as UInt64)
    try await onThread { try second.expect(4) }
  }

  @Test("6.2 A transfer list with a port twice is refused, and nothing changes", arguments: Place.allCases)
  func twice(_ place: Place) async throws {
    let carrier = try Carrier(place)
    let (one, other) = (try MessageChannel(), try MessageChannel())
    expectInvalid(.isListedTwice, at: 1, carrier.near, [one.port1, one.port1])
    expectInvalid(.isListedTwice, at: 2, carrier.near, [one.port1, other.port1, one.port1])
    try await expectUsable([one, other])
    try await carrier.agent.call(.processIdentifier)
  }

  @Test("6.2 What is wrong with the list alone is found before the value is encoded")
  func listComesFirst() throws {
    let encodings = Mutex(0)
    let channel = try MessageChannel()
    let (closed, listed) = (try MessageChannel().port1, try MessageChannel().port1)
    closed.close()
    let tooMany = try (0..<200).map { _ in try MessageChannel().port1 }
    for list in [[listed, listed], [closed], [channel.port1], [channel.port2], tooMany] {
      #expect(throws: PortError.self) {
        try channel.port1.postMessage(Counted(count: { encodings.withLock { $0 += 1 } }), transfer: list)
      }
      #expect(throws: PortError.self) {
        try channel.port1.postMessage(byteCount: 8, transfer: list) { _ in encodings.withLock { $0 += 1 } }
      }
    }
    #expect(encodings.withLock { $0 } == 0)
    try channel.port1.postMessage(Counted(count: { encodings.withLock { $0 += 1 } }), transfer: [listed])
    #expect(encodings.withLock { $0 } == 1)
  }

  /// Counts how often it is encoded.
  private struct Counted: Encodable {
    let count: @Sendable () -> Void
    func encode(to encoder: any Encoder) throws {
      count()
      try true.encode(to: encoder)
    }
  }

  @Test("6.2 A transfer list with a closed port is refused, and nothing changes", arguments: Place.allCases)
  func closed(_ place: Place) async throws {
    let carrier = try Carrier(place)
    let (good, bad) = (try MessageChannel(), try MessageChannel())
    bad.port1.close()
    expectInvalid(.isClosed, at: 0, carrier.near, [bad.port1])
    expectInvalid(.isClosed, at: 1, carrier.near, [good.port1, bad.port1])
    try await expectUsable([good])
    try await carrier.agent.call(.processIdentifier)
  }

  @Test("6.2 A transfer list with a detached port is refused, and nothing changes", arguments: Place.allCases)
  func detached(_ place: Place) async throws {
    let carrier = try Carrier(place)
    let (good, gone) = (try MessageChannel(), try MessageChannel())
    try await carrier.agent.call(.keep, 1, transfer: [gone.port2])
    expectInvalid(.isDetached, at: 0, carrier.near, [gone.port2])
    expectInvalid(.isDetached, at: 1, carrier.near, [good.port1, gone.port2, good.port2])
    try await expectUsable([good])
    try gone.port1.postMessage(bitwise: 1 as UInt64)
    try await carrier.agent.call(.expect, 1, 1, 1)
  }

  @Test("6.2 One bad entry, wherever it stands, keeps all other ports with the caller", arguments: Place.allCases)
  func oneBadEntry(_ place: Place) async throws {
    let carrier = try Carrier(place)
    let good = try (0..<4).map { _ in try MessageChannel() }
    let closed = try MessageChannel()
    closed.port1.close()
    let bad: [(MessagePort, TransferProblem)] = [(carrier.near, .isSendingPort), (closed.port1, .isClosed)]
    for (port, problem) in bad {
      for position in 0...4 {
        var list = good.map(\.port1)
        list.insert(port, at: position)
        expectInvalid(problem, at: position, carrier.near, list)
      }
    }
    try await expectUsable(good)
    // The carrier is as usable as before, and sent none of it: its next message is the next answer.
    try await carrier.agent.call(.keep, 1, transfer: good.map(\.port2))
    try good[3].port1.postMessage(bitwise: 6 as UInt64)
    try await carrier.agent.call(.expect, 4, 6, 1)
  }

  @Test("6.2 A refused list leaves handlers, messages and the started state as they were", arguments: Place.allCases)
  func refusalChangesNothing(_ place: Place) async throws {
    let carrier = try Carrier(place)
    let channel = try MessageChannel()
    let received = Collected<UInt64>()
    let closes = Collected<CloseReason>()
    channel.port1.onMessage = { received.append((try? $0.load(as: UInt64.self)) ?? .max) }
    channel.port1.onClose = { closes.append($0) }
    try channel.port2.postMessage(bitwise: 1 as UInt64)
    expectInvalid(.isListedTwice, at: 1, carrier.near, [channel.port1, channel.port1])
    try channel.port2.postMessage(bitwise: 2 as UInt64)
    #expect(try await received.wait(for: 2) == [1, 2])
    #expect(channel.port1.isStarted)
    channel.port2.close()
    try await closes.wait(for: 1)
  }

  @Test(
    "2.6 Posting with ports on a closed or a detached port is refused, and the ports stay", arguments: Place.allCases)
  func ownStateIsChecked(_ place: Place) async throws {
    let agent = try Agent(place)
    let (closed, gone, good) = (try MessageChannel(), try MessageChannel(), try MessageChannel())
    closed.port1.close()
    try await agent.call(.keep, 1, transfer: [gone.port1])
    #expect {
      try closed.port1.postMessage(bytes: [], transfer: [good.port1])
    } throws: { if case .closed? = $0 as? PortError { true } else { false } }
    #expect {
      try gone.port1.postMessage(bytes: [], transfer: [good.port1])
    } throws: { isDetached($0) }
    try await expectUsable([good])
  }

  @Test("2.2 A message with ports that exceeds a limit is refused, and the ports stay", arguments: Place.allCases)
  func limitsAreChecked(_ place: Place) async throws {
    let agent = try Agent(place)
    let limited = try MessageChannel(options: ChannelOptions(queueLimitBytes: 256, messageLimitBytes: 200))
    let good = try MessageChannel()
    let received = Collected<UInt64>()
    good.port1.onMessage = { received.append((try? $0.load(as: UInt64.self)) ?? .max) }
    try await agent.call(.keep, 1, transfer: [limited.port2])
    #expect {
      try limited.port1.postMessage(bytes: [UInt8](repeating: 1, count: 201), transfer: [good.port1])
    } throws: { if case .messageTooLarge(201, limit: 200)? = $0 as? PortError { true } else { false } }
    try limited.port1.postMessage(bytes: patternBytes(count: 150, seed: 1))
    #expect {
      try limited.port1.postMessage(bytes: patternBytes(count: 150, seed: 2), transfer: [good.port1])
    } throws: { if case .queueFull(limit: 256)? = $0 as? PortError { true } else { false } }
    #expect(!good.port1.isDetached && good.port1.isStarted)
    try good.port2.postMessage(bitwise: 1 as UInt64)
    #expect(try await received.wait(for: 1) == [1])
    // Once there is room, the very same ports travel.
    try await agent.call(.expectBytes, 1, 150, 1)
    try await limited.port1.waitForSpace(byteCount: 150)
    try limited.port1.postMessage(bytes: patternBytes(count: 150, seed: 2), transfer: [good.port1])
    try await agent.call(.expectBytes, 1, 150, 2)
  }
}

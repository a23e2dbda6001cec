@testable import MessagePorts
import SharedRing
import TestSupport
import Testing

/// Messages that go in fragments, and transfers in between.
@Suite("Transfer and large messages", .serialized, .timeLimit(.minutes(5)))
struct TransferLargeTests {
  private static let size = 5 << 20

  @Test("6.5 A message of 5 MiB brings its ports, in order", arguments: Place.allCases)
  func largeWithPorts(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let channels = try (0..<3).map { _ in try MessageChannel() }
    let size = UInt64(Self.size)
    try await onThread {
      try link.port1.postMessage(bytes: patternBytes(count: Self.size, seed: size), transfer: channels.map(\.port2))
    }
    try link.port1.postMessage(bitwise: 1 as UInt64)
    #expect(try await agent.call(.takeBytes, 0, 1, size).value == 3)
    try await agent.call(.expect, 0, 1, 1)
    for (index, channel) in channels.enumerated() {
      try channel.port1.postMessage(bitwise: UInt64(10 + index))
      try await agent.call(.expect, UInt64(1 + index), UInt64(10 + index), 1)
    }
  }

  @Test("6.4 Large messages that wait travel with their port", arguments: Place.allCases)
  func largeMessagesWait(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    let sizes = [Self.size, 3, 200_000, Self.size + 1, 0, 130_000]
    for size in sizes { try channel.port1.postMessage(bytes: patternBytes(count: size, seed: UInt64(size))) }
    try await agent.call(.keep, 0, transfer: [channel.port2])
    for size in sizes { try await agent.call(.expectBytes, 0, UInt64(size), UInt64(size)) }
    // Once more, now that the channel lies in shared memory, and with a part read here and a part there.
    let back = try #require(try await agent.call(.give, 0).ports.first)
    for size in sizes { try channel.port1.postMessage(bytes: patternBytes(count: size, seed: UInt64(size))) }
    for size in sizes[..<2] {
      let event = try await onThread { try back.receiveSoon() }
      #expect(event.bytes == patternBytes(count: size, seed: UInt64(size)))
    }
    try await agent.call(.keep, 0, transfer: [back])
    for size in sizes[2...] { try await agent.call(.expectBytes, 0, UInt64(size), UInt64(size)) }
  }

  /// A channel in shared memory, with both ends here; at one of them, a part of a message of ``size`` bytes has come.
  private func makePartlyReceived() async throws -> (agent: Agent, message: PartialMessage) {
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [channel.port2])
    let receiver = try #require(try await agent.call(.give, 0).ports.first)
    return (agent, try PartialMessage(from: channel.port1, to: receiver, byteCount: Self.size, seed: 1))
  }

  @Test("6.4 A port that has received a message in part takes that part along")
  func partlyReceived() async throws {
    let (agent, partly) = try await makePartlyReceived()
    try await agent.call(.keep, 0, transfer: [partly.receiver])
    try await agent.call(.expectNothing, 0)
    partly.complete()
    try partly.poster.postMessage(bitwise: 5 as UInt64)
    try await agent.call(.expectBytes, 0, UInt64(Self.size), 1)
    try await agent.call(.expect, 0, 5, 1)
  }

  @Test("6.4 A message that was complete when its half-read port left is whole at the new owner")
  func completeBeforeTransfer() async throws {
    let (agent, partly) = try await makePartlyReceived()
    partly.complete()
    try await agent.call(.keep, 0, transfer: [partly.receiver])
    try await agent.call(.expectBytes, 0, UInt64(Self.size), 1)
  }

  @Test("6.4 A half-received message moves on through several owners")
  func partlyReceivedTwice() async throws {
    let (agent, partly) = try await makePartlyReceived()
    var port = partly.receiver
    for _ in 0..<3 {
      try await agent.call(.keep, 0, transfer: [port])
      try await agent.call(.expectNothing, 0)
      port = try #require(try await agent.call(.give, 0).ports.first)
      guard case .empty = try port.tryReceive() else { throw Agent.Failure(description: "not empty") }
    }
    partly.complete()
    let last = port
    #expect(try await onThread { try last.receiveSoon().bytes } == patternBytes(count: Self.size, seed: 1))
  }

  @Test(
    "4.8 A half-received message that is called off, or whose poster closes, is never seen", arguments: [true, false])
  func neverCompleted(_ isAborted: Bool) async throws {
    let (agent, partly) = try await makePartlyReceived()
    try await agent.call(.keep, 0, transfer: [partly.receiver])
    try await agent.call(.expectNothing, 0)
    if isAborted {
      partly.poster.core.outgoing.state.withLock { $0.sending.producer.abandonStaged(partly.header) }
      try partly.poster.postMessage(bitwise: 3 as UInt64)
      try await agent.call(.expect, 0, 3, 1)
    }
    partly.poster.close()
    try await agent.call(.expectEnd, 0)
  }
}

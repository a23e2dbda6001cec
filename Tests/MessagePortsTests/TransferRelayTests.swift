import MessagePorts
import TestSupport
import Testing

/// Ports on the move, round and round, while both sides post.
@Suite("Transfer relays", .serialized, .timeLimit(.minutes(5)))
struct TransferRelayTests {
  enum Style: String, CaseIterable, CustomStringConvertible {
    case polling
    case handlers
    var description: String { rawValue }
    var order: Agent.Order { self == .polling ? .relay : .relayWithHandler }
  }

  /// Stations, connected in a ring, each also with a way home.
  final class Ring: Sendable {
    let agents: [Agent]
    /// Where a port enters the ring.
    let entrance: MessagePort
    /// Where it comes back.
    let homes: [MessagePort]

    init(_ places: [Place], _ style: Style) async throws {
      agents = try places.map { try Agent($0) }
      let links = try places.map { _ in try MessageChannel() }
      let extra = try MessageChannel()
      var homes: [MessagePort] = []
      entrance = extra.port1
      for (index, agent) in agents.enumerated() {
        let home = try MessageChannel()
        homes.append(home.port1)
        let next = (index + 1) % agents.count
        try await agent.call(.keep, 1, transfer: [links[index].port2, links[next].port1, home.port2])
        try await agent.call(style.order, 1, 2, 3)
        if index == 0 {
          // The entrance leads to the first station as well; its own messages come by it, in the same style.
          try await agent.call(.keep, 4, transfer: [extra.port2])
          try await agent.call(style.order, 4, 2, 3)
        }
      }
      self.homes = homes
    }

    /// Waits until a port comes home, at any station.
    func comeHome(within limit: Duration = patience) async throws -> (token: RelayToken, port: MessagePort) {
      let arrived = Collected<MessageEvent>()
      for home in homes { home.onMessage = { arrived.append($0) } }
      let event = try await arrived.wait(for: 1, within: limit)[0]
      let token = try event.load(as: RelayToken.self)
      guard token.wrong == 0 else {
        throw Agent.Failure(
          description: "expected \(token.expected - 1), got \(token.wrong &- 1), \(token.hopsLeft) hops before the end")
      }
      return (token, try #require(event.ports.first))
    }
  }

  static let rings: [[Place]] = [
    [.thisProcess, .thisProcess],
    [.thisProcess, .anotherProcess],
    [.anotherProcess, .anotherProcess],
    [.anotherProcess, .thisProcess, .anotherProcess, .anotherProcess],
  ]

  @Test(
    "6.4 A port moved 1,000 times between processes delivers each message once, in order, both ways",
    arguments: rings, Style.allCases)
  func oneEndMoves(_ places: [Place], _ style: Style) async throws {
    let seed = UInt64.random(in: 0...9999)
    print("seed of the relay \(places) \(style): \(seed)")
    let ring = try await Ring(places, style)
    let channel = try MessageChannel()
    let near = channel.port1
    let isOver = Collected<Void>()
    // The peer posts all the time, and checks what comes, on threads of its own.
    async let posted: UInt64 = onThread {
      var random = SystemRandomNumberGenerator()
      var number: UInt64 = 0
      while isOver.count == 0 {
        try near.postMessage(bitwise: number)
        number += 1
        if UInt8.random(in: 0..<4, using: &random) == 0 { usleepBriefly(UInt32.random(in: 0..<200, using: &random)) }
      }
      return number
    }
    async let received: UInt64 = onThread {
      var expected: UInt64 = 0
      while true {
        do { try near.expect(expected) } catch PortError.peerClosed { return expected }
        expected += 1
      }
    }
    try ring.entrance.postMessage(bitwise: RelayToken(hops: 1000, seed: seed), transfer: [channel.port2])
    let (token, port): (RelayToken, MessagePort)
    do {
      (token, port) = try await ring.comeHome()
    } catch {
      isOver.append(())
      channel.port1.close()
      throw error
    }
    isOver.append(())
    let count = try await posted
    try await onThread {
      for number in token.expected..<count { try port.expect(number) }
      guard case .empty = try port.tryReceive() else { throw Agent.Failure(description: "more than was posted") }
      try port.postMessage(bitwise: token.next)
    }
    port.close()
    #expect(try await received == token.next + 1)
  }

  @Test(
    "6.5 Both ends moved all the time, in opposite directions, deliver each message once, in order",
    arguments: rings, Style.allCases)
  func bothEndsMove(_ places: [Place], _ style: Style) async throws {
    let seed = UInt64.random(in: 0...9999)
    print("seed of the two relays \(places) \(style): \(seed)")
    let (one, other) = (try await Ring(places, .polling), try await Ring(places.reversed(), style))
    let channel = try MessageChannel()
    // Something for handlers to start with: nobody posts steadily at either end.
    for number in 0..<10_000 { try channel.port1.postMessage(bitwise: UInt64(number)) }
    var first = RelayToken(hops: 300, seed: seed)
    first.next = 10_000
    try one.entrance.postMessage(bitwise: first, transfer: [channel.port1])
    try other.entrance.postMessage(bitwise: RelayToken(hops: 300, seed: seed + 1), transfer: [channel.port2])
    let (token1, port1) = try await one.comeHome()
    let (token2, port2) = try await other.comeHome()
    try await onThread {
      for number in token1.expected..<token2.next { try port1.expect(number) }
      for number in token2.expected..<token1.next { try port2.expect(number) }
      port1.close()
      try port2.expectEnd()
    }
  }
}

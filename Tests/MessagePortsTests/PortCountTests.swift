import CSupport
@testable import MessagePorts
import SharedRing
import TestSupport
import Testing

/// One limit on the ports of a message, whatever waits in them.
@Suite("Number of ports", .serialized, .timeLimit(.minutes(5)))
struct PortCountTests {
  private static let limit = MessagePort.maximumPortsPerMessage

  @Test(
    "2.3, 6.5 A message carries as many ports as the limit says, to another process and in this one; one more is refused",
    arguments: Place.allCases)
  func limit(_ place: Place) async throws {
    #expect(Self.limit >= 126)
    let agent = try Agent(place)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let channels = try (0...Self.limit).map { _ in try MessageChannel() }
    let bytes = patternBytes(count: 1, seed: 1)
    for (number, channel) in channels.enumerated() { try channel.port1.postMessage(bitwise: UInt64(number)) }
    do throws(PortError) {
      try link.port1.postMessage(bytes: bytes, transfer: channels.map(\.port2))
      Issue.record("not refused")
    } catch {
      guard case .tooManyPorts(Self.limit + 1, limit: Self.limit) = error else { throw error }
    }
    try link.port1.postMessage(bytes: bytes, transfer: channels.dropLast().map(\.port2))
    #expect(try await agent.call(.takeBytes, 0, 1, 1).value == UInt64(Self.limit))
    for number in 0..<UInt64(Self.limit) { try await agent.call(.expect, 1 + number, number, 1) }
    #expect(!channels[Self.limit].port2.isDetached)
  }

  @Test("2.3, 6.4 So it does if each of them has received a message in part")
  func limitInPart() async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let parts = try (0..<Self.limit).map { number in
      let (poster, receiver) = try sharedChannelHere()
      // As much as to take one fragment, or several.
      return try PartialMessage(from: poster, to: receiver, byteCount: 140_000 + number * 3001, seed: UInt64(number))
    }
    try link.port1.postMessage(bytes: patternBytes(count: 1, seed: 1), transfer: parts.map(\.receiver))
    #expect(try await agent.call(.takeBytes, 0, 1, 1).value == UInt64(Self.limit))
    for part in parts { part.complete() }
    for (number, part) in parts.enumerated() {
      try await agent.call(.expectBytes, 1 + UInt64(number), UInt64(part.byteCount), UInt64(number))
    }
  }

  @Test(
    "9.5 Parts of messages that a peer claims to have sent take no more memory here than it gave them",
    arguments: [(1, 4096), (2, 4096), (80, 32 << 20)])
  func claimedParts(_ ports: Int, _ given: Int) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    var words = [ForgedPort.header(ports)]
    let file = Descriptors([csupport_memory_create_sealed(UInt64(given))])
    #expect(csupport_memory_reserve(file.all[0], 0, UInt64(given)) == 0)
    var fds = file.all
    let travellers = try (0..<ports).map { _ in try HandMadePort() }
    for traveller in travellers {
      var forged = traveller.forged(messageLimit: 1 << 30)
      forged.words[0] |= 0x100
      // Each claims all of the file, and the first of a single one a byte more than there is.
      (forged.words[13], forged.words[14]) = (1 << 30, UInt64(given + (ports == 1 ? 1 : 0)))
      words += forged.words
      fds += forged.fds
    }
    let before = Resources.residentKilobytes
    far.post([1], ports: ports) { #expect(far.send(words: words, fds) > 0) }
    #expect(try await told.wait(for: 1)[0].isError, "\(told.all)")
    #expect(Resources.residentKilobytes - before < 40_000)
    withExtendedLifetime(port) {}
    try await scene.checkFriend()
  }
}

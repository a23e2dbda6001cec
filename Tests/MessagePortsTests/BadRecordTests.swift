import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Peers that write into a connection what cannot be right.
@Suite("Bad records", .serialized, .timeLimit(.minutes(5)))
struct BadRecordTests {
  private typealias Peer = HandMadePeer

  @Test("9.5 A record that cannot be right ends the connection of whoever wrote it, and nothing else",
    arguments: [
      HandMadePeer.header(kind: 0, byteCount: 8),
      HandMadePeer.header(kind: 8, byteCount: 8),
      HandMadePeer.header(kind: 255, byteCount: 8),
      HandMadePeer.header(kind: 1, byteCount: 8) | 1 << 60,
      HandMadePeer.header(kind: 1, byteCount: 1529),
      HandMadePeer.header(kind: 1, byteCount: 0xffff_ffff),
      HandMadePeer.header(kind: 1, byteCount: 0x7fff_fff8),
      HandMadePeer.header(kind: 2, byteCount: 8),
      HandMadePeer.header(kind: 3, byteCount: 8),
      HandMadePeer.header(kind: 3, byteCount: 16),
      HandMadePeer.header(kind: 4, byteCount: 8),
      HandMadePeer.header(kind: 4, byteCount: 4),
      HandMadePeer.header(kind: 5, byteCount: 8),
      HandMadePeer.header(kind: 6, byteCount: 8),
    ], [true, false])
  func badRecord(_ header: UInt64, _ startedFirst: Bool) async throws {
    try await expectViolation(startedFirst: startedFirst) { $0.post(header) }
  }

  @Test("9.5 A link to where no segment can be ends the connection",
    arguments: [
      (0, 4096), (1 << 40, 4096), (1 << 40, 0), (1 << 40, 4095), (1 << 40, 1 << 31), (1 << 41, 4096), (.max, 4096),
      (.max - 4095, 4096), (1 << 40 | 1, 4096), ((1 << 41) - 4096, 8192), (1 << 40, .max),
    ] as [(UInt64, UInt64)])
  func badLink(_ offset: UInt64, _ capacity: UInt64) async throws {
    try await expectViolation { $0.post(Peer.header(kind: 3, byteCount: 16), [offset, capacity]) }
  }

  @Test("9.5 Fragments that announce more than the limit, or do not add up, end the connection")
  func badFragments() async throws {
    // More than the agreed limit, more than there is memory, and less than what has come already.
    for total in [(1 << 30) + 1, .max, 1 << 62, 8, 0] as [UInt64] {
      try await expectViolation { $0.post(Peer.header(kind: 4, byteCount: 24), [total, 1, 2]) }
    }
    try await expectViolation { peer in
      peer.write(Peer.header(kind: 6, byteCount: 40), at: Peer.data + 32)  // more than is missing
      peer.post(Peer.header(kind: 4, byteCount: 24), [20, 1, 2])
    }
    try await expectViolation { peer in
      peer.write(Peer.header(kind: 4, byteCount: 24), at: Peer.data + 32)  // a first one after a first one
      peer.post(Peer.header(kind: 4, byteCount: 24), [100, 1, 2])
    }
  }

  @Test("9.5 A peer that says it has read what was never written loses its connection, and the poster goes on",
    arguments: [1 << 20, .max, 1 << 63] as [UInt64])
  func badReleased(_ released: UInt64) async throws {
    let (server, peer, listener) = try await connectByHand()
    let closes = Collected<CloseReason>()
    server.onClose = { closes.append($0) }
    server.start()
    peer.write(released, at: Peer.released)
    // More than fits, so that the poster has to look.
    for _ in 0..<200 { try server.postMessage("name", bytes: [UInt8](repeating: 1, count: 100)) }
    try await closes.wait(for: 1)
    try server.postMessage("name")
    try await expectServing(listener)
  }

  @Test("9.5 Nonsense in the words that are only for inspection, or for waking, does no harm")
  func otherWords() async throws {
    let (server, peer, _) = try await connectByHand()
    let messages = Collected<ConnectionEvent>()
    server.onUnhandled = { messages.append($0) }
    for word in [0, 1, 1 << 62, UInt64.max] {
      for offset in stride(from: 0x80, to: 0x380, by: 8) where offset < 0x200 + 0x80 || offset >= 0x200 + 0x100 {
        // All but the identity, and lane 1's released position, of which other tests lie.
        peer.write(word, at: offset)
      }
      try server.postMessage("a", bytes: [1])
    }
    for offset in stride(from: 0x80, to: 0x380, by: 8) { peer.write(0, at: offset) }
    peer.post(Peer.header(kind: 1, byteCount: 8), Peer.emptyName)
    try await messages.wait(for: 1)
    #expect(!server.isClosed && !server.isPeerClosed)
    peer.hangUp()
    try await eventually("the end") { server.isPeerClosed }
  }

  @Test("9.5 A message without a proper name goes to the error handler, and the connection goes on",
    arguments: [[], [1], [0xff, 0xff], [3, 0, 65], [2, 0, 0xc3, 0x28], [1, 4]] as [[UInt8]])
  func badNames(_ bytes: [UInt8]) async throws {
    let (server, peer, _) = try await connectByHand()
    let events = Collected<String>()
    server.onMessageError = { error in
      if case .undecodable = error { events.append("undecodable") } else { events.append("\(error)") }
    }
    server.onUnhandled = { events.append("message \($0.name)") }
    let padded = bytes + [UInt8](repeating: 0, count: 8 - bytes.count)
    let word = padded.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    let recordBytes = 8 + (bytes.count + 7) / 8 * 8
    peer.write(Peer.header(kind: 1, byteCount: 2), at: Peer.data + recordBytes)
    peer.post(Peer.header(kind: 1, byteCount: UInt64(bytes.count)), bytes.isEmpty ? [] : [word])
    #expect(try await events.wait(for: 2) == ["undecodable", "message "])
    #expect(!server.isPeerClosed)
  }
}

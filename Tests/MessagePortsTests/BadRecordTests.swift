import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// Peers that write into a connection what no correct peer writes.
@Suite("Bad records", .serialized, .timeLimit(.minutes(5)))
struct BadRecordTests {
  @Test(
    "9.5 A record that cannot be right ends the connection of whoever wrote it, and nothing else",
    arguments: [
      word(0, 8),
      word(8, 8),
      word(255, 8),
      word(1, 8, high: 1 << 4),
      word(1, 1529),
      word(1, 0xffff_ffff),
      word(1, 0x7fff_fff8),
      word(2, 8),
      word(3, 8),
      word(3, 16),
      word(4, 8),
      word(4, 4),
      word(5, 8),
      word(6, 8),
    ], [true, false])
  func badRecord(_ header: UInt64, _ startedFirst: Bool) async throws {
    try await expectViolation(startedFirst: startedFirst) { $0.end.post(header) }
  }

  @Test(
    "9.5 A link to where no segment can be ends the connection",
    arguments: [
      (0, 4096), (1 << 40, 4096), (1 << 40, 0), (1 << 40, 4095), (1 << 40, 1 << 31), (1 << 41, 4096), (.max, 4096),
      (.max - 4095, 4096), (1 << 40 | 1, 4096), ((1 << 41) - 4096, 8192), (1 << 40, .max),
    ] as [(UInt64, UInt64)])
  func badLink(_ offset: UInt64, _ capacity: UInt64) async throws {
    try await expectViolation { $0.end.post(word(.link, 16), words: [offset, capacity]) }
  }

  @Test("9.5 Fragments that announce more than the limit, or do not add up, end the connection")
  func badFragments() async throws {
    // More than the agreed limit, more than there is memory, and less than what has come already.
    for total in [(1 << 30) + 1, .max, 1 << 62, 8, 0] as [UInt64] {
      try await expectViolation { $0.end.post(word(.firstFragment, 24), words: [total, 1, 2]) }
    }
    try await expectViolation { peer in
      peer.end.put(word(.firstFragment, 24), words: [20, 1, 2])
      peer.end.post(word(.lastFragment, 40), words: [0, 0, 0, 0, 0])  // more than is missing
    }
    try await expectViolation { peer in
      for _ in 0..<2 { peer.end.put(word(.firstFragment, 24), words: [100, 1, 2]) }  // a first one after a first one
      peer.end.signal()
    }
  }

  @Test(
    "9.5 A peer that says it has read what was never written loses its connection, and the poster goes on",
    arguments: [1 << 20, .max, 1 << 63] as [UInt64])
  func badReleased(_ released: UInt64) async throws {
    let (server, peer, listener) = try await connectByHand()
    let closes = Collected<CloseReason>()
    server.onClose = { closes.append($0) }
    server.start()
    peer.end.theirLane.storeReleased(released)
    // More than fits, so that the poster has to look.
    for _ in 0..<200 { try server.postMessage("name", bytes: [UInt8](repeating: 1, count: 100)) }
    try await closes.wait(for: 1)
    try server.postMessage("name")
    try await expectServing(listener, options: Scene.options)
  }

  @Test("9.5 Nonsense in the words that are only for inspection, or for waking, does no harm")
  func otherWords() async throws {
    let (server, peer, _) = try await connectByHand()
    let messages = Collected<ConnectionEvent>()
    server.onUnhandled = { messages.append($0) }
    for word in [0, 1, 1 << 62, UInt64.max] {
      for offset in stride(from: 0x80, to: 0x380, by: 8) where offset < 0x200 + 0x80 || offset >= 0x200 + 0x100 {
        // All but the identity and lane 1's released position, about which other tests lie.
        peer.end.scribble(word, at: offset)
      }
      try server.postMessage("a", bytes: [1])
    }
    for offset in stride(from: 0x80, to: 0x380, by: 8) { peer.end.scribble(0, at: offset) }
    peer.end.post([UInt8](repeating: 0, count: 8))
    // What the other end had announced was scribbled over.
    peer.end.ourLane.storeDoorbell(.message, Doorbell.awake)
    _ = unsafe csupport_futex_wake_all(peer.end.ourLane.doorbellWord(.message))
    peer.end.send([1])
    try await messages.wait(for: 1)
    #expect(!server.isClosed && !server.isPeerClosed)
    peer.hangUp()
    try await eventually("the end") { server.isPeerClosed }
  }

  @Test(
    "9.5 A message without a proper name goes to the error handler, and the connection goes on",
    arguments: [[], [1], [0xff, 0xff], [3, 0, 65], [2, 0, 0xc3, 0x28], [1, 4]] as [[UInt8]])
  func badNames(_ bytes: [UInt8]) async throws {
    let (server, peer, _) = try await connectByHand()
    let events = Collected<String>()
    server.onMessageError = { error in
      if case .undecodable = error { events.append("undecodable") } else { events.append("\(error)") }
    }
    server.onUnhandled = { events.append("message \($0.name)") }
    peer.end.post(bytes)
    peer.end.post([0, 0])
    #expect(try await events.wait(for: 2) == ["undecodable", "message "])
    #expect(!server.isPeerClosed)
  }
}

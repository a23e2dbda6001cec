import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// A peer that makes one turn of a loop large: whoever has a little to do on the same loop has it done in between.
@Suite("Hostile turns", .serialized, .timeLimit(.minutes(3)))
struct HostileTurnsTests {
  /// What a peer puts into its channel. A message at the end, or many of them.
  enum Load: String, CaseIterable, Sendable, CustomStringConvertible {
    case messagesWithPorts, largeMessages, hugeMessage, fragments, aborts, links
    var description: String { rawValue }
    var laneCapacity: Int { self == .hugeMessage ? 80 << 20 : 32 << 20 }
    /// How many messages come before the others have their turn, at most.
    var share: Int {
      switch self {
      case .messagesWithPorts: 3
      case .largeMessages: 6
      case .hugeMessage, .fragments, .aborts, .links: 0
      }
    }

    /// Without telling anybody.
    func put(on far: RawEnd) throws {
      /// A record whose payload is whatever is there.
      func record(_ kind: RecordHeader.Kind, _ byteCount: Int) {
        far.store(0, at: far.offset + 8 + byteCount)
        far.store(word(kind, UInt32(byteCount)), at: far.offset)
        far.offset += 8 + byteCount
      }
      switch self {
      case .messagesWithPorts:
        let other = try HandMadePort()
        let forged = ForgedPort(other.far, near: other.far.socket)
        for _ in 0..<8 {
          let words = (0..<30).flatMap { _ in forged.words }
          // The record announces the packet.
          far.put(word(.message, 8, ports: 30), words: [1])
          far.send(words: [ForgedPort.header(30)] + words, (0..<30).flatMap { _ in forged.fds })
        }
      case .largeMessages: for _ in 0..<40 { record(.message, 512 << 10) }
      case .hugeMessage: record(.message, 64 << 20)
      case .fragments:
        let pieces = 60, bytes = 256 << 10
        far.put(word(.firstFragment, 16), words: [UInt64(8 + pieces * bytes), 0])
        for _ in 1..<pieces { record(.middleFragment, bytes) }
        record(.lastFragment, bytes)
      case .aborts:
        for _ in 0..<3000 { record(.abort, 0) }
        record(.message, 8)
      case .links:
        let region = Int(RingLayout.regionOffset(lane: far.end))
        let count = 40
        try #require(ftruncate(far.memory.fd, region + count * 4096) == 0)
        let segments = try Mapping(fd: far.memory.fd, fileOffset: UInt64(region), byteCount: count * 4096)
        for index in 0..<count {
          let start = unsafe segments.address + index * 4096
          // So that it is not one link behind the other, which would be a violation.
          unsafe start.storeBytes(of: word(.abort), as: UInt64.self)
          unsafe (start + 8).storeBytes(of: index == count - 1 ? word(.message, 8) : word(.link, 16), as: UInt64.self)
          unsafe (start + 16).storeBytes(of: UInt64(region + (index + 1) * 4096), as: UInt64.self)
          unsafe (start + 24).storeBytes(of: 4096, as: UInt64.self)
          if index == count - 1 { unsafe (start + 24).storeBytes(of: 0, as: UInt64.self) }
        }
        far.put(word(.link, 16), words: [UInt64(region), 4096])
      }
    }
  }

  @Test(
    "5.3, 9.5 Whatever a peer puts into one turn, others on the loop have theirs after a small part of it",
    arguments: Load.allCases, EventLoop.Driver.allCases)
  func share(_ load: Load, _ driver: EventLoop.Driver) async throws {
    let scene = try await Scene(driver: driver, messageLimit: 1 << 30)
    let (port, far) = try await scene.makePort(messageLimit: 1 << 30, laneCapacity: load.laneCapacity)
    let log = Collected<String>()
    port.setEventLoop(scene.loop)
    port.onMessage = { _ in log.append("peer") }
    let honest = try MessageChannel()
    honest.port2.setEventLoop(scene.loop)
    honest.port2.onMessage = { _ in log.append("honest") }
    // The loop stands until both have something to do; the peer is first.
    let gate = try MessageChannel()
    let (isShut, isOpen) = (Flag(), Flag())
    gate.port2.setEventLoop(scene.loop)
    gate.port2.onMessage = { _ in
      isShut.set()
      try? waitUntil("the gate to open") { isOpen.isSet }
    }
    try gate.port1.postMessage(bytes: [1])
    try await eventually("the loop to stand") { isShut.isSet }
    try load.put(on: far)
    far.signal()
    try honest.port1.postMessage(bytes: [1])
    isOpen.set()
    try await eventually("both") { log.all.contains("honest") && log.all.contains("peer") }
    let before = try #require(log.all.firstIndex(of: "honest"))
    #expect(before <= load.share, "\(before) messages came first")
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test("A message in one large piece arrives whole, also if its port moves on when half of it is copied")
  func largePiece() async throws {
    let scene = try await Scene(messageLimit: 1 << 30)
    let (port, far) = try await scene.makePort(messageLimit: 1 << 30, laneCapacity: 32 << 20)
    let byteCount = 20 << 20
    for offset in stride(from: 8, to: byteCount, by: 4096) { far.store(UInt64(offset), at: offset) }
    far.store(0, at: byteCount + 8)
    far.store(word(.message, UInt32(byteCount)), at: 0)
    far.signal()
    let told = Collected<Bool>()
    let other = EventLoop(name: "large")
    defer { other.stop() }
    for loop in [scene.loop, other, scene.loop] {
      port.setEventLoop(loop)
      port.onMessage = { event in
        event.withBytes { bytes in
          told.append(
            bytes.byteCount == byteCount
              && stride(from: 8, to: byteCount, by: 4096).allSatisfy {
                unsafe bytes.unsafeLoadUnaligned(fromByteOffset: $0 - 8, as: UInt64.self) == UInt64($0)
              })
        }
      }
    }
    #expect(try await told.wait(for: 1) == [true])
    far.offset = byteCount + 8
    far.post([1])
    #expect(try await told.wait(for: 2) == [true, false])
    try await scene.checkFriend()
  }
}

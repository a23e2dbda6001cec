import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Peers that send ports that are none.
@Suite("Bad ports", .serialized, .timeLimit(.minutes(5)))
struct BadPortTests {
  private typealias Peer = HandMadePeer

  /// One port as it would travel, in 16 words.
  private static func traveller(
    flags: UInt64 = 1, queueLimit: UInt64 = .max, messageLimit: UInt64 = 1 << 30,
    outgoing: [UInt64] = [0, HandMadePeer.laneCapacity, 0, 0, 0], incoming: [UInt64] = [0, HandMadePeer.laneCapacity, 0, 0, 0],
    partial: [UInt64] = [0, 0]
  ) -> [UInt64] {
    [flags, queueLimit, messageLimit] + outgoing + incoming + partial + [0]
  }

  private static func packet(_ ports: [[UInt64]], count: UInt64? = nil) -> [UInt64] {
    [HandMadePeer.packetMagic | (count ?? UInt64(ports.count)) << 32] + ports.flatMap { $0 }
  }

  private func postPort(_ peer: Peer, ports: UInt64 = 1) {
    peer.post(Peer.header(kind: 1, byteCount: 8, ports: ports), Peer.emptyName)
  }

  @Test("9.5 A port made by hand arrives and works: the other tests lie about one thing each")
  func honestPort() async throws {
    let (server, peer, _) = try await connectByHand()
    let messages = Collected<ConnectionEvent>()
    server.onUnhandled = { messages.append($0) }
    var pair: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&pair.0, &pair.1) == 0)
    let memory = Peer.makeMemory()
    defer { for fd in [pair.0, memory] { _ = csupport_close(fd) } }
    peer.send(Self.packet([Self.traveller()]), [pair.1, memory])
    _ = csupport_close(pair.1)
    postPort(peer)
    let port = try #require(try await messages.wait(for: 1)[0].ports.first)
    try port.postMessage(bytes: [1])
    #expect(!port.isPeerClosed)
    // The first record on lane 1, behind lane 0's data.
    var header: UInt64 = 0
    _ = unsafe pread(memory, &header, 8, off_t(UInt64(Peer.data) + Peer.laneCapacity))
    #expect(header == Peer.header(kind: 1, byteCount: 1))
    port.close()
    #expect(csupport_socket_is_hung_up(pair.0) == 1)
  }

  enum PortLie: CaseIterable {
    case nothingSent, otherMagic, otherCount, tooShort, tooLong, noDescriptors, oneDescriptor, threeDescriptors,
      swappedDescriptors, streamSocket, listeningSocket, unsealedMemory, noMemory, otherMemoryVersion, unknownFlags,
      hugeMessageLimit, negativeQueueLimit, otherCapacity, cursorBeyond, cursorOdd, segmentBeforeRegion,
      segmentBeyondFile, segmentOverflow, hugeCapacity, positionBeforeSegment, partialWithoutFile, partialBeyondLimit,
      partialFull, partialTooShort, tooManyPorts
  }

  @Test("9.5 A port that is none costs its sender the connection, or the message, and nobody anything else",
    arguments: PortLie.allCases)
  func badPort(_ lie: PortLie) async throws {
    let (server, peer, listener) = try await connectByHand()
    let outcomes = Collected<String>()
    let messages = Collected<ConnectionEvent>()
    server.onClose = { outcomes.append("\($0)") }
    server.onMessageError = { outcomes.append("\($0)") }
    server.onUnhandled = { messages.append($0) }

    var pair: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&pair.0, &pair.1) == 0)
    var memory = Peer.makeMemory()
    var owned: [CInt] = []
    var words = Self.packet([Self.traveller()])
    var fds: [CInt]?
    let capacity = Peer.laneCapacity
    var ports: UInt64 = 1
    switch lie {
    case .nothingSent: words = []
    case .otherMagic: words[0] ^= 1
    case .otherCount: words[0] = Peer.packetMagic | 2 << 32
    case .tooShort: words.removeLast()
    case .tooLong: words.append(0)
    case .noDescriptors: fds = []
    case .oneDescriptor: fds = [pair.1]
    case .threeDescriptors: fds = [pair.1, memory, memory]
    case .swappedDescriptors: fds = [memory, pair.1]
    case .streamSocket:
      var stream: [CInt] = [-1, -1]
      _ = unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &stream)
      owned = stream
      fds = [stream[0], memory]
    case .listeningSocket:
      let path = freshPath()
      owned = [unsafe csupport_socket_listen(path, 1)]
      unsafe unlink(path)
      fds = [owned[0], memory]
    case .unsealedMemory:
      _ = csupport_close(memory)
      memory = Peer.makeMemory(isSealed: false)
    case .noMemory:
      _ = csupport_close(memory)
      memory = csupport_eventfd_create()
    case .otherMemoryVersion:
      _ = csupport_close(memory)
      memory = Peer.makeMemory(version: 3)
    case .unknownFlags: words = Self.packet([Self.traveller(flags: 2)])
    case .hugeMessageLimit: words = Self.packet([Self.traveller(messageLimit: .max)])
    case .negativeQueueLimit: words = Self.packet([Self.traveller(queueLimit: .max - 1)])
    case .otherCapacity: words = Self.packet([Self.traveller(outgoing: [0, 4096, 0, 0, 0])])
    case .cursorBeyond: words = Self.packet([Self.traveller(incoming: [0, capacity, capacity, capacity, 0])])
    case .cursorOdd: words = Self.packet([Self.traveller(incoming: [0, capacity, 4, 4, 0])])
    case .segmentBeforeRegion: words = Self.packet([Self.traveller(outgoing: [4096, 4096, 0, 0, 0])])
    case .segmentBeyondFile: words = Self.packet([Self.traveller(outgoing: [2 << 40, 4096, 0, 0, 0])])
    case .segmentOverflow: words = Self.packet([Self.traveller(outgoing: [.max - 4095, 4096, 0, 0, 0])])
    case .hugeCapacity: words = Self.packet([Self.traveller(outgoing: [2 << 40, 1 << 40, 0, 0, 0])])
    case .positionBeforeSegment: words = Self.packet([Self.traveller(outgoing: [0, capacity, 0, 0, 8])])
    case .partialWithoutFile: words = Self.packet([Self.traveller(flags: 0x101, partial: [100, 50])])
    case .partialBeyondLimit: words = Self.packet([Self.traveller(flags: 0x101, messageLimit: 99, partial: [100, 50])])
    case .partialFull: words = Self.packet([Self.traveller(flags: 0x101, partial: [100, 100])])
    case .partialTooShort:
      // A file of one page that is to hold more.
      owned = [csupport_memory_create_sealed(10)]
      words = Self.packet([Self.traveller(flags: 0x101, partial: [100_000, 50_000])])
      fds = [pair.1, memory, owned[0]]
    case .tooManyPorts: ports = 127
    }
    if !words.isEmpty { #expect(peer.send(words, fds ?? [pair.1, memory]) > 0) }
    for fd in [pair.1, memory] + owned { _ = csupport_close(fd) }
    postPort(peer, ports: ports)
    let outcome = try await outcomes.wait(for: 1)[0]
    let isExpected = outcome.hasPrefix("protocol violation") || outcome.hasPrefix("badPort")
    #expect(isExpected, "\(outcome)")
    #expect(messages.all.isEmpty)
    // Whatever came with the lie is closed again; what was not even taken off the socket, with the connection.
    if lie == .tooManyPorts { server.close() }
    try await eventually("the hang-up of the port that was none") { csupport_socket_is_hung_up(pair.0) == 1 }
    _ = csupport_close(pair.0)
    try await expectServing(listener)
  }

  @Test("9.5 A peer that sends its own end of the connection does not keep it open for ever")
  func ownEnd() async throws {
    let (server, peer, listener) = try await connectByHand()
    let closes = Collected<CloseReason>()
    server.onClose = { closes.append($0) }
    server.onUnhandled = { _ in }
    peer.send(Self.packet([Self.traveller(flags: 0)]), [peer.socket, peer.memory])
    postPort(peer)
    peer.hangUp()
    try await closes.wait(for: 1)
    try await expectServing(listener)
  }

  @Test("9.5 Any number of doorbells before a port do not hide it")
  func doorbells() async throws {
    let (server, peer, _) = try await connectByHand()
    let messages = Collected<ConnectionEvent>()
    var pair: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&pair.0, &pair.1) == 0)
    let memory = Peer.makeMemory()
    defer { for fd in [pair.0, memory] { _ = csupport_close(fd) } }
    for index in 0..<200 { peer.sendBytes([1], index % 10 == 0 ? [memory] : []) }
    #expect(peer.send(Self.packet([Self.traveller()]), [pair.1, memory]) > 0)
    _ = csupport_close(pair.1)
    postPort(peer)
    server.onUnhandled = { messages.append($0) }
    #expect(try await messages.wait(for: 1)[0].ports.count == 1)
  }
}

import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Peers that do not keep to the protocol.
@Suite("Bad input", .serialized, .timeLimit(.minutes(5)))
struct BadInputTests {
  private typealias Peer = HandMadePeer

  // MARK: 8.1 Hello

  @Test("8.1 A client that speaks another version is told so, and the server goes on")
  func clientOfOtherVersion() async throws {
    let listener = try Listener(path: freshPath())
    let peer = try Peer(connectingTo: listener.path)
    peer.send([Peer.helloMagic, 99, .max, 1 << 30], [peer.memory])
    #expect(try await peer.readWords() == [Peer.welcomeMagic, Peer.version | 1 << 32])
    #expect(try await peer.readWords() == [])
    try await expectServing(listener)
  }

  @Test("8.1 A client whose memory is of another version is told so")
  func memoryOfOtherVersion() async throws {
    let listener = try Listener(path: freshPath())
    let peer = try Peer(connectingTo: listener.path)
    let memory = Peer.makeMemory(version: 2)
    peer.send(Peer.hello, [memory])
    _ = csupport_close(memory)
    #expect(try await peer.readWords() == [Peer.welcomeMagic, Peer.version | 1 << 32])
    try await expectServing(listener)
  }

  /// A server made by hand: takes one client's hello and answers with `words`.
  private func answer(_ words: [UInt64], at path: String) async throws -> ConnectionError? {
    let socket = unsafe csupport_socket_listen(path, 8)
    try #require(socket >= 0)
    defer {
      _ = csupport_close(socket)
      unsafe unlink(path)
    }
    async let connecting = Connection.connect(path: path, timeout: generousLimit)
    var accepted: CInt = -1
    try await eventually("a client") {
      accepted = csupport_socket_accept(socket)
      return accepted >= 0
    }
    _ = unsafe words.withUnsafeBytes { unsafe csupport_send_packet(accepted, $0.baseAddress, $0.count, nil, 0) }
    defer { _ = csupport_close(accepted) }
    do {
      _ = try await connecting
      return nil
    } catch let error as ConnectionError {
      return error
    }
  }

  @Test("8.1 A server that speaks another version is a typed error, with both versions")
  func serverOfOtherVersion() async throws {
    let path = freshPath()
    #expect(try await answer([Peer.welcomeMagic, 7 | 1 << 32], at: path) == .versionDiffers(ours: 1, theirs: 7))
    #expect(try await answer([Peer.welcomeMagic, 7], at: path) == .versionDiffers(ours: 1, theirs: 7))
    #expect(try await answer([Peer.welcomeMagic, Peer.version], at: path) == nil)
  }

  @Test("8.1 A server that answers anything else is a typed error",
    arguments: [[], [1], [1, 2], [HandMadePeer.welcomeMagic], [HandMadePeer.welcomeMagic, 1 | 77 << 32],
      [HandMadePeer.welcomeMagic, 1, 0]] as [[UInt64]])
  func serverOfAnotherKind(_ words: [UInt64]) async throws {
    // An empty packet cannot be sent; then the server says one byte too few for anything.
    let words = words.isEmpty ? [0] : words
    #expect(try await answer(words, at: freshPath()) == .notAMessagePort)
  }

  @Test("8.1 A server on a stream socket is a typed error, and is not taken over")
  func streamServer() async throws {
    let path = freshPath()
    let socket = Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC, 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
    let result = unsafe withUnsafePointer(to: &address) {
      unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
    }
    try #require(result == 0 && listen(socket, 8) == 0)
    defer {
      close(socket)
      unsafe unlink(path)
    }
    await #expect(throws: ConnectionError.notAMessagePort) { try await Connection.connect(path: path, timeout: generousLimit) }
    #expect(throws: ConnectionError.nameInUse(path: path)) { try Listener(path: path) }
  }

  enum Garbage: CaseIterable {
    case byte, wrongMagic, short, long, hugeMessageLimit, negativeQueueLimit, noMemory, twoMemories, pipe, device,
      unsealedFile, wrongMemoryMagic, hugeCapacity, oddCapacity, shortMemory, emptyMemory, ownSocket
  }

  @Test("9.5 A hello that makes no sense is refused, its descriptors are closed, and the server goes on",
    arguments: Garbage.allCases)
  func garbageHello(_ garbage: Garbage) async throws {
    // With POSIX shared memory, unsealed files are what peers have.
    if garbage == .unsealedFile, unsafe getenv("MESSAGEPORTS_BACKING").map({ unsafe strcmp($0, "posixSharedMemory") }) == 0 { return }
    let listener = try Listener(path: freshPath())
    let peer = try Peer(connectingTo: listener.path)
    var owned: [CInt] = []
    defer { owned.forEach { _ = csupport_close($0) } }
    func made(_ fd: CInt) -> [CInt] {
      owned.append(fd)
      return [fd]
    }
    switch garbage {
    case .byte: peer.sendBytes([7])
    case .wrongMagic: peer.send([1, 1, .max, 1 << 30], [peer.memory])
    case .short: peer.send([Peer.helloMagic, 1, .max], [peer.memory])
    case .long: peer.send(Peer.hello + [0], [peer.memory])
    case .hugeMessageLimit: peer.send([Peer.helloMagic, 1, .max, .max], [peer.memory])
    case .negativeQueueLimit: peer.send([Peer.helloMagic, 1, .max - 1, 1 << 30], [peer.memory])
    case .noMemory: peer.send(Peer.hello)
    case .twoMemories: peer.send([Peer.helloMagic, 1, .max, .max], [peer.memory, peer.memory])
    case .pipe:
      var ends: [CInt] = [-1, -1]
      _ = unsafe Glibc.pipe(&ends)
      owned = ends
      peer.send(Peer.hello, [ends[0]])
    case .device: peer.send(Peer.hello, made(unsafe open("/dev/zero", O_RDWR | O_CLOEXEC)))
    case .unsealedFile: peer.send(Peer.hello, made(Peer.makeMemory(isSealed: false)))
    case .wrongMemoryMagic: peer.send(Peer.hello, made(Peer.makeMemory(magic: 1)))
    case .hugeCapacity: peer.send(Peer.hello, made(Peer.makeMemory(capacity: 1 << 30)))
    case .oddCapacity: peer.send(Peer.hello, made(Peer.makeMemory(capacity: 1537)))
    case .shortMemory: peer.send(Peer.hello, made(Peer.makeMemory(capacity: 65536)))
    case .emptyMemory: peer.send(Peer.hello, made(csupport_memory_create_sealed(0)))
    case .ownSocket: peer.send(Peer.hello, [peer.socket])
    }
    let answer = try await peer.readWords()
    #expect(answer == [Peer.welcomeMagic, Peer.version | 3 << 32], "malformed")
    #expect(try await peer.readWords() == [])
    try await expectServing(listener)
  }

  @Test("9.5 A client that says nothing holds nobody up, and is sent away in the end")
  func silentClients() async throws {
    let listener = try Listener(path: freshPath())
    let peers = try (0..<20).map { _ in try Peer(connectingTo: listener.path) }
    try await expectServing(listener)
    for peer in peers { #expect(try await peer.readWords(within: generousLimit) == []) }
    try await expectServing(listener)
  }

  @Test("9.5 Clients that come and go without a word leave no descriptors behind")
  func comeAndGo() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let listener = try Listener(path: freshPath())
        try await expectServing(listener)
        let before = Resources.now().descriptors
        for index in 0..<200 {
          let peer = try HandMadePeer(connectingTo: listener.path)
          if index % 2 == 0 { peer.sayHello() }
          peer.hangUp()
        }
        // Every second one was a connection for a moment.
        for _ in 0..<100 { _ = try await listener.next() }
        try await eventually("the descriptors' return") { Resources.now().descriptors <= before + 2 }
        try await expectServing(listener)
      }
    }
  }

  // MARK: 9.5 On a connection

  /// A server's end, and a hand-made client that it has let in.
  private func connect() async throws -> (server: Connection, peer: Peer, listener: Listener) {
    let listener = try Listener(path: freshPath())
    let peer = try Peer(connectingTo: listener.path)
    try await peer.shakeHands()
    return (try await listener.next(), peer, listener)
  }

  /// Lets the hand-made peer do `something`, and expects that it costs it its connection, and nobody else anything.
  private func expectViolation(
    startedFirst: Bool = true, sourceLocation: SourceLocation = #_sourceLocation, _ something: (Peer) -> Void
  ) async throws {
    let (server, peer, listener) = try await connect()
    let bystander = try await Connection.connect(path: listener.path, timeout: generousLimit)
    let other = try await listener.next()
    let closes = Collected<CloseReason>()
    let messages = Collected<ConnectionEvent>()
    server.onClose = { closes.append($0) }
    if startedFirst {
      server.onUnhandled = { messages.append($0) }
      try await Task.sleep(for: .milliseconds(5))  // The loop is asleep, and has to be woken.
    }
    something(peer)
    if !startedFirst { server.onUnhandled = { messages.append($0) } }
    let reason = try await closes.wait(for: 1)[0]
    guard case .protocolViolation = reason else {
      Issue.record("closed for another reason: \(reason)", sourceLocation: sourceLocation)
      return
    }
    #expect(messages.all.isEmpty, sourceLocation: sourceLocation)
    // The liar has been hung up on, and the others notice nothing.
    #expect(try await peer.readWords() == [], sourceLocation: sourceLocation)
    try await expectWorking(bystander, other, sourceLocation: sourceLocation)
  }

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
    let (server, peer, listener) = try await connect()
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

  // MARK: 9.5 Ports

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
    let (server, peer, _) = try await connect()
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
    if lie == .unsealedMemory, unsafe getenv("MESSAGEPORTS_BACKING").map({ unsafe strcmp($0, "posixSharedMemory") }) == 0 { return }
    let (server, peer, listener) = try await connect()
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
    let (server, peer, listener) = try await connect()
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
    let (server, peer, _) = try await connect()
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

  @Test("9.5 Nonsense in the words that are only for inspection, or for waking, does no harm")
  func otherWords() async throws {
    let (server, peer, _) = try await connect()
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

  // MARK: 9.5 Names

  @Test("9.5 A message without a proper name goes to the error handler, and the connection goes on",
    arguments: [[], [1], [0xff, 0xff], [3, 0, 65], [2, 0, 0xc3, 0x28], [1, 4]] as [[UInt8]])
  func badNames(_ bytes: [UInt8]) async throws {
    let (server, peer, _) = try await connect()
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

/// A listener still lets clients in and talks to them.
func expectServing(_ listener: Listener, sourceLocation: SourceLocation = #_sourceLocation) async throws {
  let client = try await Connection.connect(path: listener.path, timeout: generousLimit)
  try await expectWorking(client, try await listener.next(), sourceLocation: sourceLocation)
  client.close()
}

import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Clients and servers that do not keep to the protocol when they meet.
@Suite("Bad hellos", .serialized, .timeLimit(.minutes(5)))
struct BadHelloTests {
  private typealias Peer = HandMadePeer

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
    let memory = Peer.makeMemory(version: Peer.version + 1)
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
    async let connecting = Connection.connect(path: path, timeout: patience)
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
    #expect(
      try await answer([Peer.welcomeMagic, 7 | 1 << 32], at: path)
        == .versionDiffers(ours: UInt32(Peer.version), theirs: 7))
    #expect(
      try await answer([Peer.welcomeMagic, 7], at: path) == .versionDiffers(ours: UInt32(Peer.version), theirs: 7))
    #expect(try await answer([Peer.welcomeMagic, Peer.version], at: path) == nil)
  }

  @Test(
    "8.1 A server that answers anything else is a typed error",
    arguments: [
      [], [1], [1, 2], [HandMadePeer.welcomeMagic], [HandMadePeer.welcomeMagic, 1 | 77 << 32],
      [HandMadePeer.welcomeMagic, 1, 0],
    ] as [[UInt64]])
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
      unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe bind(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(result == 0 && listen(socket, 8) == 0)
    defer {
      close(socket)
      unsafe unlink(path)
    }
    await #expect(throws: ConnectionError.notAMessagePort) {
      try await Connection.connect(path: path, timeout: patience)
    }
    #expect(throws: ConnectionError.nameInUse(path: path)) { try Listener(path: path) }
  }

  enum Garbage: CaseIterable {
    case byte, wrongMagic, short, long, hugeMessageLimit, negativeQueueLimit, noMemory, twoMemories, pipe, device,
      unsealedFile, wrongMemoryMagic, hugeCapacity, oddCapacity, shortMemory, emptyMemory, ownSocket
  }

  @Test(
    "9.5 A hello that makes no sense is refused, its descriptors are closed, and the server goes on",
    arguments: Garbage.allCases)
  func garbageHello(_ garbage: Garbage) async throws {
    let listener = try Listener(path: freshPath(), options: Scene.options)
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
    case .short: peer.send([Peer.helloMagic, Peer.version, .max], [peer.memory])
    case .long: peer.send(Peer.hello + [0], [peer.memory])
    case .hugeMessageLimit: peer.send([Peer.helloMagic, Peer.version, .max, .max], [peer.memory])
    case .negativeQueueLimit: peer.send([Peer.helloMagic, Peer.version, .max - 1, 1 << 30], [peer.memory])
    case .noMemory: peer.send(Peer.hello)
    case .twoMemories: peer.send([Peer.helloMagic, Peer.version, .max, .max], [peer.memory, peer.memory])
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
    try await expectServing(listener, options: Scene.options)
  }

  @Test("9.5 A client that says nothing holds nobody up, and is sent away in the end")
  func silentClients() async throws {
    let listener = try Listener(path: freshPath())
    let peers = try (0..<20).map { _ in try Peer(connectingTo: listener.path) }
    try await expectServing(listener)
    for peer in peers { #expect(try await peer.readWords() == []) }
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
}

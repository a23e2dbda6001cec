import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// What comes before there is a channel.
@Suite("Hostile handshakes", .serialized, .timeLimit(.minutes(3)))
struct HostileHelloTests {
  private static let welcomeMagic: UInt64 = 0x4d4f_434c_4557_4d01

  /// Connects to the listener and says something, with descriptors; what it answers.
  private func answer(_ listener: Listener, _ words: [UInt64], _ fds: [CInt]) async throws -> [UInt64]? {
    let socket = unsafe csupport_socket_connect(listener.path)
    try #require(socket >= 0)
    defer { _ = csupport_close(socket) }
    let bytes = words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    let sent = unsafe csupport_send_packet(socket, bytes, bytes.count, fds, fds.count)
    #expect(sent == bytes.count)
    var answer: [UInt64]?
    try await eventually("an answer") {
      var received = csupport_received()
      var words: [UInt64] = [0, 0]
      let result = unsafe csupport_receive_packet(socket, &words, 16, nil, 0, &received)
      if result == 1 { answer = words }
      return result >= 0
    }
    return answer
  }

  @Test("A hello with anything wrong in it is answered with a refusal, and the next connection is made")
  func hello() async throws {
    let loop = EventLoop(name: "hello")
    defer { loop.stop() }
    let listener = try Listener(path: freshPath(".socket"), options: Scene.options, loop: loop)
    defer { listener.close() }
    let memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    let unsealed = try ChannelMemory.make(laneCapacity: 0, backing: .posixSharedMemory)
    let version = UInt64(RingLayout.version)
    let good = [Scene.helloMagic, version, .max, 1 << 20]
    func changed(_ index: Int, _ value: UInt64) -> [UInt64] {
      var words = good
      words[index] = value
      return words
    }
    let (welcome, versionDiffers, malformed) = (0, 1, 3) as (UInt64, UInt64, UInt64)
    let hellos: [(String, [UInt64], [CInt], UInt64)] = [
      ("correct", good, [memory.fd], welcome),
      ("with more descriptors", good, [memory.fd, memory.fd, memory.fd], welcome),
      ("wrong magic", changed(0, 1), [memory.fd], malformed),
      ("short", [Scene.helloMagic], [memory.fd], malformed),
      ("without limits", Array(good[..<3]), [memory.fd], malformed),
      ("long", good + [0], [memory.fd], malformed),
      ("very long", good + [UInt64](repeating: 0, count: 1000), [memory.fd], malformed),
      ("another version", changed(1, version + 1), [memory.fd], versionDiffers),
      ("version zero, and nothing else", [Scene.helloMagic, 0], [], versionDiffers),
      ("mad queue limit", changed(2, 1 << 63), [memory.fd], malformed),
      ("mad message limit", changed(3, 1 << 35), [memory.fd], malformed),
      ("no descriptor", good, [], malformed),
      ("a socket as memory", good, [0], malformed),
      ("unsealed memory", good, [unsealed.fd], malformed),
    ]
    for (name, words, fds, verdict) in hellos {
      var fds = fds
      var own: [CInt] = []
      if name.hasPrefix("a socket") {
        var pair: (CInt, CInt) = (-1, -1)
        #expect(unsafe csupport_socket_pair(&pair.0, &pair.1) == 0)
        own = [pair.0, pair.1]
        fds = [pair.0]
      }
      let answer = try await answer(listener, words, fds)
      for fd in own { _ = csupport_close(fd) }
      #expect(answer == [Self.welcomeMagic, version | verdict << 32], "\(name): \(String(describing: answer))")
    }
    // Others hang up at once, or send the packet that looks like an end.
    for _ in 0..<50 {
      let socket = unsafe csupport_socket_connect(listener.path)
      try #require(socket >= 0)
      if socket % 2 == 0 { unsafe Glibc.send(socket, [0 as UInt8], 0, 0) }
      _ = csupport_close(socket)
    }
    let connection = try await Connection.connect(path: listener.path, options: Scene.options)
    #expect(!connection.isClosed)
  }

  @Test("Clients that say nothing cost no processor, and do not keep others waiting")
  func silence() async throws {
    let scene = try await Scene()
    var sockets: [CInt] = []
    for _ in 0..<50 { sockets.append(unsafe csupport_socket_connect(scene.listener.path)) }
    defer { for socket in sockets { _ = csupport_close(socket) } }
    #expect(sockets.allSatisfy { $0 >= 0 })
    // One of them shuts half of it.
    shutdown(sockets[0], CInt(SHUT_WR))
    shutdown(sockets[1], CInt(SHUT_RD))
    let use = try await scene.loopUse()
    #expect(use < 0.2, "\(use) of a processor")
    try await scene.checkFriend()
    _ = try await Connection.connect(path: scene.listener.path, options: Scene.options)
  }

  @Test("8.1 Of thousands of clients that say nothing, few are kept, and others are let in meanwhile")
  func manySilent() async throws {
    let scene = try await Scene()
    let sockets = Collected<CInt>()
    defer { for socket in sockets.all { _ = csupport_close(socket) } }
    // The newest are kept: whoever has something to say has hardly connected when it says it.
    for _ in 0..<20 {
      for _ in 0..<50 {
        let socket = unsafe csupport_socket_connect(scene.listener.path)
        if socket >= 0 { sockets.append(socket) }
      }
      _ = try await Connection.connect(path: scene.listener.path, options: Scene.options)
    }
    try #require(sockets.count > 500)
    try await eventually("the oldest to be hung up on") {
      sockets.all.count { csupport_socket_is_hung_up($0) == 0 } <= 128
    }
    #expect(csupport_socket_is_hung_up(sockets.all.last!) == 0)
    try await scene.checkFriend()
  }

  @Test("A server that answers with anything but a welcome is no message port")
  func welcome() async throws {
    let version = UInt64(RingLayout.version)
    let answers: [(String, [UInt64]?, @Sendable (ConnectionError) -> Bool)] = [
      ("garbage", [1, 2], { $0 == .notAMessagePort }),
      ("short", [Self.welcomeMagic], { $0 == .notAMessagePort }),
      ("long", [Self.welcomeMagic, version, 0], { $0 == .notAMessagePort }),
      ("an unknown verdict", [Self.welcomeMagic, version | 77 << 32], { $0 == .notAMessagePort }),
      (
        "another version", [Self.welcomeMagic, version + 1],
        {
          if case .versionDiffers(_, let theirs) = $0 { theirs == RingLayout.version + 1 } else { false }
        }
      ),
      ("nothing", [], { if case .noServer = $0 { true } else { false } }),
      ("the end", nil, { if case .noServer = $0 { true } else { false } }),
    ]
    for (name, words, isRight) in answers {
      let path = freshPath(".socket")
      let listening = unsafe csupport_socket_listen(path, 10)
      try #require(listening >= 0)
      let isOver = Flag()
      defer {
        isOver.set()
        unsafe unlink(path)
      }
      startThread {
        var accepted: [CInt] = []
        while !isOver.isSet {
          let socket = csupport_socket_accept(listening)
          guard socket >= 0 else {
            usleepBriefly(1000)
            continue
          }
          guard let words else {
            _ = csupport_close(socket)
            continue
          }
          accepted.append(socket)
          if !words.isEmpty { _ = unsafe csupport_send_packet(socket, words, words.count * 8, [socket], 1) }
        }
        for socket in accepted + [listening] { _ = csupport_close(socket) }
      }
      do {
        _ = try await Connection.connect(path: path, timeout: .milliseconds(300))
        Issue.record("connected to \(name)")
      } catch {
        #expect(isRight(error), "\(name): \(error)")
      }
    }
  }
}

/// Descriptors and mappings, in a process where nothing else goes on.
@Suite("Hostile peers' leftovers", .serialized, .timeLimit(.minutes(3)))
struct HostileLeftoverTests {
  @Test("After all kinds of attacks, the victim holds what it held before")
  func leftovers() async {
    await #expect(processExitsWith: .success) {
      func attack() async throws {
        let scene = try await Scene()
        for style in Style.allCases {
          for record in HostileRecordsTests.Record.allCases {
            let (port, far) = try await scene.makePort()
            let told = try listen(port, style, on: scene.loop)
            record.put(on: far)
            far.signal()
            try await told.wait(for: 1)
          }
        }
        var scenes = [scene]
        for style in [Style.handler, .reader] {
          let other = try await Scene()
          scenes.append(other)
          for packet in HostileRecordsTests.Packet.allCases {
            let (port, far) = try await other.makePort()
            let told = try listen(port, style, on: other.loop)
            for _ in 0..<20 { far.send([1], [far.memory.fd, far.memory.fd]) }
            try far.post([5]) { try packet.send(over: far) }
            try await told.wait(for: 1)
            far.hangUp()
            try await eventually("the close") { told.all.contains { if case .close = $0 { true } else { false } } }
          }
        }
        for scene in scenes {
          scene.listener.close()
          scene.connection.close()
        }
      }
      // The first time makes what a process makes once for ever.
      try await attack()
      try await Task.sleep(for: .milliseconds(100))
      let before = Resources.now()
      try await attack()
      try await eventually("what was held before: \(before)") {
        let now = Resources.now()
        return now.descriptors <= before.descriptors && now.mappings <= before.mappings + 4
      }
    }
  }
}

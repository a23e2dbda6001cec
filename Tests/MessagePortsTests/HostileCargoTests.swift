import CSupport
import CTestSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// Not in Glibc, as Swift sees it.
private let O_PATH: CInt = 0o10000000

/// A peer that sends descriptors: too few, too many, unasked, or of a kind that is trouble.
@Suite("Hostile cargo", .serialized, .timeLimit(.minutes(3)))
struct HostileCargoTests {
  // MARK: - Kinds

  enum Kind: String, CaseIterable, Sendable, CustomStringConvertible {
    case lingering, path, memory, process, ownSocket, ownMemory, directory, eventLoop, otherEnd
    var description: String { rawValue }

    /// What travels, and what has to be let go once it is on its way.
    func make(_ far: RawEnd, _ near: CInt) -> (fd: CInt, letGo: () -> Void) {
      switch self {
      case .lingering:
        let socket = LingeringSocket()
        return (socket.descriptor, { socket.letGo() })
      case .path: return own(unsafe open("/etc/passwd", O_PATH | O_CLOEXEC))
      case .memory: return own(csupport_memory_create_sealed(4096))
      case .process: return own(csupport_pidfd_open(getpid()))
      case .ownSocket: return (far.socket, {})
      case .ownMemory: return (far.memory.fd, {})
      case .directory: return own(unsafe open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC))
      case .eventLoop: return own(csupport_epoll_create())
      case .otherEnd: return (near, {})
      }
    }

    private func own(_ fd: CInt) -> (CInt, () -> Void) {
      precondition(fd >= 0)
      return (fd, { _ = csupport_close(fd) })
    }
  }

  @Test(
    "11.4 A descriptor of whatever kind arrives as one, and costs nobody anything, also when nobody takes it",
    arguments: Kind.allCases, Style.allCases)
  func kinds(_ kind: Kind, _ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    var pair: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&pair.0, &pair.1) == 0)
    let ends = Descriptors([pair.0, pair.1])
    let (fd, letGo) = kind.make(far, ends.all[0])
    far.post([1], ports: 0, descriptors: 3) {
      #expect(far.send(words: [ForgedPort.header(0, descriptors: 3)], [fd, fd, fd]) > 0)
    }
    letGo()
    far.post([2])
    #expect(try await told.wait(for: 2) == [.message([1], ports: 0), .message([2], ports: 0)])
    try await scene.checkFriend()
    far.hangUp()
    #expect(try await told.wait(for: 3)[2] == .close("peer exited"))
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test("11.4 Nor does a descriptor that takes a minute to close, wherever the victim lets go of it")
  func slowToClose() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    port.setEventLoop(scene.loop)
    let slow = LingeringSocket()
    let kept = Collected<Descriptor>()
    port.onMessage = { event in
      switch event.bytes {
      case [1]: break  // goes with the event, on the loop
      case [2]: for descriptor in event.descriptors { descriptor.close() }
      default: for descriptor in event.descriptors { kept.append(descriptor) }
      }
    }
    for number in 1...3 as ClosedRange<UInt8> {
      far.post([number], ports: 0, descriptors: 2) {
        far.send(words: [ForgedPort.header(0, descriptors: 2)], [slow.descriptor, slow.descriptor])
      }
    }
    try await kept.wait(for: 2)
    slow.letGo()
    // The last ones, handed on within the process, discarded there, and sent to nobody.
    let channel = try MessageChannel()
    try channel.port1.postMessage(descriptors: [kept.all[0]])
    try patiently("the close of a port") { _ in channel.port2.close() }
    try patiently("a post") { _ in try channel.port1.postMessage(descriptors: [kept.all[1]]) }
    kept.removeAll()
    try await scene.checkFriend()
  }

  // MARK: - Numbers

  /// What comes with a record that announces two descriptors.
  enum Packet: String, CaseIterable, Sendable, CustomStringConvertible {
    case none, fewer, more, manyMore, asPorts, otherCount, otherMagic, longer, withPort
    var description: String { rawValue }

    func send(over far: RawEnd, _ fd: CInt) {
      let header = ForgedPort.header(0, descriptors: 2)
      let two = [fd, fd]
      switch self {
      case .none: far.send(words: [header])
      case .fewer: far.send(words: [header], [fd])
      case .more: far.send(words: [header], two + [fd])
      case .manyMore: far.send(words: [header], [CInt](repeating: fd, count: 253))
      case .asPorts: far.send(words: [ForgedPort.header(1)] + [UInt64](repeating: 0, count: 16), two)
      case .otherCount: far.send(words: [ForgedPort.header(0, descriptors: 3)], two + [fd])
      case .otherMagic: far.send(words: [header ^ 1], two)
      case .longer: far.send(words: [header, 0], two)
      case .withPort: far.send(words: [ForgedPort.header(1, descriptors: 2)] + [UInt64](repeating: 0, count: 16), two)
      }
    }
  }

  @Test(
    "11.4 A packet that is not what its record announces ends the channel, and what came with it is closed",
    arguments: Packet.allCases, Style.allCases)
  func otherPacket(_ packet: Packet, _ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let pipe = try TestPipe()
    try pipe.reader.withDescriptor { fd in
      far.post([1], ports: 0, descriptors: 2) { packet.send(over: far, fd) }
    }
    pipe.reader.close()
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    try await pipe.expectReadersClosed()
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  /// There is room for it: a port that has a part of a message comes with one.
  @Test(
    "11.4 A packet with a right port and one descriptor too many ends the channel, and that is closed",
    arguments: Style.allCases)
  func oneMoreThanPort(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let pipe = try TestPipe()
    let other = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    var sockets: (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    let forged = ForgedPort(try RawEnd(other, end: 0, owning: sockets.0), near: sockets.1)
    try pipe.reader.withDescriptor { fd in
      far.post([1]) { #expect(far.send(words: [ForgedPort.header(1)] + forged.words, forged.fds + [fd]) > 0) }
    }
    pipe.reader.close()
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    try await pipe.expectReadersClosed()
    _ = csupport_close(sockets.1)
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test(
    "11.4 A record that announces more than a packet can bring ends the channel",
    arguments: [(0, 254), (0, 255), (1, 251), (126, 1), (127, 0), (255, 255)])
  func tooMany(_ count: (ports: UInt16, descriptors: UInt8)) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    far.post(word(.message, 0, ports: count.ports, descriptors: count.descriptors))
    #expect(try await told.wait(for: 1)[0].isViolation)
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test("11.4 Descriptors that nobody announces end the channel, and are closed", arguments: Style.allCases)
  func uninvited(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let pipe = try TestPipe()
    try pipe.reader.withDescriptor { fd in
      #expect(far.send(words: [ForgedPort.header(0, descriptors: 2)], [fd, fd]) > 0)
    }
    pipe.reader.close()
    far.post([1])
    _ = try await onThread { try told.wait("a violation") { $0.last?.isViolation == true } }
    try await pipe.expectReadersClosed()
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test(
    "2.2, 11.4 A message whose descriptors are withdrawn is never seen, and the next has its own",
    arguments: Style.allCases)
  func withdrawn(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let pipe = try TestPipe()
    far.put(word(.message, 1, descriptors: 5), [1])
    far.signal()
    far.put(word(.withdrawal))
    try pipe.reader.withDescriptor { fd in
      far.post([2], ports: 0, descriptors: 1) { far.send(words: [ForgedPort.header(0, descriptors: 1)], [fd]) }
    }
    #expect(try await told.wait(for: 1) == [.message([2], ports: 0)])
    withExtendedLifetime(port) {}
  }

  @Test("11.4 A handler that takes nothing keeps nothing, however many a peer sends, and others have their turns")
  func flood() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let scene = try await Scene()
        let (port, far) = try await scene.makePort(laneCapacity: 1 << 20)
        let told = try listen(port, .handler, on: scene.loop)
        let pipe = try TestPipe()
        let before = Resources.now().descriptors
        try pipe.reader.withDescriptor { fd in
          let fds = [CInt](repeating: fd, count: 253)
          for number in 0..<200 {
            far.put(word(.message, 1, descriptors: 253), [1])
            var isSent = false
            while !isSent {
              isSent = far.send(words: [ForgedPort.header(0, descriptors: 253)], fds) > 0
              far.signal()
              if !isSent { usleepBriefly(1000) }
            }
            if number % 50 == 0 { #expect(Resources.now().descriptors - before < 2000) }
          }
        }
        try await scene.checkFriend()
        try await told.wait(for: 200)
        try await scene.checkFriend()
        pipe.reader.close()
        try await pipe.expectReadersClosed()
        withExtendedLifetime(port) {}
      }
    }
  }
}

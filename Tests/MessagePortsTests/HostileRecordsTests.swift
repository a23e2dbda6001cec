import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// A peer that posts correctly, and then something that no correct peer posts. Every kind of victim says so, and nothing
/// else suffers.
@Suite("Hostile peers", .serialized, .timeLimit(.minutes(3)))
struct HostileRecordsTests {
  /// What the peer puts on the ring instead of a message.
  enum Record: String, CaseIterable, Sendable, CustomStringConvertible {
    case unknownKind, highByte, tooLong, badPad, padsForEver, badLink, linkBeyondTheFile, middleFirst, lastFirst
    case hugeMessage, firstTwice, fragmentsExceed, fragmentsFallShort, tooManyPorts, mostPorts, portsNeverSent
    case portsOnAFragment
    var description: String { rawValue }

    func put(on end: RawEnd) {
      let room = end.memory.laneCapacity - end.offset
      switch self {
      case .unknownKind: end.put(word(99))
      case .highByte: end.put(word(1, 8, high: 1), [1, 2, 3, 4, 5, 6, 7, 8])
      case .tooLong: end.put(word(.message, UInt32(room)))
      case .badPad: end.put(word(.pad, UInt32(room - 16)))
      case .padsForEver:
        end.store(word(.pad, UInt32(end.memory.laneCapacity - 8)), at: 0)
        end.put(word(.pad, UInt32(room - 8)))
      case .badLink: end.put(word(.link, 16), words: [4096, 4096])
      case .linkBeyondTheFile: end.put(word(.link, 16), words: [RingLayout.regionOffset(lane: end.end), 4096])
      case .middleFirst: end.put(word(.middleFragment, 8), words: [0])
      case .lastFirst: end.put(word(.lastFragment, 8), words: [0])
      case .hugeMessage: end.put(word(.firstFragment, 16), words: [1 << 60, 0])
      case .firstTwice: for _ in 0..<2 { end.put(word(.firstFragment, 16), words: [100, 0]) }
      case .fragmentsExceed:
        end.put(word(.firstFragment, 16), words: [20, 0])
        end.put(word(.lastFragment, 16), words: [0, 0])
      case .fragmentsFallShort:
        end.put(word(.firstFragment, 16), words: [20, 0])
        end.put(word(.lastFragment, 8), words: [0])
      case .tooManyPorts: end.put(word(.message, 0, ports: 127))
      case .mostPorts: end.put(word(.message, 0, ports: .max))
      case .portsNeverSent:
        end.put(word(.message, 0, ports: 1))
        end.put(word(.message, 0))
      case .portsOnAFragment:
        end.put(word(.firstFragment, 16), words: [20, 0])
        end.put(word(.lastFragment, 12, ports: 1), words: [0, 0])
        end.put(word(.message, 0))
      }
    }
  }

  @Test("A forged record ends its own channel with a protocol violation, and no other", arguments: Style.allCases)
  func forgedRecords(_ style: Style) async throws {
    let scene = try await Scene()
    // The ports are kept: whoever lets go of one hangs up as well.
    var ends: [(record: Record, port: MessagePort, far: RawEnd, told: Collected<Told>)] = []
    for record in Record.allCases {
      let (port, far) = try await scene.makePort()
      let told = try listen(port, style, on: scene.loop)
      far.post([1, 2, 3])
      try await told.wait(for: 1)
      record.put(on: far)
      // The victim believes nothing of what comes after it.
      far.put(word(.message, 1), [9])
      far.signal()
      ends.append((record, port, far, told))
    }
    for (record, port, far, told) in ends {
      let all: [Told]
      do {
        all = try await told.wait(for: 2)
      } catch {
        Issue.record("\(record): nothing after \(told.all)")
        continue
      }
      #expect(all.first == .message([1, 2, 3], ports: 0), "\(record)")
      #expect(all.count == 2 && all[1].isViolation, "\(record): \(all)")
      // And the attacker sees that it was hung up on.
      try await eventually("hang-up after \(record)") { csupport_socket_is_hung_up(far.socket) == 1 }
      withExtendedLifetime(port) {}
    }
    try await scene.checkFriend()
    #expect(scene.closes.count == 0)
  }

  @Test("A forged record on a connection closes the connection, and the next can be made")
  func forgedOnConnection() async throws {
    let scene = try await Scene()
    scene.carrier.put(word(99))
    scene.carrier.signal()
    let reasons = try await scene.closes.wait(for: 1)
    guard case .protocolViolation = reasons[0] else {
      Issue.record("\(reasons)")
      return
    }
    try await scene.checkFriend()
    let another = try await Connection.connect(path: scene.listener.path, options: Scene.options)
    #expect(!another.isClosed)
    #expect(scene.closes.count == 1)
  }

  // MARK: - Packets

  /// What the peer sends along with a message that announces one port.
  enum Packet: String, CaseIterable, Sendable, CustomStringConvertible {
    case wrongMagic, countDiffers, tooShort, headerOnly, tooLong, noDescriptors, oneDescriptor, swapped
    case pipeAsSocket, streamAsSocket, listeningSocket, fileAsSocket, pipeAsMemory, socketAsMemory, unsealedMemory
    case otherMemory, otherMemoryVersion, shortMemory, oneTooMany, unknownFlags, hugeMessageLimit, negativeQueueLimit
    case cursorUnaligned, cursorBeyond, cursorBehindRing, positionOverflows, positionBeforeSegment, capacityDiffers
    case segmentElsewhere, segmentBeforeRegion, segmentBeyondFile, segmentOverflows, hugeCapacity
    case partialFilled, partialWithoutFile, partialLargerThanLimit, nothing, readOnlyMemory
    case sealableMemory, memoryInHugePages, fileOnDisk
    // These concern the message only.
    case manyTooMany, partialTooSmall, partialUnsealed, partialIsAPipe, partialIsAHole
    var description: String { rawValue }

    var isError: Bool {
      switch self {
      case .manyTooMany, .partialTooSmall, .partialUnsealed, .partialIsAPipe, .partialIsAHole: true
      default: false
      }
    }

    /// Returns the far end of what was to be a port, whose near end nobody here holds any more.
    @discardableResult
    func send(over carrier: RawEnd) throws -> RawEnd {
      let memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
      var sockets: (CInt, CInt) = (-1, -1)
      _ = unsafe csupport_socket_pair(&sockets.0, &sockets.1)
      let far = try RawEnd(memory, end: 0, owning: sockets.0)
      var owned = [sockets.1]
      defer { for fd in owned { _ = csupport_close(fd) } }
      var port = ForgedPort(far, near: sockets.1)
      var header = ForgedPort.header(1)
      var count: Int?
      func own(_ fd: CInt) -> CInt {
        owned.append(fd)
        return fd
      }
      func makePipe() -> CInt {
        var ends: [CInt] = [-1, -1]
        unsafe pipe(&ends)
        owned += ends
        return ends[0]
      }
      func file(_ size: UInt64, reserved: Bool = true) -> CInt {
        let fd = own(csupport_memory_create_sealed(size))
        if reserved, size > 0 { _ = csupport_memory_reserve(fd, 0, size) }
        return fd
      }
      func makeMemory(flags: UInt32, bytes: Int, seals: CInt) -> CInt {
        typealias Call = @convention(c) (UnsafePointer<CChar>, UInt32) -> CInt
        let fd = own(unsafe unsafeBitCast(dlsym(nil, "memfd_create"), to: Call.self)("test", 1 | flags))
        ftruncate(fd, bytes)
        _ = fcntl(fd, 1033, seals)  // F_ADD_SEALS
        return fd
      }
      func partial(_ byteCount: UInt64, _ filled: UInt64) {
        port.words[0] |= 0x100
        (port.words[13], port.words[14]) = (byteCount, filled)
      }
      switch self {
      case .wrongMagic: header ^= 1
      case .countDiffers: header = ForgedPort.header(2)
      case .tooShort: count = 10
      case .headerOnly: count = 0
      case .tooLong: port.words += [0]
      case .noDescriptors: port.fds = []
      case .oneDescriptor: port.fds.removeLast()
      case .swapped: port.fds.reverse()
      case .pipeAsSocket: port.fds[0] = makePipe()
      case .streamAsSocket:
        var ends: [CInt] = [-1, -1]
        unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &ends)
        owned += ends
        port.fds[0] = ends[0]
      case .listeningSocket:
        let path = freshPath(".listening")
        port.fds[0] = own(unsafe csupport_socket_listen(path, 1))
        unsafe unlink(path)
      // It could be sealed later, so that its segments cannot be mapped.
      case .sealableMemory: port.fds[1] = makeMemory(flags: 2, bytes: 4096, seals: 2)
      case .memoryInHugePages: port.fds[1] = makeMemory(flags: 2 | 4, bytes: 2 << 20, seals: 3)
      case .fileOnDisk:
        let path = freshPath()
        port.fds[1] = own(unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
        ftruncate(port.fds[1], 4096)
        unsafe unlink(path)
      case .fileAsSocket: port.fds[0] = memory.fd
      case .pipeAsMemory: port.fds[1] = makePipe()
      case .socketAsMemory: port.fds[1] = sockets.1
      case .unsealedMemory: port.fds[1] = own(csupport_memory_create_unlinked(4096))
      case .otherMemory: port.fds[1] = file(4096)
      case .otherMemoryVersion: port.fds[1] = own(HandMadePeer.makeMemory(version: HandMadePeer.version + 1))
      case .shortMemory: port.fds[1] = file(100)
      case .oneTooMany: port.fds.append(sockets.1)
      case .unknownFlags: port.words[0] |= 1 << 20
      case .hugeMessageLimit: port.words[2] = 1 << 40
      case .negativeQueueLimit: port.words[1] = 1 << 63
      case .cursorUnaligned: port.words[5] = 4
      case .cursorBehindRing: port.words[10] = 1536
      case .positionOverflows: port.words[6] = UInt64(Int64.max)
      case .cursorBeyond: (port.words[10], port.words[11]) = (1536, 1536)
      case .positionBeforeSegment: port.words[7] = 8
      case .segmentElsewhere: port.words[3] = 1 << 40
      case .segmentBeforeRegion: (port.words[3], port.words[4]) = (4096, 4096)
      case .segmentBeyondFile: (port.words[3], port.words[4]) = (2 << 40, 4096)
      case .segmentOverflows: (port.words[3], port.words[4]) = (.max - 4095, 4096)
      case .hugeCapacity: (port.words[3], port.words[4]) = (2 << 40, 1 << 40)
      case .nothing:
        // Whatever follows says that it was never sent.
        carrier.put(word(.message, 1), [9])
        return far
      case .capacityDiffers: port.words[9] = 4096
      case .partialFilled:
        partial(100, 100)
        port.fds.insert(file(100), at: 0)
      case .partialWithoutFile: partial(100, 50)
      case .partialLargerThanLimit:
        partial(2 << 20, 50)
        port.fds.insert(file(100), at: 0)
      case .manyTooMany: port.fds += [CInt](repeating: sockets.1, count: 200)
      case .partialTooSmall:
        partial(100, 50)
        port.fds.insert(file(49), at: 0)
      case .partialUnsealed:
        partial(100, 50)
        port.fds.insert(own(csupport_memory_create_unlinked(4096)), at: 0)
      case .partialIsAPipe:
        partial(100, 50)
        port.fds.insert(makePipe(), at: 0)
      case .partialIsAHole:
        // Reading it would take memory that the peer has never had.
        partial(1 << 29, 1 << 28)
        port.words[2] = 1 << 30
        port.fds.insert(file(1 << 28, reserved: false), at: 0)
      case .readOnlyMemory: port.fds[1] = own(unsafe open("/proc/self/fd/\(memory.fd)", O_RDONLY | O_CLOEXEC))
      }
      carrier.send(words: [header] + port.words.prefix(count ?? .max), port.fds)
      return far
    }
  }

  @Test(
    "A forged packet ends the channel it came on, or costs its message where only the descriptors are at fault",
    arguments: Style.allCases)
  func forgedPackets(_ style: Style) async throws {
    let scene = try await Scene()
    let shared = Resources.sharedKilobytes
    for packet in Packet.allCases {
      let (port, far) = try await scene.makePort()
      let told = try listen(port, style, on: scene.loop)
      try far.post([5]) { try packet.send(over: far) }
      let first = try await told.wait(for: 1)[0]
      #expect(packet.isError ? first.isError : first.isViolation, "\(packet): \(first)")
      guard packet.isError else { continue }
      // The channel goes on, also with ports.
      far.post([6])
      var all = try await told.wait(for: 2)
      #expect(all.last == .message([6], ports: 0), "\(packet): \(all)")
      far.hangUp()
      all = try await told.wait(for: 3)
      #expect(all.last == .close("peer exited"), "\(packet): \(all)")
    }
    // Other tests share this process: only if each of the packets kept its memory would it show. The next test counts.
    try await eventually("the memory of refused ports to be given back") {
      Resources.sharedKilobytes < shared + 600_000
    }
    try await scene.checkFriend()
  }

  @Test("Of the descriptors and the memory that come with forged packets, announced or not, nothing is left")
  func forgedPacketsAreCounted() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        @Sendable func attack() async throws {
          for style in Style.allCases {
            let scene = try await Scene()
            for packet in Packet.allCases {
              let (port, far) = try await scene.makePort()
              let told = try listen(port, style, on: scene.loop)
              far.send([1], [far.memory.fd, far.memory.fd])
              try far.post([5]) { try packet.send(over: far) }
              try await told.wait(for: 1)
              // After its ports, packets that are never announced.
              for _ in 0..<2 { try packet.send(over: far) }
              far.hangUp()
              try await told.wait(for: packet.isError ? 2 : 1)
            }
            try await scene.checkFriend()
          }
        }
        // The first time takes what a process takes once and keeps.
        startSymbolizer()
        try await attack()
        let before = Resources.now()
        try await attack()
        try await eventually("\(before)") {
          let now = Resources.now()
          return now.descriptors <= before.descriptors && now.mappings <= before.mappings
        }
      }
    }
  }
}

import CSupport
import Glibc
import SharedRing
import TestSupport
import Testing

// Swift's Glibc module lacks these.
private let O_PATH: CInt = 0x20_0000
private let F_ADD_SEALS: CInt = 1033
private let F_SEAL_SHRINK: CInt = 2
private let F_SEAL_WRITE: CInt = 8
private let F_SEAL_FUTURE_WRITE: CInt = 16

/// A memory file that takes seals, without any.
private func makeUnsealedMemory(flags: UInt32 = 0) -> CInt {
  typealias Call = @convention(c) (UnsafePointer<CChar>, UInt32) -> CInt
  let address = unsafe dlsym(nil, "memfd_create")
  let (closeOnExec, allowSealing) = (1 as UInt32, 2 as UInt32)
  return unsafe unsafeBitCast(address, to: Call.self)("test", closeOnExec | allowSealing | flags)
}

/// What a peer can send instead of a channel's memory.
@Suite("Hostile memory", .timeLimit(.minutes(3)))
struct HostileMemoryTests {
  /// What attaching says; the descriptor is gone in any case.
  private func refusal(_ fd: CInt, trusting: Bool = false) -> AttachError? {
    precondition(fd >= 0, "no descriptor for a test")
    do {
      _ = try ChannelMemory.attach(owning: fd, trustingUnsealed: trusting)
      return nil
    } catch {
      return error
    }
  }

  /// A sealed file of `byteCount` bytes, with an identity in it.
  private func file(
    _ byteCount: UInt64, magic: UInt64 = RingLayout.magic, version: UInt32 = RingLayout.version, capacity: UInt64 = 1536
  ) throws -> CInt {
    let fd = csupport_memory_create_sealed(byteCount)
    if byteCount >= 4096 {
      let page = try Mapping(fd: fd, fileOffset: 0, byteCount: 4096)
      unsafe page.address.storeBytes(of: magic, toByteOffset: CSUPPORT_IDENTITY_MAGIC, as: UInt64.self)
      unsafe page.address.storeBytes(of: version, toByteOffset: CSUPPORT_IDENTITY_VERSION, as: UInt32.self)
      unsafe page.address.storeBytes(of: capacity, toByteOffset: CSUPPORT_IDENTITY_LANE_CAPACITY, as: UInt64.self)
    }
    return fd
  }

  @Test("What is right is accepted, also with memory to spare behind it")
  func right() throws {
    #expect(refusal(try file(4096)) == nil)
    #expect(refusal(try file(4097)) == nil)
    #expect(refusal(try file(1 << 40)) == nil)
    #expect(refusal(try file(1 << 30, capacity: 1 << 20)) == nil)
    #expect(refusal(try file(1 << 32, capacity: 1 << 30)) == nil)
  }

  @Test("Memory that is too short for what it says is refused")
  func tooShort() throws {
    for size in [0, 1, 1024, 4095] as [UInt64] { #expect(refusal(try file(size)) == .tooShort(byteCount: size)) }
    for size in [4096, 8191] as [UInt64] {
      #expect(refusal(try file(size, capacity: 1600)) == .tooShort(byteCount: size))
    }
    #expect(refusal(try file(1 << 31, capacity: 1 << 30)) == .tooShort(byteCount: 1 << 31))
  }

  @Test("A wrong magic number or version is refused as that")
  func identity() throws {
    for magic in [0, 1, .max, RingLayout.magic.byteSwapped, RingLayout.magic ^ 1] as [UInt64] {
      #expect(refusal(try file(4096, magic: magic)) == .notAChannel)
    }
    for version in [0, RingLayout.version - 1, RingLayout.version + 1, .max] as [UInt32] {
      #expect(refusal(try file(4096, version: version)) == .versionDiffers(theirs: version))
    }
  }

  @Test("A capacity that no correct peer chooses is refused")
  func capacities() throws {
    for capacity in [
      0, 1, 64, 1535, 1537, 1472, 1540, 1 << 30 + 64, 1 << 31, 1 << 40, 1 << 62, 1 << 63, .max, .max - 63,
    ] as [UInt64] {
      #expect(refusal(try file(1 << 32, capacity: capacity)) == .implausibleCapacity(capacity))
    }
  }

  @Test("Memory that can shrink is refused, unless its owner is trusted")
  func unsealed() throws {
    let memory = try ChannelMemory.make(laneCapacity: 0, backing: .posixSharedMemory)
    #expect(refusal(fcntl(memory.fd, F_DUPFD_CLOEXEC, 0)) == .notSealed)
    #expect(refusal(fcntl(memory.fd, F_DUPFD_CLOEXEC, 0), trusting: true) == nil)
    let path = freshPath()
    defer { unsafe unlink(path) }
    let plain = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
    #expect(ftruncate(plain, 4096) == 0)
    #expect(refusal(fcntl(plain, F_DUPFD_CLOEXEC, 0)) == .notSealed)
    #expect(refusal(plain, trusting: true) == .notMemory)
  }

  @Test("What is no file at all is refused, even from a trusted peer", arguments: [false, true])
  func notAFile(_ trusting: Bool) throws {
    var pipes: [CInt] = [-1, -1]
    #expect(unsafe pipe(&pipes) == 0)
    var sockets: (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    var others =
      pipes + [sockets.0, sockets.1, csupport_eventfd_create(), csupport_epoll_create(), csupport_pidfd_open(getpid())]
    for path in ["/tmp", "/dev/null", "/dev/zero", "/proc/self/ns/mnt"] {
      unsafe others.append(open(path, O_RDONLY | O_CLOEXEC))
    }
    unsafe others.append(open("/tmp", O_PATH | O_CLOEXEC))
    unsafe others.append(open("/dev/null", O_RDWR | O_CLOEXEC))
    for fd in others {
      let found = refusal(fd, trusting: trusting)
      #expect(found != nil)
      if case .system = found { Issue.record("\(String(describing: found))") }
    }
  }

  @Test("A good file that cannot be used through this descriptor is refused: read-only, write-only, O_PATH")
  func unusable() throws {
    let fd = try file(4096)
    defer { _ = csupport_close(fd) }
    for flags in [O_RDONLY, O_WRONLY, O_PATH] {
      #expect(refusal(unsafe open("/proc/self/fd/\(fd)", flags | O_CLOEXEC)) == .notSealed)
      #expect(refusal(unsafe open("/proc/self/fd/\(fd)", flags | O_CLOEXEC), trusting: true) == .notMemory)
    }
  }

  @Test(
    "Memory with other seals than ours is refused, and memory that takes more of them: it could be sealed later",
    arguments: [false, true])
  func otherSeals(_ trusting: Bool) throws {
    let (seal, shrink, grow, write, future) = (1, F_SEAL_SHRINK, 4, F_SEAL_WRITE, F_SEAL_FUTURE_WRITE) as Seals
    for seals in [
      0, shrink, shrink | grow, shrink | write, shrink | future, seal | shrink | grow, seal | shrink | write,
      seal | shrink | future, seal | grow,
    ] {
      let memory = makeUnsealedMemory()
      #expect(ftruncate(memory, 4096) == 0 && fcntl(memory, F_ADD_SEALS, seals) == 0)
      #expect(refusal(memory, trusting: trusting) == (trusting ? .notMemory : .notSealed), "seals \(seals)")
    }
  }

  private typealias Seals = (CInt, CInt, CInt, CInt, CInt)

  @Test("Memory in huge pages is refused, although it can be sealed as ours is", arguments: [false, true])
  func hugePages(_ trusting: Bool) throws {
    let huge = makeUnsealedMemory(flags: 4)
    try #require(huge >= 0)
    #expect(ftruncate(huge, 2 << 20) == 0 && fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK | 1) == 0)
    #expect(refusal(huge, trusting: trusting) == (trusting ? .notMemory : .notSealed))
  }

  @Test("Memory that is cut off and then sealed, while it is looked at, is refused or whole")
  func cutOffMeanwhile() throws {
    for round in 0..<300 {
      let memory = makeUnsealedMemory()
      #expect(ftruncate(memory, 4096) == 0)
      let page = try Mapping(fd: memory, fileOffset: 0, byteCount: 4096)
      unsafe page.address.storeBytes(of: RingLayout.magic, toByteOffset: CSUPPORT_IDENTITY_MAGIC, as: UInt64.self)
      unsafe page.address.storeBytes(of: RingLayout.version, toByteOffset: CSUPPORT_IDENTITY_VERSION, as: UInt32.self)
      unsafe page.address.storeBytes(of: 1536, toByteOffset: CSUPPORT_IDENTITY_LANE_CAPACITY, as: UInt64.self)
      let theirs = fcntl(memory, F_DUPFD_CLOEXEC, 0)
      let isAbout = Flag()
      let isDone = Flag()
      startThread {
        isAbout.set()
        for _ in 0..<(round % 50 * 20) { csupport_cpu_relax() }
        ftruncate(theirs, 0)
        _ = fcntl(theirs, F_ADD_SEALS, F_SEAL_SHRINK | 1)
        close(theirs)
        isDone.set()
      }
      while !isAbout.isSet {}
      // SIGBUS, if the size is believed before the seals.
      _ = refusal(memory)
      try waitUntil("the other thread") { isDone.isSet }
    }
  }

  @Test("Refused descriptors are closed, and their mappings gone")
  func nothingLeft() async {
    // In a process of its own: other tests open and map as well.
    await #expect(processExitsWith: .success) {
      let tests = HostileMemoryTests()
      _ = tests.refusal(try tests.file(100))
      let before = Resources.now()
      for _ in 0..<50 {
        _ = tests.refusal(try tests.file(4096, magic: 1))
        _ = tests.refusal(try tests.file(4096, capacity: 1600))
        _ = tests.refusal(try tests.file(100))
        _ = tests.refusal(try tests.file(1 << 33, capacity: 1 << 30))
        _ = tests.refusal(unsafe open("/dev/null", O_RDWR | O_CLOEXEC))
      }
      // The test's own machinery opens and closes some meanwhile.
      try await eventually("what was refused to be gone") {
        let after = Resources.now()
        return after.descriptors < before.descriptors + 20 && after.mappings < before.mappings + 20
      }
    }
  }

  @Test("Memory that was accepted takes no seal that would keep it from being mapped again")
  func sealedLater() throws {
    for backing in MemoryBacking.allCases {
      let memory = try ChannelMemory.make(laneCapacity: 0, backing: backing)
      #expect(fcntl(memory.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) < 0)
    }
  }

  @Test("A segment whose memory cannot be mapped is reported as that, and the lane goes on once it can")
  func blocked() async {
    await #expect(processExitsWith: .success) {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: memory, lane: 0)
      try producer.grow(capacity: 64 << 20)
      let wrote = producer.write(1, 100)
      try require(wrote)
      leaveAddresses(48 << 20)
      for _ in 0..<3 {
        guard case .blocked(let error) = consumer.next(), error.errno == ENOMEM else { throw Failure("not blocked") }
      }
      leaveAddresses(nil)
      try consumer.expect(1, 100)
    }
  }
}

import CSupport
import CTestSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

// Not in Glibc, as Swift sees it.
private let F_ADD_SEALS: CInt = 1033
private let F_SEAL_SEAL: CInt = 1
private let F_SEAL_SHRINK: CInt = 2
private let F_SEAL_GROW: CInt = 4
private let F_SEAL_WRITE: CInt = 8
private let F_SEAL_FUTURE_WRITE: CInt = 16
private let O_PATH: CInt = 0o10000000
private let MFD_CLOEXEC: UInt32 = 1
private let MFD_ALLOW_SEALING: UInt32 = 2
private let MFD_HUGETLB: UInt32 = 4

/// Memory, not sealed yet.
private func makeMemory(_ byteCount: UInt64, allocated: UInt64? = nil) throws -> CInt {
  let fd = unsafe csupport_memory_create("hostile", byteCount)
  try #require(fd >= 0)
  let allocated = allocated ?? byteCount
  if allocated > 0 { try #require(csupport_memory_reserve(fd, 0, allocated) == 0) }
  return fd
}

private func seal(_ fd: CInt, _ seals: CInt) throws -> CInt {
  try #require(fcntl(fd, F_ADD_SEALS, seals) == 0)
  return fd
}

private let sharedSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL
private let frozenSeals = sharedSeals | F_SEAL_WRITE

/// A peer that sends as a buffer what is none, or does with one what it can.
@Suite("Hostile buffers", .serialized, .timeLimit(.minutes(3)))
struct HostileBufferTests {
  /// What is no buffer.
  enum Kind: String, CaseIterable, Sendable, CustomStringConvertible {
    case shrinkable, growable, unsealed, toBeSealed, notForGood, writtenByItsMaker, frozenAndMore, empty, emptyShared
    case holePunched, sparse, truncated, channel, posixMemory, file, device, directory, pipe, socket, path, readOnly
    case hugePages
    var description: String { rawValue }

    func make(_ far: RawEnd) throws -> CInt {
      switch self {
      case .shrinkable: return try seal(makeMemory(8192), frozenSeals & ~F_SEAL_SHRINK)
      case .growable: return try seal(makeMemory(8192), frozenSeals & ~F_SEAL_GROW)
      case .unsealed: return try makeMemory(8192)
      case .toBeSealed: return try seal(makeMemory(8192), sharedSeals & ~F_SEAL_SEAL)
      case .notForGood: return try seal(makeMemory(8192), frozenSeals & ~F_SEAL_SEAL)
      case .writtenByItsMaker: return try seal(makeMemory(8192), sharedSeals | F_SEAL_FUTURE_WRITE)
      case .frozenAndMore: return try seal(makeMemory(8192), frozenSeals | F_SEAL_FUTURE_WRITE)
      case .empty: return try seal(makeMemory(0), frozenSeals)
      case .emptyShared: return try seal(makeMemory(0), sharedSeals)
      case .holePunched:
        let fd = try makeMemory(8192)
        try #require(csupport_memory_discard(fd, 4096, 4096) == 0)
        return try seal(fd, frozenSeals)
      case .sparse: return try seal(makeMemory(1 << 30, allocated: 4096), frozenSeals)
      case .truncated:
        let fd = try makeMemory(8192)
        try #require(ftruncate(fd, 0) == 0 && ftruncate(fd, 8192) == 0)
        return try seal(fd, frozenSeals)
      case .channel: return copy(of: far.memory.fd)
      case .posixMemory: return csupport_memory_create_unlinked(8192)
      case .file: return unsafe open("/etc/passwd", O_RDONLY | O_CLOEXEC)
      case .device: return unsafe open("/dev/zero", O_RDWR | O_CLOEXEC)
      case .directory: return unsafe open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
      case .pipe: return copy(of: try TestPipe().reader.take())
      case .socket: return copy(of: far.socket)
      case .path, .readOnly:
        let fd = try seal(makeMemory(8192), frozenSeals)
        defer { _ = csupport_close(fd) }
        return unsafe open("/proc/self/fd/\(fd)", (self == .path ? O_PATH : O_RDONLY) | O_CLOEXEC)
      case .hugePages:
        let fd = createHugeMemory()
        try #require(ftruncate(fd, 2 << 20) == 0)
        // Without pages: the system need not have any.
        return try seal(fd, sharedSeals)
      }
    }

    private func createHugeMemory() -> CInt {
      typealias Call = @convention(c) (UnsafePointer<CChar>, UInt32) -> CInt
      guard let address = unsafe dlsym(nil, "memfd_create") else { return -1 }
      return unsafe unsafeBitCast(address, to: Call.self)("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB)
    }
  }

  @Test(
    "11.4, 11.6 What is sent as a buffer and is none ends the channel, and is closed",
    arguments: Kind.allCases, Style.allCases)
  func kinds(_ kind: Kind, _ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let pipe = try TestPipe()
    let fd = try kind.make(far)
    try #require(fd >= 0)
    try pipe.reader.withDescriptor { reader in
      far.post([1], ports: 0, descriptors: 2) {
        #expect(far.send(words: [ForgedPort.header(0, descriptors: 2, buffers: 1)], [reader, fd]) > 0)
      }
    }
    _ = csupport_close(fd)
    pipe.reader.close()
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    // What came with it, too.
    try await pipe.expectReadersClosed()
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test(
    "11.4 A packet with more buffers than descriptors ends the channel",
    arguments: [(2, 3), (0, 1), (2, 255)], Style.allCases)
  func tooMany(_ count: (descriptors: Int, buffers: Int), _ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let fd = try seal(makeMemory(8192), frozenSeals)
    far.post([1], ports: 0, descriptors: max(count.descriptors, 1)) {
      far.send(
        words: [ForgedPort.header(0, descriptors: count.descriptors, buffers: count.buffers)],
        [CInt](repeating: fd, count: max(count.descriptors, 1)))
    }
    _ = csupport_close(fd)
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  /// The victim receives these as buffers.
  private func receive(_ fds: [CInt]) async throws -> (scene: Scene, far: RawEnd, port: MessagePort, [MessageBuffer]) {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let buffers = Collected<[MessageBuffer]>()
    port.setEventLoop(scene.loop)
    port.onMessage = { buffers.append($0.buffers) }
    far.post([1], ports: 0, descriptors: fds.count) {
      far.send(words: [ForgedPort.header(0, descriptors: fds.count, buffers: fds.count)], fds)
    }
    return (scene, far, port, try await buffers.wait(for: 1)[0])
  }

  @Test(
    "11.6 A peer that has frozen a buffer can change neither its bytes nor its size, while they are looked at or before"
  )
  func frozenForGood() async throws {
    let fd = try makeMemory(8192)
    let byte: [UInt8] = [7]
    try #require(unsafe pwrite(fd, byte, 1, 0) == 1)
    _ = try seal(fd, frozenSeals)
    let (scene, _, port, buffers) = try await receive([fd])
    guard case .frozen(let buffer)? = buffers.first else { throw Scene.Failure("not frozen") }
    func attack() {
      #expect(ftruncate(fd, 0) == -1 && ftruncate(fd, 1 << 20) == -1)
      #expect(unsafe pwrite(fd, [9], 1, 0) == -1)
      #expect(csupport_memory_discard(fd, 0, 4096) == -EPERM)
      #expect(unsafe mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED)
      #expect(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == -1)
    }
    attack()
    let bytes = try buffer.bytes()
    #expect(bytes[0] == 7 && bytes.dropFirst().allSatisfy { $0 == 0 })
    attack()
    #expect(bytes[0] == 7 && bytes.dropFirst().allSatisfy { $0 == 0 })
    _ = csupport_close(fd)
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test(
    "11.4, 11.6 Holes that a peer hides behind a frozen buffer's end are filled, or refused, before anybody reads them")
  func hiddenHoles() async throws {
    let byteCount: UInt64 = 1 << 20
    // As much behind the end as is missing before it.
    let fd = try makeMemory(byteCount, allocated: 0)
    try #require(ctest_reserve_behind_end(fd, byteCount, byteCount) == 0)
    _ = try seal(fd, frozenSeals)
    let (scene, _, port, buffers) = try await receive([fd])
    guard case .frozen(let buffer)? = buffers.first else { throw Scene.Failure("not frozen") }
    var facts = csupport_file_facts()
    #expect(unsafe csupport_file_facts(fd, &facts) == 0 && facts.allocated_bytes == byteCount)
    let bytes = try buffer.bytes()
    #expect(unsafe csupport_file_facts(fd, &facts) == 0 && facts.allocated_bytes == 2 * byteCount)
    #expect(bytes.prefix(5000).allSatisfy { $0 == 0 })
    _ = csupport_close(fd)
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test(
    "11.4 A peer that writes a shared buffer, and punches holes into it, while it is used, does no harm; nor can it cut it off"
  )
  func sharedAtWork() async throws {
    let byteCount = 1 << 16
    let fd = try seal(makeMemory(UInt64(byteCount)), sharedSeals)
    let (scene, _, port, buffers) = try await receive([fd])
    guard case .shared(let buffer)? = buffers.first else { throw Scene.Failure("not shared") }
    #expect(buffer.byteCount == byteCount)
    #expect(ftruncate(fd, 0) == -1 && ftruncate(fd, 1 << 20) == -1)
    #expect(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1)
    for round in 0..<200 as Range<UInt64> {
      try buffer.store(round, at: byteCount - 8)
      #expect(try buffer.load(as: UInt64.self, at: byteCount - 8) == round)
      #expect(csupport_memory_discard(fd, 0, UInt64(byteCount)) == 0)
      #expect(try buffer.load(as: UInt64.self, at: byteCount - 8) == 0)
      #expect(unsafe pwrite(fd, [UInt8](repeating: UInt8(round), count: 100), 100, 50) == 100)
      #expect(try buffer.read(50..<53) == [UInt8](repeating: UInt8(round), count: 3))
    }
    _ = csupport_close(fd)
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test("11.4 A buffer larger than its receiver wants costs it a descriptor, until it lets go of that")
  func tooLarge() async throws {
    let fd = try seal(makeMemory(1 << 50, allocated: 0), sharedSeals)
    let other = try seal(makeMemory(1 << 20), frozenSeals)
    let (scene, far, port, buffers) = try await receive([fd, other])
    guard case .shared(let shared) = buffers[0], case .frozen(let frozen) = buffers[1] else {
      throw Scene.Failure("other kinds")
    }
    #expect(throws: BufferError.tooLarge(byteCount: 1 << 50, limit: 1 << 20)) { try shared.map(upTo: 1 << 20) }
    // Whoever sets no limit is told by the kernel.
    #expect(throws: BufferError.system(SystemError(call: "mmap", errno: ENOMEM))) { try shared.map() }
    #expect(throws: BufferError.system(SystemError(call: "mmap", errno: ENOMEM))) { try shared.read(0..<1) }
    #expect(throws: BufferError.tooLarge(byteCount: 1 << 20, limit: 4096)) { _ = try frozen.bytes(upTo: 4096) }
    for fd in [fd, other] { _ = csupport_close(fd) }
    for buffer in buffers { buffer.close() }
    far.post([2])
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }

  @Test("11.4, 11.7 A handler that takes nothing keeps nothing, however many a peer sends")
  func flood() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort(laneCapacity: 1 << 20)
    let told = try listen(port, .handler, on: scene.loop)
    let fd = try seal(makeMemory(12_345), frozenSeals)
    let fds = [CInt](repeating: fd, count: 253)
    for _ in 0..<50 {
      far.put(word(.message, 1, descriptors: 253), [1])
      var isSent = false
      while !isSent {
        isSent = far.send(words: [ForgedPort.header(0, descriptors: 253, buffers: 253)], fds) > 0
        far.signal()
        if !isSent { usleepBriefly(1000) }
      }
    }
    try await told.wait(for: 50)
    _ = csupport_close(fd)
    try await eventually("the descriptors' return") { OpenMemory.descriptors(byteCount: 12_345).isEmpty }
    try await scene.checkFriend()
    withExtendedLifetime(port) {}
  }
}

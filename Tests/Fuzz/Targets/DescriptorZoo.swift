import CSupport
import Glibc
@testable import SharedRing
import Synchronization

// Swift's Glibc module lacks these.
private let F_ADD_SEALS: CInt = 1033
private let F_SEAL_SHRINK: CInt = 2
private let F_SEAL_FUTURE_WRITE: CInt = 16
private let O_PATH: CInt = 0x20_0000
private let MFD_CLOEXEC: UInt32 = 1
private let MFD_ALLOW_SEALING: UInt32 = 2
private let MFD_HUGETLB: UInt32 = 4

/// Descriptors of every kind that a peer can send: the right ones, and those that are nearly or not at all right.
/// Made once; each packet carries copies.
@safe
final class DescriptorZoo: Sendable {
  /// Memory as it should be, which the peer goes on writing to.
  let memory: FuzzMemory
  private let all: [CInt]
  /// Buffers, or nearly.
  private let buffers: [CInt]
  /// Sockets as they should be, new in each run: whoever gets one may hang it up.
  private let pairs = Mutex<[CInt]>([])

  init() {
    memory = FuzzMemory()
    // Sockets of the wrong kind, or without a peer.
    var halved: (CInt, CInt) = (-1, -1)
    var result = unsafe csupport_socket_pair(&halved.0, &halved.1)
    _ = csupport_close(halved.1)
    var streams: [CInt] = [-1, -1]
    result |= unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0, &streams)
    let lone = Glibc.socket(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue | SOCK_CLOEXEC.rawValue), 0)
    // The first is a good one.
    var all = [halved.0, memory.memory.fd, halved.0, streams[0], lone]

    // Files of the wrong kind, or unusable.
    var pipes: [CInt] = [-1, -1]
    result |= unsafe pipe(&pipes)
    for end in pipes { result |= fcntl(end, F_SETFD, FD_CLOEXEC) }
    let file = csupport_memory_create_sealed(4096)
    all += pipes + [csupport_eventfd_create(), csupport_epoll_create()]
    all += [Self.open("/tmp"), Self.open("/dev/null", O_RDWR), Self.open("/proc/self/fd/\(file)")]
    all += [Self.open("/proc/self/fd/\(memory.memory.fd)"), Self.open("/proc/self/fd/\(file)", O_PATH)]

    // Memory: not sealed, too short, empty, sparse, without identity, with a wrong one, unmappable.
    all += [
      file, csupport_memory_create_unlinked(4096), csupport_memory_create_sealed(100), csupport_memory_create_sealed(0),
    ]
    all += [csupport_memory_create_sealed(1 << 30), Self.make(capacity: 1600, fileBytes: 4096)]
    all += [Self.make(capacity: 2048, fileBytes: 8192), Self.make(capacity: 1 << 30, fileBytes: 1 << 32)]
    all += [Self.make(capacity: 1537, fileBytes: 8192), Self.make(version: 2, fileBytes: 4096)]
    all += [Self.make(magic: 1, fileBytes: 4096)]
    let frozen = Self.createMemory(MFD_ALLOW_SEALING)
    result |= ftruncate(frozen, 4096) | fcntl(frozen, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE)
    // In huge pages, which the system may lack.
    let huge = Self.createMemory(MFD_ALLOW_SEALING | MFD_HUGETLB)
    result |= ftruncate(huge, 2 << 20) | fcntl(huge, F_ADD_SEALS, F_SEAL_SHRINK)
    all += [frozen, huge]
    precondition(result == 0 && all.allSatisfy { $0 >= 0 }, "a descriptor is missing: \(all)")
    self.all = all
    buffers = Self.makeBuffers()
    precondition(buffers.allSatisfy { $0 >= 0 }, "a buffer is missing: \(buffers)")
  }

  /// Frozen, frozen with a hole, shared, of no size, and not sealed yet.
  private static func makeBuffers() -> [CInt] {
    let made = [10_000, 20_000, 5000, 0, 4096].map { csupport_buffer_create($0) }
    var result = csupport_memory_reserve(made[0], 0, 10_000)
    for frozen in [made[0], made[1], made[3]] { result |= csupport_buffer_freeze(frozen) }
    result |= csupport_buffer_share(made[2])
    return result == 0 ? made : [-1]
  }

  /// Most often a correct one.
  func buffer(_ index: Int) -> CInt {
    index % 16 < buffers.count ? buffers[index % 16] : buffers[index % 2 == 0 ? 0 : 2]
  }

  var count: Int { all.count }
  static let socketIndex = 0, memoryIndex = 1

  func fd(_ index: Int) -> CInt {
    guard index % all.count == Self.socketIndex else { return all[index % all.count] }
    var pair: (CInt, CInt) = (-1, -1)
    let result = unsafe csupport_socket_pair(&pair.0, &pair.1)
    precondition(result == 0, "no sockets")
    pairs.withLock { $0 += [pair.0, pair.1] }
    return pair.0
  }

  /// As it was before the first run.
  func reset() {
    memory.reset()
    pairs.withLock { pairs in
      for fd in pairs { _ = csupport_close(fd) }
      pairs.removeAll()
    }
  }

  private static func make(
    magic: UInt64 = RingLayout.magic, version: UInt32 = RingLayout.version, capacity: UInt64 = 1536, fileBytes: UInt64
  ) -> CInt {
    let fd = csupport_memory_create_sealed(fileBytes)
    guard let page = try? Mapping(fd: fd, fileOffset: 0, byteCount: RingLayout.pageBytes) else { return -1 }
    unsafe page.address.storeBytes(of: magic, toByteOffset: CSUPPORT_IDENTITY_MAGIC, as: UInt64.self)
    unsafe page.address.storeBytes(of: version, toByteOffset: CSUPPORT_IDENTITY_VERSION, as: UInt32.self)
    unsafe page.address.storeBytes(of: capacity, toByteOffset: CSUPPORT_IDENTITY_LANE_CAPACITY, as: UInt64.self)
    return fd
  }

  private static func createMemory(_ flags: UInt32) -> CInt {
    typealias Call = @convention(c) (UnsafePointer<CChar>, UInt32) -> CInt
    guard let address = unsafe dlsym(nil, "memfd_create") else { return -1 }
    return unsafe unsafeBitCast(address, to: Call.self)("fuzz", flags | MFD_CLOEXEC)
  }

  private static func open(_ path: String, _ flags: CInt = O_RDONLY) -> CInt {
    unsafe Glibc.open(path, flags | O_CLOEXEC)
  }
}

/// A connected pair of sockets, used again and again: the peer's end and the victim's.
@safe
struct FuzzSockets {
  let peer: CInt
  let victim: CInt

  init() {
    var pair: (CInt, CInt) = (-1, -1)
    let result = unsafe csupport_socket_pair(&pair.0, &pair.1)
    precondition(result == 0, "no sockets")
    (peer, victim) = pair
  }

  func send(_ bytes: [UInt8], _ fds: [CInt]) {
    _ = unsafe csupport_send_packet(peer, bytes, bytes.count, fds, fds.count)
  }

  func send(words: [UInt64], byteCount: Int? = nil, _ fds: [CInt]) {
    let bytes = words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    send(Array(bytes.prefix(byteCount ?? bytes.count)), fds)
  }

  /// Takes everything off both ends.
  func drain() {
    for socket in [peer, victim] {
      var byte: UInt8 = 0
      var received = csupport_received()
      while unsafe csupport_receive_packet(socket, &byte, 1, nil, 0, &received) == 1 {}
    }
  }
}

/// The script says that nobody else opens descriptors in this process.
private let isAlone = unsafe getenv("FUZZ_ALONE") != nil

/// Runs `body`, which may leave no descriptor open. Waits for those that the event loop still gives back.
func withoutDescriptorLeak(_ body: () -> Void) {
  guard isAlone else { return body() }
  func lowestFree() -> CInt {
    let fd = fcntl(0, F_DUPFD_CLOEXEC, 0)
    _ = csupport_close(fd)
    return fd
  }
  let before = lowestFree()
  body()
  var patience = 40_000
  // A lower one may have come free: the last of what an earlier run has left to the event loop.
  while lowestFree() > before {
    demand(patience > 0, "descriptor \(before) is still open")
    patience -= 1
    usleep(1000)
  }
}

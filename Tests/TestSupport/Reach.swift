import CSupport
import CTestSupport
import Glibc

/// What a process can get at without being handed it.
enum Reach {
  /// Tries it all; returns what has worked.
  static func tried(listenPath: String, tcpPort: UInt16) throws -> [String] {
    var found: [String] = []
    func tryTo(_ what: String, _ works: Bool) { if works { found.append(what) } }
    tryTo("read a file", canOpen("/etc/passwd", O_RDONLY) || canOpen("/bin/sh", O_RDONLY))
    // It may see itself and whoever confined it.
    tryTo("see processes", entries(of: "/proc").count { Int($0) != nil } > 2)
    tryTo("make a file", canMakeFile(in: "/") || canMakeFile(in: "/tmp") || canMakeFile(in: "/dev/shm"))
    tryTo("reach the listener", isOpen(unsafe csupport_socket_connect(listenPath)))
    tryTo("use the network", canConnect(tcpPort))
    return found
  }

  private static func isOpen(_ fd: CInt) -> Bool {
    if fd >= 0 { close(fd) }
    return fd >= 0
  }

  private static func canOpen(_ path: String, _ flags: CInt) -> Bool { isOpen(unsafe open(path, flags | O_CLOEXEC)) }

  private static func canMakeFile(in directory: String) -> Bool {
    let path = "\(directory)/messageports-tests-\(getpid())"
    let fd = unsafe open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0o600)
    if fd >= 0 { unsafe unlink(path) }
    return isOpen(fd)
  }

  private static func canConnect(_ port: UInt16) -> Bool {
    let fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    guard fd >= 0 else { return false }
    defer { close(fd) }
    return unsafe LoopbackAddress(port: port).with { unsafe connect(fd, $0, $1) } == 0
  }
}

/// A TCP socket on this machine's own network that others can connect to.
public final class LoopbackServer: Sendable {
  private let fd: CInt
  public let port: UInt16

  public init() throws {
    let fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
    var address = LoopbackAddress(port: 0)
    guard unsafe address.with({ unsafe bind(fd, $0, $1) }) == 0, listen(fd, 16) == 0, address.read(of: fd) else {
      throw Agent.Failure(description: "no server: \(errno)")
    }
    self.fd = fd
    port = address.port
  }

  deinit { close(fd) }
}

private struct LoopbackAddress {
  private var address = sockaddr_in()
  var port: UInt16 { UInt16(bigEndian: address.sin_port) }

  init(port: UInt16) {
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = in_addr_t(0x7f00_0001).bigEndian
  }

  func with(_ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
    unsafe withUnsafePointer(to: address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
  }

  mutating func read(of fd: CInt) -> Bool {
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    return unsafe withUnsafeMutablePointer(to: &address) { pointer in
      unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe getsockname(fd, $0, &length) == 0 }
    }
  }
}

/// The shared memory that a process holds.
public enum Holdings {
  /// The inodes of all that are open or mapped, in order.
  public static func now() -> [UInt64] {
    let open = descriptors().map(\.inode)
    let mapped = lines(of: "/proc/self/maps").filter(isSharedMemory).compactMap { line in
      // address, permissions, offset, device, inode, path
      line.split(separator: " ", omittingEmptySubsequences: true).dropFirst(4).first.flatMap { UInt64($0) }
    }
    return Set(open + mapped).sorted()
  }

  static func descriptors() -> [(fd: CInt, inode: UInt64)] {
    entries(of: "/proc/self/fd").compactMap { CInt($0) }.sorted().compactMap { fd in
      var link = [CChar](repeating: 0, count: 256)
      let count = unsafe readlink("/proc/self/fd/\(fd)", &link, link.count)
      guard count > 0, isSharedMemory(String(decoding: link[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self))
      else { return nil }
      var facts = stat()
      return unsafe fstat(fd, &facts) == 0 ? (fd, UInt64(facts.st_ino)) : nil
    }
  }

  private static func isSharedMemory(_ line: some StringProtocol) -> Bool {
    line.contains("/memfd:") || line.contains("/dev/shm/")
  }
}

/// A holder of a port that tries to make more of the memory that came with it.
struct Prying {
  private let fd: CInt

  init(inode: UInt64) throws {
    guard let found = Holdings.descriptors().first(where: { $0.inode == inode }) else {
      throw Agent.Failure(description: "no such memory: \(inode)")
    }
    fd = found.fd
  }

  private static let sealSeal: CInt = 1, sealGrow: CInt = 4, sealWrite: CInt = 8, sealFutureWrite: CInt = 16

  /// Tries it all; returns what has worked.
  func all() throws -> [String] {
    var done: [String] = []
    func tryTo(_ what: String, _ works: Bool) { if works { done.append(what) } }
    let size = try ownSize()
    tryTo("empty it", ftruncate(fd, 0) == 0)
    tryTo("shorten it", ftruncate(fd, off_t(size - 1)) == 0)
    let again = unsafe open("/proc/self/fd/\(fd)", O_RDWR | O_CLOEXEC)
    if again >= 0 {
      tryTo("empty it, opened anew", ftruncate(again, 0) == 0)
      tryTo("seal it, opened anew", ctest_add_seals(again, Self.sealWrite) == 0)
      close(again)
    }
    let emptied = unsafe open("/proc/self/fd/\(fd)", O_RDWR | O_TRUNC | O_CLOEXEC)
    if emptied >= 0 {
      done.append("empty it in opening")
      close(emptied)
    }
    for (name, seal) in [
      ("seal", Self.sealSeal), ("growth", Self.sealGrow), ("writing", Self.sealWrite),
      ("future writing", Self.sealFutureWrite),
    ] { tryTo("seal it against \(name)", ctest_add_seals(fd, seal) == 0) }
    tryTo("name it", unsafe linkat(AT_FDCWD, "/proc/self/fd/\(fd)", AT_FDCWD, "/dev/shm/named", AT_SYMLINK_FOLLOW) == 0)
    guard try ownSize() == size else { throw Agent.Failure(description: "its size is another") }
    return done
  }

  /// Behind the file's end there is no memory: the kernel kills whoever looks.
  func readBehind() throws {
    let size = try ownSize()
    let behind = unsafe mmap(nil, 4096, PROT_READ, MAP_SHARED, fd, off_t((size + 4095) / 4096 * 4096))
    guard let behind = unsafe behind, unsafe behind != MAP_FAILED else {
      throw Agent.Failure(description: "not mapped")
    }
    throw Agent.Failure(description: "found \(unsafe behind.load(as: UInt8.self))")
  }

  private func ownSize() throws -> Int {
    var facts = stat()
    guard unsafe fstat(fd, &facts) == 0 else { throw Agent.Failure(description: "fstat: \(errno)") }
    return Int(facts.st_size)
  }
}

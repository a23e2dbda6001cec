import CSupport
import Glibc

// Memory and sockets, made and treated as ports make and treat them.

/// How far into its file a channel may place data: each lane has a region of 2⁴⁰ bytes, behind the first 2⁴⁰.
/// The file is sparse; what counts against memory is what was written.
package let farthestByteOfAChannel: UInt64 = 3 << 40

/// The smallest memory of a channel, and the smallest step by which it grows.
package let pageBytes: UInt64 = 4096

extension MemoryFacts {
  static func gather(_ files: KernelFiles) -> MemoryFacts {
    MemoryFacts(
      memfd: MemoryTrial { csupport_memory_create_sealed(pageBytes) },
      memfdNoexec: files.setting("vm.memfd_noexec"),
      posixSharedMemory: MemoryTrial { csupport_memory_create_unlinked(pageBytes) },
      devShm: FileSystemFacts(path: "/dev/shm"),
      cgroup: files.cgroupMemory())
  }
}

extension MemoryTrial {
  init(_ make: () -> CInt) {
    let fd = retryingOnSignals(make)
    self.init(creation: Outcome(result: fd), growth: Outcome(result: fd), refusesToShrink: false)
    guard fd >= 0 else { return }
    defer { _ = csupport_close(fd) }
    growth = Outcome(
      result: retryingOnSignals { csupport_memory_reserve(fd, farthestByteOfAChannel - pageBytes, pageBytes) })
    refusesToShrink = csupport_memory_is_shrink_sealed(fd) == 1 && ftruncate(fd, 0) < 0
  }
}

extension FileSystemFacts {
  init?(path: String) {
    var facts = statvfs()
    guard unsafe statvfs(path, &facts) == 0 else { return nil }
    sizeBytes = UInt64(facts.f_blocks) &* UInt64(facts.f_frsize)
    freeBytes = UInt64(facts.f_bavail) &* UInt64(facts.f_frsize)
  }
}

extension SocketFacts {
  static func gather(_ files: KernelFiles) -> SocketFacts {
    var facts = SocketFacts(
      pair: .works, defaultSendBufferBytes: files.setting("net.core.wmem_default"),
      largestSendBufferBytes: files.setting("net.core.wmem_max"),
      datagramQueueLength: files.setting("net.unix.max_dgram_qlen"))
    var first: CInt = -1
    var second: CInt = -1
    facts.pair = Outcome(result: unsafe csupport_socket_pair(&first, &second))
    guard facts.pair.worked else { return facts }
    defer { for fd in [first, second] { _ = csupport_close(fd) } }

    // As a port does that finds its socket full.
    let wantedBytes: CInt = 32 << 20
    _ = csupport_socket_set_send_buffer(first, wantedBytes)
    var bytes: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    if unsafe getsockopt(first, SOL_SOCKET, SO_SNDBUF, &bytes, &length) == 0 {
      facts.raisedSendBufferBytes = UInt64(clamping: bytes)
    }
    return facts
  }
}

private func retryingOnSignals(_ call: () -> CInt) -> CInt {
  while true {
    let result = call()
    if result != -EINTR { return result }
  }
}

import CSupport
import Glibc

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

private func retryingOnSignals(_ call: () -> CInt) -> CInt {
  while true {
    let result = call()
    if result != -EINTR { return result }
  }
}

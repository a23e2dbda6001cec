import CSupport
import Glibc
import Testing

@Suite("Memory")
struct MemoryTests {
  @Test("Sealed memory grows but never shrinks, and takes no more seals")
  func sealed() {
    let fd = csupport_memory_create_sealed(8192)
    #expect(fd >= 0)
    defer { _ = csupport_close(fd) }
    #expect(facts(fd).size_bytes == 8192)
    #expect(facts(fd).allocated_bytes == 0)
    #expect(facts(fd).is_regular)
    #expect(isCloseOnExec(fd))
    #expect(csupport_memory_is_shrink_sealed(fd) == 1)

    #expect(ftruncate(fd, 4096) == -1)
    #expect(errno == EPERM)
    #expect(csupport_memory_reserve(fd, 8192, 4096) == 0)
    #expect(facts(fd).size_bytes == 12288)
    #expect(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == -1)
    #expect(errno == EPERM)
  }

  @Test("Unlinked memory is allocated, can shrink, and leaves no name")
  func unlinked() async {
    await #expect(processExitsWith: .success) {
      // Whatever is made with a name is reported, even if it is gone at once.
      let watch = inotify_init1(CInt(IN_NONBLOCK | IN_CLOEXEC))
      #expect(unsafe inotify_add_watch(watch, "/dev/shm", UInt32(IN_CREATE)) >= 0)
      let fd = csupport_memory_create_unlinked(10000)
      #expect(fd >= 0)
      var events = [UInt8](repeating: 0, count: 4096)
      let told = unsafe read(watch, &events, events.count)
      #expect(!String(decoding: events.prefix(max(told, 0)), as: UTF8.self).contains("message-port"))
      #expect(facts(fd).size_bytes == 10000)
      #expect(facts(fd).allocated_bytes >= 10000)
      #expect(facts(fd).is_regular)
      #expect(isCloseOnExec(fd))
      #expect(csupport_memory_is_shrink_sealed(fd) == 0)
      #expect(ftruncate(fd, 4096) == 0)

      var status = stat()
      #expect(unsafe fstat(fd, &status) == 0)
      #expect(status.st_nlink == 0)
    }
  }

  @Test("Reserving makes the range exist and allocates it; discarding gives it back as zeros")
  func reserveAndDiscard() {
    let fd = csupport_memory_create_sealed(0)
    defer { _ = csupport_close(fd) }
    #expect(csupport_memory_reserve(fd, 0, 65536) == 0)
    #expect(facts(fd).size_bytes == 65536)
    #expect(facts(fd).allocated_bytes == 65536)
    #expect(csupport_memory_reserve(fd, 4096, 8192) == 0, "a second time, within")
    #expect(facts(fd).size_bytes == 65536)

    var address: UnsafeMutableRawPointer?
    #expect(unsafe csupport_memory_map(fd, 0, 65536, &address) == 0)
    unsafe address!.storeBytes(of: 7, toByteOffset: 4096, as: UInt8.self)
    unsafe address!.storeBytes(of: 8, toByteOffset: 8192, as: UInt8.self)
    #expect(csupport_memory_discard(fd, 4096, 4096) == 0)
    #expect(facts(fd).size_bytes == 65536)
    #expect(facts(fd).allocated_bytes == 61440)
    #expect(unsafe address!.load(fromByteOffset: 4096, as: UInt8.self) == 0)
    #expect(unsafe address!.load(fromByteOffset: 8192, as: UInt8.self) == 8)
    #expect(unsafe csupport_memory_unmap(address, 65536) == 0)
  }

  @Test("What cannot be is refused")
  func impossibleRanges() {
    let fd = csupport_memory_create_sealed(4096)
    defer { _ = csupport_close(fd) }
    #expect(csupport_memory_reserve(fd, UInt64.max - 10, 11) == -EFBIG)
    #expect(csupport_memory_reserve(fd, UInt64.max, UInt64.max) == -EFBIG)
    #expect(csupport_memory_reserve(fd, UInt64(Int64.max), 1) == -EFBIG)
    #expect(csupport_memory_reserve(fd, 0, 0) == -EINVAL)
    #expect(csupport_memory_discard(fd, UInt64.max, 1) == -EFBIG)
    #expect(csupport_memory_create_sealed(UInt64.max) == -EFBIG)
    #expect(csupport_memory_create_unlinked(UInt64.max) == -EFBIG)
    #expect(csupport_memory_create_unlinked(0) == -EINVAL)
    var address = unsafe UnsafeMutableRawPointer(bitPattern: 1)
    #expect(unsafe csupport_memory_map(fd, 1, 4096, &address) == -EINVAL)
    #expect(unsafe address == nil)
  }

  @Test("A limit on file sizes is an error, not a signal")
  func fileSizeLimit() async {
    await #expect(processExitsWith: .success) {
      let large = csupport_memory_create_sealed(1 << 20)
      setLimit(RLIMIT_FSIZE, 65536)
      #expect(csupport_memory_create_sealed(65537) == -EFBIG)
      #expect(csupport_memory_create_unlinked(65537) == -EFBIG)
      #expect(csupport_memory_create_unlinked(65536) >= 0)
      let fd = csupport_memory_create_sealed(65536)
      #expect(fd >= 0)
      #expect(csupport_memory_reserve(fd, 65536, 1) == -EFBIG)
      #expect(csupport_memory_reserve(fd, 0, 65537) == -EFBIG)
      #expect(csupport_memory_reserve(fd, 0, 65536) == 0)
      #expect(csupport_memory_reserve(large, 0, 1 << 20) == 0, "no limit within a file that is larger already")
    }
  }

  @Test("The kernel's own answer to that limit is SIGXFSZ, which is why it has to be checked")
  func fileSizeSignal() async {
    await #expect(processExitsWith: .signal(SIGXFSZ)) {
      // This may be a thread of Dispatch's, which blocks most signals.
      var none = sigset_t()
      unsafe sigemptyset(&none)
      unsafe pthread_sigmask(SIG_SETMASK, &none, nil)
      let fd = csupport_memory_create_sealed(4096)
      setLimit(RLIMIT_FSIZE, 4096)
      posix_fallocate(fd, 0, 8192)
    }
  }

  @Test("Descriptors that a peer might send instead of memory are told apart, and are never our mistake")
  func uselessDescriptors() {
    let fd = csupport_memory_create_sealed(4096)
    defer { _ = csupport_close(fd) }
    var address: UnsafeMutableRawPointer?

    let readOnly = unsafe open("/proc/self/fd/\(fd)", O_RDONLY | O_CLOEXEC)
    defer { _ = csupport_close(readOnly) }
    #expect(csupport_memory_is_shrink_sealed(readOnly) == 1)
    #expect(csupport_memory_reserve(readOnly, 0, 4096) == -EACCES)
    #expect(csupport_memory_discard(readOnly, 0, 4096) == -EACCES)
    #expect(unsafe csupport_memory_map(readOnly, 0, 4096, &address) == -EACCES)

    let pathOnly = unsafe open("/proc/self/fd/\(fd)", O_PATH | O_CLOEXEC)
    defer { _ = csupport_close(pathOnly) }
    #expect(csupport_memory_is_shrink_sealed(pathOnly) == 0)
    #expect(csupport_memory_reserve(pathOnly, 0, 4096) == -EACCES)
    #expect(csupport_memory_discard(pathOnly, 0, 4096) == -EACCES)
    #expect(unsafe csupport_memory_map(pathOnly, 0, 4096, &address) == -EACCES)

    let counter = csupport_eventfd_create()
    defer { _ = csupport_close(counter) }
    #expect(csupport_memory_is_shrink_sealed(counter) == 0)
    #expect(!facts(counter).is_regular)

    #expect(csupport_memory_is_shrink_sealed(-1) == -EBADF)
    #expect(csupport_memory_reserve(-1, 0, 4096) == -EBADF)
    #expect(unsafe csupport_memory_map(-1, 0, 4096, &address) == -EBADF)
  }
}

import CSupport
import Glibc
import Testing

/// Each runs in a process of its own that has closed its standard descriptors, as a daemon might.
@Suite("Numbers of descriptors")
struct DescriptorNumberTests {
  /// Everything here that makes a descriptor.
  enum Maker: String, CaseIterable, Codable, Sendable {
    case sealedMemory, unlinkedMemory, listener, client, directoryLock, epoll, eventfd, pidfd, child

    func make() -> CInt {
      let path = freshPath()
      defer { unsafe unlink(path) }
      switch self {
      case .sealedMemory: return csupport_memory_create_sealed(4096)
      case .unlinkedMemory: return csupport_memory_create_unlinked(4096)
      case .listener: return unsafe csupport_socket_listen(path, 1)
      case .client:
        let listener = unsafe csupport_socket_listen(path, 1)
        defer { _ = csupport_close(listener) }
        return unsafe csupport_socket_connect(path)
      case .directoryLock:
        // A directory of its own: somebody else may have locked any other.
        let directory = "/tmp/messageports-tests-lock-\(getpid())"
        unsafe mkdir(directory, 0o700)
        defer { unsafe rmdir(directory) }
        return unsafe csupport_directory_lock(directory)
      case .epoll: return csupport_epoll_create()
      case .eventfd: return csupport_eventfd_create()
      case .pidfd: return csupport_pidfd_open(getpid())
      case .child: return spawn("/bin/true", []).child.pidfd
      }
    }
  }

  static let subsets: [[CInt]] = [[0], [2], [0, 1, 2]]

  @Test(
    "13.1 A new descriptor is none of the standard ones, whichever of these are free",
    arguments: Maker.allCases, subsets)
  func made(_ maker: Maker, closed: [CInt]) async {
    await #expect(processExitsWith: .success) { [maker, closed] in
      await close(closed)
      let fd = maker.make()
      #expect(fd > 2)
      #expect(isCloseOnExec(fd))
      #expect(!closed.contains(where: isOurs))
      _ = csupport_close(fd)
    }
  }

  @Test("13.1 Both ends of a pair, and what is accepted, are none of the standard ones", arguments: subsets)
  func pairs(closed: [CInt]) async {
    await #expect(processExitsWith: .success) { [closed] in
      await close(closed)
      var (first, second): (CInt, CInt) = (-1, -1)
      #expect(unsafe csupport_socket_pair(&first, &second) == 0)
      let path = freshPath()
      let listener = unsafe csupport_socket_listen(path, 1)
      let client = unsafe csupport_socket_connect(path)
      let accepted = csupport_socket_accept(listener)
      unsafe unlink(path)
      #expect([first, second, listener, client, accepted].allSatisfy { $0 > 2 && isCloseOnExec($0) })
      #expect(!closed.contains(where: isOurs))
    }
  }

  @Test("13.1 Descriptors that are received are none of the standard ones; the rest closes", arguments: subsets)
  func received(closed: [CInt]) async {
    await #expect(processExitsWith: .success) { [closed] in
      var (first, second): (CInt, CInt) = (-1, -1)
      #expect(unsafe csupport_socket_pair(&first, &second) == 0)
      let sent = [CInt](repeating: file("x"), count: 5)
      #expect(unsafe csupport_send_packet(first, "m", 1, sent, sent.count) == 1)
      await close(closed)
      var fds = [CInt](repeating: -1, count: 4)
      var byte: UInt8 = 0
      var packet = csupport_received()
      #expect(unsafe csupport_receive_packet(second, &byte, 1, &fds, fds.count, &packet) == 1)
      #expect(packet.fd_count == 4 && packet.fds_truncated)
      #expect(fds.allSatisfy { $0 > 2 && isCloseOnExec($0) && facts($0).size_bytes == 1 })
      #expect(!closed.contains(where: isOurs))
    }
  }

  @Test("13.1 A descriptor that can have no other number is closed, and counts as one that did not arrive")
  func receivedWithoutRoom() async {
    await #expect(processExitsWith: .success) {
      var (first, second): (CInt, CInt) = (-1, -1)
      #expect(unsafe csupport_socket_pair(&first, &second) == 0)
      #expect(unsafe csupport_send_packet(first, "m", 1, [first], 1) == 1)
      // No number is free but 0. Twice: what others had for a moment at first is free the second time.
      setLimit(RLIMIT_NOFILE, 64)
      for _ in 0..<2 {
        // Not `Task.sleep`: Dispatch would find no number for its timer, and never wake.
        poll(nil, 0, 10)
        while unsafe open("/dev/null", O_RDONLY | O_CLOEXEC) >= 0 {}
      }
      closeAll([0])
      var fds: [CInt] = [-1]
      var byte: UInt8 = 0
      var packet = csupport_received()
      #expect(unsafe csupport_receive_packet(second, &byte, 1, &fds, 1, &packet) == 1)
      #expect(packet.fd_count == 0 && packet.fds_truncated)
      #expect(csupport_eventfd_create() == -EMFILE)
      #expect(csupport_memory_create_sealed(1) == -EMFILE)
      #expect(unsafe csupport_socket_pair(&first, &second) == -EMFILE)
      #expect(spawn("/bin/true", []).result == -EMFILE)
      #expect(!isOurs(0))
    }
  }

  @Test(
    "13.1 A ring's descriptor is none of the standard ones, and the ring works",
    .enabled(if: csupport_uring_probe() > 0, "io_uring is not available"), arguments: subsets)
  func ring(closed: [CInt]) async {
    await #expect(processExitsWith: .success) { [closed] in
      await close(closed)
      var ring: OpaquePointer?
      #expect(unsafe csupport_uring_create(8, &ring) == 0)
      #expect(!closed.contains(where: isOurs))
      let counter = csupport_eventfd_create()
      #expect(csupport_eventfd_signal(counter) == 0)
      #expect(unsafe csupport_uring_poll(ring, 7, counter, UInt32(CSUPPORT_EVENT_IN)) == 0)
      var completion = csupport_completion()
      #expect(unsafe csupport_uring_enter(ring, true, patienceNanoseconds, &completion, 1) == 1)
      #expect(completion.user_data == 7)
      #expect((3..<100).filter { target($0).contains("io_uring") }.count == 1)
      unsafe csupport_uring_destroy(ring)
      #expect(!(3..<100).contains { target($0).contains("io_uring") })
      #expect(csupport_uring_probe() > 0)
      #expect(!closed.contains(where: isOurs))
    }
  }

  @Test("13.1 A child that inherits descriptors gets them, though the standard ones are closed")
  func inherited() async {
    await #expect(processExitsWith: .success) {
      let content = file("a\n")
      await close([0, 1, 2])
      #expect(exitCode(ofScript: "read x < /proc/self/fd/3 && [ $x = a ]", fds: [(content, 3)]) == 0)
    }
  }
}

/// Dispatch takes descriptors when it is first asked for a timer, and must not take these.
private func close(_ fds: [CInt]) async {
  try? await Task.sleep(for: .milliseconds(1))
  closeAll(fds)
}

/// Whether `fd` is something that only this library makes here. Dispatch has counters, timers and epolls as well, and
/// takes more at any time.
private func isOurs(_ fd: CInt) -> Bool {
  isOpen(fd) && !["[eventfd]", "[eventpoll]", "[timerfd]"].contains { target(fd).contains($0) }
}

/// What the kernel calls `fd`.
private func target(_ fd: CInt) -> String {
  var buffer = [UInt8](repeating: 0, count: 256)
  let count = unsafe buffer.withUnsafeMutableBytes { unsafe readlink("/proc/self/fd/\(fd)", $0.baseAddress!, $0.count) }
  return String(decoding: buffer.prefix(max(count, 0)), as: UTF8.self)
}

import CSupport
import CTestSupport
import Glibc
import Testing

/// Each forks in a process of its own, which other tests have no descriptors in.
@Suite("Processes that are forked without an exec")
struct ForkTests {
  @Test("13.2 A forked child keeps no end of a socket open, whether that was made, accepted or received")
  func hidesNoHangUp() async {
    await #expect(processExitsWith: .success) {
      var (first, second): (CInt, CInt) = (-1, -1)
      #expect(unsafe csupport_socket_pair(&first, &second) == 0)
      let path = freshPath()
      let listener = unsafe csupport_socket_listen(path, 1)
      let client = unsafe csupport_socket_connect(path)
      let accepted = csupport_socket_accept(listener)
      // One end travels through the client's connection.
      #expect(unsafe csupport_send_packet(client, "m", 1, [second], 1) == 1)
      var (received, byte, packet) = ([CInt(-1)], UInt8(0), csupport_received())
      #expect(unsafe csupport_receive_packet(accepted, &byte, 1, &received, 1, &packet) == 1)
      _ = csupport_close(second)

      let child = ctest_fork_and_pause()
      #expect(child > 0)
      defer { kill(child, SIGKILL) }
      #expect(csupport_socket_is_hung_up(first) == 0)
      #expect(csupport_socket_is_hung_up(client) == 0)
      closeAll([received[0], accepted, listener])
      #expect(eventually { csupport_socket_is_hung_up(first) == 1 && csupport_socket_is_hung_up(client) == 1 })
      #expect(unsafe csupport_socket_connect(path) == -ECONNREFUSED)
      unsafe unlink(path)
      #expect(kill(child, 0) == 0)
    }
  }

  @Test("13.2 In a forked child, a number of the library's stands for a socket whose other end is gone")
  func numbersStayTaken() async {
    await #expect(processExitsWith: .success) {
      signal(SIGPIPE, SIG_IGN)
      var (first, second): (CInt, CInt) = (-1, -1)
      #expect(unsafe csupport_socket_pair(&first, &second) == 0)
      let memory = csupport_memory_create_sealed(4096)
      for fd in [first, second, memory, csupport_eventfd_create(), csupport_epoll_create()] {
        #expect(Self.errorOfWriting(to: fd) == EPIPE)
      }
      // Here, all is as it was.
      #expect(unsafe csupport_send_packet(first, "m", 1, nil, 0) == 1)
    }
  }

  @Test("13.2 What is not the library's, or not any more, is the child's as with any fork")
  func othersStay() async {
    await #expect(processExitsWith: .success) {
      // The numbers of closed descriptors, and of a ring's, are used again. Placed there, because another thread may
      // take a free one first.
      let old = csupport_eventfd_create()
      let null = unsafe open("/dev/null", O_WRONLY | O_CLOEXEC)
      _ = csupport_close(old)
      #expect(dup2(null, old) == old)
      #expect(Self.errorOfWriting(to: old) == 0)
      var ring: OpaquePointer?
      if unsafe csupport_uring_create(8, &ring) == 0 { unsafe csupport_uring_destroy(ring) }
      for _ in 0..<8 {
        let next = unsafe open("/dev/null", O_WRONLY | O_CLOEXEC)
        #expect(Self.errorOfWriting(to: next) == 0)
      }
    }
  }

  @Test("13.2 A descriptor that was inherited and adopted is given up as well")
  func adopted() async {
    await #expect(processExitsWith: .success) {
      signal(SIGPIPE, SIG_IGN)
      var fds: [CInt] = [-1, -1]
      #expect(unsafe socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue), 0, &fds) == 0)
      #expect(csupport_adopt(fds[1]) == 0)
      #expect(isCloseOnExec(fds[1]))
      #expect(Self.errorOfWriting(to: fds[0]) == 0)
      #expect(Self.errorOfWriting(to: fds[1]) == EPIPE)
    }
  }

  @Test("13.2 The same in a process that has no descriptor free")
  func withoutRoom() async {
    await #expect(processExitsWith: .success) {
      var (first, second): (CInt, CInt) = (-1, -1)
      #expect(unsafe csupport_socket_pair(&first, &second) == 0)
      var taken: CInt = 0
      while taken >= 0 { taken = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC); setLimit(RLIMIT_NOFILE, 64) }
      let child = ctest_fork_and_pause()
      defer { kill(child, SIGKILL) }
      _ = csupport_close(second)
      #expect(eventually { csupport_socket_is_hung_up(first) == 1 })
    }
  }

  private static func errorOfWriting(to fd: CInt) -> CInt {
    var status: CInt = 0
    let child = ctest_fork_and_check(fd)
    #expect(unsafe waitpid(child, &status, 0) == child)
    return (status >> 8) & 0xff
  }
}

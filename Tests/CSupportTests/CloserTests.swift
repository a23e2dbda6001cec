import CSupport
import Glibc
import TestSupport
import Testing

/// Closing what may take as long as somebody else likes.
@Suite("Closing elsewhere", .serialized, .timeLimit(.minutes(3)))
struct CloserTests {
  @Test("13.6, 11.4 What takes a minute to close keeps neither the caller nor what is closed after it")
  func lingering() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        try await letDispatchOpenItsOwn()
        let slow = (0..<10).map { _ in LingeringSocket() }
        let quick = (0..<300).map { _ in csupport_eventfd_create() }
        try patiently("the caller to go on") { _ in
          for socket in slow { csupport_close_elsewhere(socket.descriptor) }
          for fd in quick { csupport_close_elsewhere(fd) }
        }
        try waitUntil("all to be closed") { !(slow.map(\.descriptor) + quick).contains(where: isOpen) }
      }
    }
  }

  @Test(
    "The threads that close are few, and end when there is nothing to do; the next descriptor is closed all the same")
  func threadsEnd() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        try await letDispatchOpenItsOwn()
        for round in 0..<2 {
          let fds = (0..<500).map { _ in csupport_eventfd_create() }
          for fd in fds { csupport_close_elsewhere(fd) }
          #expect(Resources.closers <= 4)
          try waitUntil("round \(round)") { !fds.contains(where: isOpen) }
          try waitUntil("the threads to end") { Resources.closers == 0 }
        }
      }
    }
  }

  @Test(
    "11.1 A socket that another process has by now goes on to linger, also while others take long",
    arguments: [true, false])
  func sentSocketsLinger(_ isSent: Bool) async {
    await #expect(processExitsWith: .success) { [isSent] in
      await recordErrors {
        try await letDispatchOpenItsOwn()
        // All numbers are given out before one comes free.
        let (slow, sent) = (LingeringSocket(), LingeringSocket())
        let theirs = fcntl(sent.descriptor, F_DUPFD_CLOEXEC, 100)
        slow.letGo()
        try waitUntil("the first to be in the closer's hands") { !isOpen(slow.descriptor) }
        if isSent { csupport_close_sent_elsewhere(sent.descriptor) } else { csupport_close_elsewhere(sent.descriptor) }
        try waitUntil("the close") { !isOpen(sent.descriptor) }
        var value = linger()
        var size = socklen_t(MemoryLayout<linger>.size)
        try #require(unsafe getsockopt(theirs, SOL_SOCKET, SO_LINGER, &value, &size) == 0)
        #expect((value.l_onoff != 0) == isSent)
      }
    }
  }

  @Test("A packet's descriptors for which there is no room are closed, and not by the receiver")
  func surplus() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        try await letDispatchOpenItsOwn()
        var ends: (CInt, CInt) = (-1, -1)
        try #require(unsafe csupport_socket_pair(&ends.0, &ends.1) == 0)
        let slow = LingeringSocket()
        var byte: UInt8 = 1
        let fds = [slow.descriptor]
        let count = 20
        for _ in 0..<count { try #require(unsafe csupport_send_packet(ends.0, &byte, 1, fds, 1) == 1) }
        slow.letGo()
        let before = Resources.now().descriptors
        try patiently("all packets") { _ in
          for _ in 0..<count {
            var received = csupport_received()
            try #require(unsafe csupport_receive_packet(ends.1, &byte, 1, nil, 0, &received) == 1)
            #expect(received.fds_truncated)
          }
        }
        try waitUntil("the descriptors to be closed") { Resources.now().descriptors < before + count / 2 }
      }
    }
  }

  @Test(
    "A socket with packets in it that hold such descriptors is closed at once for the caller", arguments: [0, 1, 3])
  func unread(_ emptyPackets: Int) async {
    await #expect(processExitsWith: .success) { [emptyPackets] in
      await recordErrors {
        try await letDispatchOpenItsOwn()
        var ends: (CInt, CInt) = (-1, -1)
        try #require(unsafe csupport_socket_pair(&ends.0, &ends.1) == 0)
        // To whoever peeks, an empty packet looks like the end.
        for _ in 0..<emptyPackets { send(ends.0, nil, 0, 0) }
        let slow = LingeringSocket()
        var byte: UInt8 = 1
        try #require(unsafe csupport_send_packet(ends.0, &byte, 1, [slow.descriptor], 1) == 1)
        slow.letGo()
        _ = csupport_close(ends.0)
        try patiently("the caller to go on") { _ in csupport_socket_close(ends.1) }
        try waitUntil("the socket to be closed") { !isOpen(ends.1) }
      }
    }
  }

  @Test("An empty socket, and memory, are closed here and now")
  func atOnce() throws {
    var ends: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&ends.0, &ends.1) == 0)
    let watcher = csupport_epoll_create()
    try #require(csupport_epoll_add(watcher, ends.0, 0, 1) == 0)
    csupport_socket_close(ends.1)
    var event = csupport_event()
    #expect(unsafe csupport_epoll_wait(watcher, &event, 1, 0) == 1, "the hang-up comes before the call returns")
    csupport_socket_close(ends.0)
    #expect(unsafe csupport_epoll_wait(watcher, &event, 1, 0) == 0)
    _ = csupport_close(watcher)
  }

  @Test("Without a thread, a socket is closed without lingering, and what else there is once there are threads again")
  func noThread() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        try await letDispatchOpenItsOwn()
        let slow = LingeringSocket()
        let counter = csupport_eventfd_create()
        let (other, another) = (csupport_eventfd_create(), csupport_eventfd_create())
        // No address is left for a stack.
        leaveAddresses(1 << 20)
        try patiently("the caller to go on") { _ in
          csupport_close_elsewhere(slow.descriptor)
          csupport_close_elsewhere(counter)
        }
        #expect(!isOpen(slow.descriptor))
        _ = csupport_close(other)
        #expect(isOpen(counter))
        leaveAddresses(nil)
        _ = csupport_close(another)
        try waitUntil("the rest to be closed") { !isOpen(counter) }
      }
    }
  }
}

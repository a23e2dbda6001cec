import CSupport
import Glibc
import Testing

/// Two connected sockets; closed by the caller.
func makePair() -> (CInt, CInt) {
  var (first, second): (CInt, CInt) = (-1, -1)
  let result = unsafe csupport_socket_pair(&first, &second)
  precondition(result == 0, "no sockets: \(result)")
  return (first, second)
}

/// What csupport_receive_packet and csupport_peek_packet return.
struct Received {
  var result: CInt
  var bytes: [UInt8]
  var fds: [CInt]
  var areBytesTruncated: Bool
  var areFdsTruncated: Bool
}

func send(_ fd: CInt, _ bytes: [UInt8], _ fds: [CInt] = []) -> Int {
  unsafe csupport_send_packet(fd, bytes, bytes.count, fds, fds.count)
}

func receive(
  _ fd: CInt, capacity: Int = 64, fdCapacity: Int = Int(CSUPPORT_MAX_PACKET_FDS), isCopy: Bool = false
) -> Received {
  var bytes = [UInt8](repeating: 0xee, count: capacity)
  var fds = [CInt](repeating: -1, count: fdCapacity)
  var received = csupport_received()
  let result =
    isCopy
    ? unsafe csupport_copy_packet(fd, &bytes, capacity, &fds, fdCapacity, &received)
    : unsafe csupport_receive_packet(fd, &bytes, capacity, &fds, fdCapacity, &received)
  return Received(
    result: result, bytes: Array(bytes.prefix(received.byte_count)), fds: Array(fds.prefix(received.fd_count)),
    areBytesTruncated: received.bytes_truncated, areFdsTruncated: received.fds_truncated)
}

func peek(_ fd: CInt, capacity: Int = 64) -> Received {
  var bytes = [UInt8](repeating: 0xee, count: capacity)
  var received = csupport_received()
  let result = unsafe csupport_peek_packet(fd, &bytes, capacity, &received)
  return Received(
    result: result, bytes: Array(bytes.prefix(received.byte_count)), fds: [],
    areBytesTruncated: received.bytes_truncated, areFdsTruncated: received.fds_truncated)
}

/// A socket hangs up when no copy of its peer is left, in whatever hands.
struct LeakDetector {
  let watcher: CInt
  let watched: CInt

  init() { (watcher, watched) = makePair() }

  /// Closes both ends. Call it when every copy should be gone. Returns whether they are, soon: a child that another
  /// test is starting has copies of everything until its exec.
  func areAllCopiesClosed() -> Bool {
    _ = csupport_close(watched)
    defer { _ = csupport_close(watcher) }
    return eventually { csupport_socket_is_hung_up(watcher) == 1 }
  }
}

func listen(_ path: String, backlog: CInt = 1) -> CInt { unsafe csupport_socket_listen(path, backlog) }
func connect(_ path: String) -> CInt { unsafe csupport_socket_connect(path) }
func closeAll(_ fds: [CInt]) { for fd in fds { _ = csupport_close(fd) } }

@Suite("Packets")
struct PacketTests {
  @Test("A packet arrives with its descriptors, close-on-exec and in order", arguments: [0, 1, 2, 252, 253])
  func descriptorsArrive(count: Int) {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    // Different files, so that their order shows.
    let sent = (0..<count).map { csupport_memory_create_sealed(UInt64($0)) }
    #expect(send(first, "hello".ascii, sent) == 5)
    closeAll(sent)
    let received = receive(second)
    #expect(received.result == 1)
    #expect(received.bytes == "hello".ascii)
    #expect(received.fds.map { facts($0).size_bytes } == (0..<UInt64(count)).map { $0 })
    #expect(received.fds.allSatisfy(isCloseOnExec))
    #expect(!received.areBytesTruncated)
    #expect(!received.areFdsTruncated)
    closeAll(received.fds)
    #expect(receive(second).result == -EAGAIN)
  }

  @Test("The sender keeps its descriptors")
  func senderKeeps() {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    let fd = csupport_eventfd_create()
    #expect(send(first, [1], [fd]) == 1)
    #expect(isOpen(fd))
    #expect(csupport_close(fd) == 0)
  }

  @Test("What cannot be sent is refused")
  func refused() {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    #expect(send(first, [1], [CInt](repeating: first, count: 254)) == -Int(EINVAL))
    #expect(send(first, []) == -Int(EINVAL))
    #expect(send(first, [1], [-1]) == -Int(EBADF))
    #expect(send(first, [UInt8](repeating: 0, count: 1 << 24)) == -Int(EMSGSIZE))
    #expect(receive(second).result == -EAGAIN, "nothing was sent")
  }

  @Test("Descriptors beyond what was asked for are closed and reported", arguments: [0, 1, 2, 3])
  func tooManyDescriptors(capacity: Int) {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    let detector = LeakDetector()
    #expect(send(first, [1], [CInt](repeating: detector.watched, count: 4)) == 1)
    let received = receive(second, fdCapacity: capacity)
    #expect(received.result == 1)
    #expect(received.bytes == [1])
    #expect(received.fds.count == capacity)
    #expect(received.areFdsTruncated)
    closeAll(received.fds)
    #expect(detector.areAllCopiesClosed())
  }

  @Test("A packet longer than the buffer is cut and reported; its descriptors arrive", arguments: [0, 3])
  func tooManyBytes(capacity: Int) {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    #expect(send(first, "abcdef".ascii, [first]) == 6)
    #expect(send(first, "next".ascii) == 4)
    let received = receive(second, capacity: capacity)
    #expect(received.result == 1)
    #expect(received.bytes == Array("abcdef".ascii.prefix(capacity)))
    #expect(received.areBytesTruncated)
    #expect(!received.areFdsTruncated)
    #expect(received.fds.count == 1)
    closeAll(received.fds)
    #expect(receive(second).bytes == "next".ascii)
  }

  @Test("A packet that is copied stays with its descriptors, until it is dropped; the next one is behind it")
  func copies() {
    let (first, second) = makePair()
    let detector = LeakDetector()
    #expect(send(first, [1, 2, 3], [CInt](repeating: detector.watched, count: 5)) == 3)
    #expect(send(first, [4]) == 1)
    for _ in 0..<2 {
      let copy = receive(second, isCopy: true)
      #expect(copy.result == 1 && copy.bytes == [1, 2, 3] && copy.fds.count == 5 && !copy.areFdsTruncated)
      for fd in copy.fds { #expect(fcntl(fd, F_GETFD) == FD_CLOEXEC) }
      closeAll(copy.fds)
    }
    #expect(csupport_drop_packet(second) == 0)
    #expect(receive(second).bytes == [4])
    #expect(csupport_drop_packet(second) == -EAGAIN)
    #expect(receive(second, isCopy: true).result == -EAGAIN)
    closeAll([first, second])
    #expect(detector.areAllCopiesClosed())
  }

  @Test("A copy for which there are not enough descriptors leaves the packet complete")
  func copyOutOfDescriptors() async {
    await #expect(processExitsWith: .success) {
      let (first, second) = makePair()
      let detector = LeakDetector()
      #expect(send(first, [1, 2, 3], [CInt](repeating: detector.watched, count: 10)) == 3)
      // Above whatever this process has inherited from other tests.
      var spare = [csupport_eventfd_create()]
      let limit = spare[0] + 64
      while let fd = Optional(csupport_eventfd_create()), fd < limit { spare.append(fd) }
      setLimit(RLIMIT_NOFILE, Int(limit))
      closeAll(spare.suffix(4))
      #expect(csupport_descriptors_are_free(first, 4) == 0)
      #expect(csupport_descriptors_are_free(first, 5) == -EMFILE)
      let copy = receive(second, isCopy: true)
      #expect(copy.result == 1 && copy.fds.count == 4 && copy.areFdsTruncated)
      closeAll(copy.fds)
      closeAll(spare.dropLast(4).suffix(6))
      #expect(csupport_descriptors_are_free(first, 10) == 0)
      let received = receive(second)
      #expect(received.bytes == [1, 2, 3] && received.fds.count == 10 && !received.areFdsTruncated)
      closeAll(received.fds)
      #expect(detector.areAllCopiesClosed())
      setLimit(RLIMIT_NOFILE, 3)
      #expect(csupport_descriptors_are_free(first, 1) == -EMFILE)
      setLimit(RLIMIT_NOFILE, 1024)  // sanitizers want some when the process ends
    }
  }

  @Test("A receiver that runs out of descriptors gets those that fit, and is told")
  func outOfDescriptors() async {
    await #expect(processExitsWith: .success) {
      let (first, second) = makePair()
      let detector = LeakDetector()
      #expect(send(first, [1, 2, 3], [CInt](repeating: detector.watched, count: 10)) == 3)
      #expect(send(first, [4], [detector.watched]) == 1)
      // Every number below the limit is taken, except four.
      // Above whatever this process has inherited from other tests.
      var spare = [csupport_eventfd_create()]
      let limit = spare[0] + 64
      while let fd = Optional(csupport_eventfd_create()), fd < limit { spare.append(fd) }
      setLimit(RLIMIT_NOFILE, Int(limit))
      closeAll(spare.suffix(4))

      let received = receive(second)
      #expect(received.result == 1)
      #expect(received.bytes == [1, 2, 3])
      #expect(received.fds.count == 4)
      #expect(received.areFdsTruncated)

      let none = receive(second)
      #expect(none.result == 1)
      #expect(none.bytes == [4])
      #expect(none.fds.isEmpty)
      #expect(none.areFdsTruncated)
      closeAll(received.fds)
      #expect(detector.areAllCopiesClosed())
    }
  }

  @Test("Peeking leaves packet and descriptors where they are")
  func peeking() {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    #expect(peek(second).result == -EAGAIN)
    let detector = LeakDetector()
    #expect(send(first, "abcd".ascii, [detector.watched]) == 4)
    for _ in 0..<3 {
      let seen = peek(second)
      #expect(seen.result == 1)
      #expect(seen.bytes == "abcd".ascii)
      #expect(!seen.areBytesTruncated)
      #expect(seen.areFdsTruncated, "there are some")
    }
    let part = peek(second, capacity: 2)
    #expect(part.bytes == "ab".ascii)
    #expect(part.areBytesTruncated)
    #expect(peek(second, capacity: 0).result == 1)
    let received = receive(second)
    #expect(received.bytes == "abcd".ascii)
    #expect(received.fds.count == 1)
    closeAll(received.fds)
    #expect(detector.areAllCopiesClosed(), "peeking made no copies")
    #expect(send(first, "abcd".ascii) == 4)
    let plain = peek(second)
    #expect(plain.result == 1 && !plain.areFdsTruncated)
    #expect(receive(second).bytes == "abcd".ascii)
    _ = csupport_socket_shutdown(first)
    #expect(peek(second).result == 0)
  }

  @Test("Credentials and pidfds that the socket's maker asked for are ignored, and leak nothing")
  func otherControlMessages() async {
    await #expect(processExitsWith: .success) {
      let (first, second) = makePair()
      var yes: CInt = 1
      let length = socklen_t(MemoryLayout<CInt>.size)
      #expect(unsafe setsockopt(second, SOL_SOCKET, SO_PASSCRED, &yes, length) == 0)
      _ = unsafe setsockopt(second, SOL_SOCKET, SO_PASSPIDFD, &yes, length)
      let isClean = leavesNoDescriptor {
        #expect(send(first, [1], [CInt](repeating: first, count: 253)) == 1)
        #expect(peek(second).result == 1)
        let received = receive(second)
        #expect(received.result == 1)
        #expect(received.fds.count == 253)
        #expect(!received.areFdsTruncated)
        closeAll(received.fds)
        #expect(send(first, [2]) == 1)
        let plain = receive(second, fdCapacity: 0)
        #expect(plain.bytes == [2])
        #expect(!plain.areFdsTruncated)
      }
      #expect(isClean)
      _ = csupport_close(first)
      #expect(receive(second).result == 0)
    }
  }

  @Test("An empty packet, which only a stranger sends, looks like the end; with descriptors it does not")
  func emptyPacket() {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    #expect(Glibc.send(first, nil, 0, 0) == 0)
    #expect(receive(second).result == 0)
    #expect(receive(second).result == -EAGAIN)
  }

  @Test("A full queue refuses at once; it takes more when there is room")
  func fullQueue() {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    var accepted = 0
    while true {
      let result = send(first, [UInt8](repeating: 1, count: 1000))
      guard result == 1000 else {
        #expect(result == -Int(EAGAIN))
        break
      }
      accepted += 1
    }
    #expect(accepted > 0)
    for _ in 0..<accepted { #expect(receive(second, capacity: 1000).bytes.count == 1000) }
    #expect(send(first, [1]) == 1)
  }

  @Test("A larger send buffer takes more packets, and is never made smaller")
  func sendBuffer() {
    func packetsThatFit(_ requested: CInt?) -> Int {
      let (first, second) = makePair()
      defer { closeAll([first, second]) }
      if let requested {
        #expect(csupport_socket_set_send_buffer(first, requested) == 0)
        #expect(csupport_socket_set_send_buffer(first, 1) == 0)
      }
      return (0...).first { _ in send(first, [UInt8](repeating: 1, count: 1000)) < 0 }!
    }
    let usual = packetsThatFit(nil)
    #expect(packetsThatFit(1) == usual)
    #expect(packetsThatFit(150_000) > usual)
  }

  @Test("Shutting down is a hang-up for the other end, which still receives what was sent before")
  func shutdown() {
    let (first, second) = makePair()
    defer { closeAll([first, second]) }
    let copy = fcntl(first, F_DUPFD_CLOEXEC, 0)  // someone else holds it too
    defer { _ = csupport_close(copy) }
    let detector = LeakDetector()
    #expect(send(first, "last".ascii, [detector.watched]) == 4)
    #expect(csupport_socket_is_hung_up(second) == 0)
    #expect(csupport_socket_shutdown(first) == 0)
    #expect(csupport_socket_is_hung_up(second) == 1)
    let received = receive(second)
    #expect(received.bytes == "last".ascii)
    #expect(received.fds.count == 1)
    closeAll(received.fds)
    #expect(receive(second).result == 0)
    #expect(send(second, [1]) == -Int(EPIPE))
    #expect(send(first, [1]) == -Int(EPIPE))
    #expect(detector.areAllCopiesClosed())
  }

  @Test("When the other end closes with unread packets: ECONNRESET once, then what it had sent, then the end")
  func resetThenData() {
    let (first, second) = makePair()
    defer { _ = csupport_close(first) }
    #expect(send(first, "unread".ascii) == 6)
    #expect(send(second, "last".ascii) == 4)
    _ = csupport_close(second)
    #expect(csupport_socket_is_hung_up(first) == 1)
    #expect(receive(first).result == -ECONNRESET)
    #expect(receive(first).bytes == "last".ascii)
    #expect(receive(first).result == 0)
    #expect(receive(first).result == 0)
    #expect(send(first, [1]) == -Int(EPIPE))
  }

  @Test("Unread packets whose descriptors nobody takes are closed with the socket")
  func unreadDescriptors() {
    let (first, second) = makePair()
    let detector = LeakDetector()
    #expect(send(first, [1], [detector.watched]) == 1)
    closeAll([first, second])
    #expect(detector.areAllCopiesClosed())
  }
}

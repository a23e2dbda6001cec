import CSupport
import Glibc
import Testing

@Suite("Sockets")
struct SocketTests {
  @Test("Only a connected SOCK_SEQPACKET Unix socket counts as one")
  func recognised() {
    let (first, second) = makePair()
    #expect(isCloseOnExec(first) && isCloseOnExec(second))
    #expect(isNonBlocking(first) && isNonBlocking(second))
    #expect(csupport_socket_is_seqpacket(first) == 1)
    _ = csupport_close(second)
    #expect(csupport_socket_is_seqpacket(first) == 1, "also after the other end has gone")
    _ = csupport_close(first)

    let fresh = socket(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue), 0)
    #expect(csupport_socket_is_seqpacket(fresh) == 0)
    let internet = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    #expect(csupport_socket_is_seqpacket(internet) == 0)
    var streams: [CInt] = [-1, -1]
    #expect(unsafe socketpair(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0, &streams) == 0)
    #expect(csupport_socket_is_seqpacket(streams[0]) == 0)
    let memory = csupport_memory_create_sealed(1)
    #expect(csupport_socket_is_seqpacket(memory) == 0)
    let pathOnly = unsafe open("/tmp", O_PATH | O_CLOEXEC)
    #expect(csupport_socket_is_seqpacket(pathOnly) == 0)
    closeAll([fresh, internet, memory, pathOnly] + streams)
    #expect(csupport_socket_is_seqpacket(-1) == -EBADF)
    #expect(csupport_socket_is_hung_up(1 << 20) == -EBADF)
    #expect(csupport_close(-1) == -EBADF)
  }

  @Test("Listen, connect, accept, exchange; each side learns who the other is")
  func connection() {
    let path = freshPath()
    let listener = listen(path)
    #expect(listener >= 0)
    defer { closeAll([listener]); unsafe unlink(path) }
    #expect(isCloseOnExec(listener) && isNonBlocking(listener))
    #expect(csupport_socket_is_seqpacket(listener) == 0)
    #expect(csupport_socket_accept(listener) == -EAGAIN)

    let client = connect(path)
    #expect(client >= 0)
    let server = csupport_socket_accept(listener)
    #expect(server >= 0)
    defer { closeAll([client, server]) }
    for end in [client, server] {
      #expect(isCloseOnExec(end) && isNonBlocking(end))
      #expect(csupport_socket_is_seqpacket(end) == 1)
      var peer = csupport_credentials()
      #expect(unsafe csupport_socket_peer(end, &peer) == 0)
      #expect(peer.pid == getpid())
      #expect(peer.uid == geteuid())
      #expect(peer.gid == getegid())
    }
    #expect(send(client, "hi".ascii) == 2)
    #expect(receive(server).bytes == "hi".ascii)
  }

  @Test("What can go wrong with a path says what it is")
  func pathErrors() {
    let path = freshPath()
    let longest = path + String(repeating: "x", count: Int(CSUPPORT_MAX_SOCKET_PATH) - path.utf8.count)
    #expect(connect(path) == -ENOENT)
    #expect(connect("") == -ENOENT)
    #expect(listen("") == -ENOENT)
    #expect(listen(path + "/no/such") == -ENOENT)
    #expect(listen(longest + "x") == -ENAMETOOLONG)
    #expect(connect(longest + "x") == -ENAMETOOLONG)
    let first = listen(longest)
    #expect(first >= 0)
    #expect(listen(longest) == -EADDRINUSE)
    _ = csupport_close(first)
    // A process that another test is starting has a copy of the listener until its exec.
    var refused = connect(longest)
    for _ in 0..<5000 where refused >= 0 {
      _ = csupport_close(refused)
      usleep(1000)
      refused = connect(longest)
    }
    #expect(refused == -ECONNREFUSED)
    #expect(listen(longest) == -EADDRINUSE, "the path is still there")
    unsafe unlink(longest)
  }

  @Test("A listener whose backlog is full answers EAGAIN")
  func fullBacklog() {
    let path = freshPath()
    let listener = listen(path)
    defer { closeAll([listener]); unsafe unlink(path) }
    var clients: [CInt] = []
    defer { closeAll(clients) }
    var refusal: CInt = 0
    while clients.count < 10 {
      let client = connect(path)
      guard client >= 0 else { refusal = client; break }
      clients.append(client)
    }
    #expect(refusal == -EAGAIN)
  }

  @Test("A listening path is never open to others, not even at first, whatever the umask")
  func modeFromTheFirstInstant() async {
    await #expect(processExitsWith: .success) {
      umask(0)
      for _ in 0..<200 {
        let path = freshPath()
        let watcher = HelperThread {
          var status = stat()
          let isThere = eventually { unsafe lstat(path, &status) == 0 }
          return isThere ? status.st_mode : 0
        }
        let listener = listen(path)
        #expect(watcher.result() == S_IFSOCK | 0o600)
        var status = stat()
        #expect(unsafe lstat(path, &status) == 0)
        #expect(status.st_mode == S_IFSOCK | 0o600)
        closeAll([listener])
        unsafe unlink(path)
      }
      #expect(umask(0) == 0, "and the umask stays as it is")
    }
  }

  @Test(
    "Closing a copy of a socket that another process may have by now changes nothing about it",
    arguments: [false, true], [0, 2])
  func closingACopy(_ isHungUp: Bool, _ emptyPackets: Int) throws {
    var ends: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&ends.0, &ends.1) == 0)
    for _ in 0..<emptyPackets { #expect(Glibc.send(ends.0, nil, 0, 0) == 0) }
    if isHungUp { _ = csupport_socket_shutdown(ends.0) }
    csupport_socket_close(dup(ends.1))
    var tellsNames: CInt = -1
    var length = socklen_t(MemoryLayout<CInt>.size)
    #expect(unsafe getsockopt(ends.1, SOL_SOCKET, SO_PASSCRED, &tellsNames, &length) == 0)
    #expect(tellsNames == 0)
    #expect(csupport_socket_may_reach_server(ends.1) == 0)
    closeAll([ends.0, ends.1])
  }

  @Test("What is connected to a server, or taken from one, is told from what is one of a pair, as long as it lasts")
  func reachesServer() {
    let path = freshPath()
    let listener = listen(path)
    defer { closeAll([listener]); unsafe unlink(path) }
    let client = connect(path)
    let accepted = csupport_socket_accept(listener)
    #expect(csupport_socket_may_reach_server(client) == 1)
    #expect(csupport_socket_may_reach_server(accepted) == 1)
    closeAll([client])
    #expect(csupport_socket_may_reach_server(accepted) == 0)
    closeAll([accepted])
    #expect(csupport_socket_may_reach_server(listener) < 0)
  }
}

import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Finding each other: names, permissions, and what can go wrong.
@Suite("Connections", .serialized, .timeLimit(.minutes(5)))
struct ConnectionTests {
  // MARK: 8.1

  @Test("8.1 A client that comes before its server waits for it")
  func connectBeforeListen() async throws {
    let path = freshPath()
    async let connecting = Connection.connect(path: path, timeout: patience)
    try await Task.sleep(for: .milliseconds(100))
    let listener = try Listener(path: path)
    let (client, server) = (try await connecting, try await listener.next())
    try await expectWorking(client, server)
  }

  @Test("8.1 Without a server, connecting times out with a typed error")
  func noServer() async throws {
    let path = freshPath()
    let start = ContinuousClock.now
    await #expect(throws: ConnectionError.noServer(path: path)) {
      try await Connection.connect(path: path, timeout: .milliseconds(150))
    }
    let elapsed = ContinuousClock.now - start
    #expect(elapsed >= .milliseconds(150) && elapsed < patience)
  }

  @Test("8.1 A server that accepts and says nothing makes connecting time out, too")
  func silentServer() async throws {
    let path = freshPath()
    let socket = unsafe csupport_socket_listen(path, 8)
    try #require(socket >= 0)
    defer {
      _ = csupport_close(socket)
      unsafe unlink(path)
    }
    await #expect(throws: ConnectionError.noServer(path: path)) {
      try await Connection.connect(path: path, timeout: .milliseconds(150))
    }
  }

  @Test("8.1 A name in use is refused, and its server goes on")
  func nameInUse() async throws {
    let path = freshPath()
    let listener = try Listener(path: path)
    #expect(throws: ConnectionError.nameInUse(path: path)) { try Listener(path: path) }
    let client = try await Connection.connect(path: path, timeout: patience)
    // The attempt to find out whether the server lives shows nowhere.
    try await expectWorking(client, try await listener.next())
    let other = try PeerProcess.spawn("listen", [path])
    #expect(try await other.connection.nextName() == "nameInUse")
  }

  @Test("8.1 A name left behind by a killed server can be used at once, and clients find the new server")
  func staleName() async throws {
    let path = freshPath()
    let server = try PeerProcess.spawn("listen", [path])
    #expect(try await server.connection.nextName() == "listening")
    let old = try await Connection.connect(path: path, timeout: patience)
    server.kill()
    #expect(await server.exitStatus == .signalled(9))
    #expect(kind(of: path) == CSUPPORT_PATH_SOCKET)

    async let connecting = Connection.connect(path: path, timeout: patience)
    try await Task.sleep(for: .milliseconds(50))
    let listener = try Listener(path: path)
    try await expectWorking(try await connecting, try await listener.next())
    try await eventually("the end of the connection to the dead server") { old.isPeerClosed }
  }

  @Test("8.1 Of several servers that find the same name of a dead one, one gets it")
  func raceForStaleName() async throws {
    for _ in 0..<20 {
      let path = freshPath()
      let dead = unsafe csupport_socket_listen(path, 8)
      try #require(dead >= 0)
      _ = csupport_close(dead)
      let winners = Collected<Listener>()
      try await withThrowingTaskGroup { group in
        for _ in 0..<4 {
          group.addTask {
            try await onThread {
              do { winners.append(try Listener(path: path)) } catch ConnectionError.nameInUse { return }
            }
          }
        }
        try await group.waitForAll()
      }
      try #require(winners.count == 1)
      let client = try await Connection.connect(path: path, timeout: patience)
      try await expectWorking(client, try await winners.all[0].next())
    }
  }

  @Test("8.1 Whatever is at the path and not a socket is left alone", arguments: ["file", "directory", "link"])
  func foreignFile(_ what: String) throws {
    let path = freshPath()
    switch what {
    case "file": _ = unsafe close(open(path, O_CREAT | O_WRONLY, 0o600))
    case "directory": _ = unsafe mkdir(path, 0o700)
    default: _ = unsafe symlink("/tmp/nowhere", path)
    }
    defer { _ = unsafe remove(path) }
    let before = unsafe csupport_path_kind(path)
    #expect(throws: ConnectionError.foreignFile(path: path)) { try Listener(path: path) }
    #expect(unsafe csupport_path_kind(path) == before)
  }

  @Test("8.1 A path that does not fit a socket's name is refused, and the longest that does works")
  func longPaths() async throws {
    let longest = freshPath(String(repeating: "x", count: 107)).prefix(107)
    #expect(throws: ConnectionError.pathTooLong(path: longest + "x", limit: 107)) { try Listener(path: longest + "x") }
    await #expect(throws: ConnectionError.pathTooLong(path: longest + "x", limit: 107)) {
      try await Connection.connect(path: longest + "x")
    }
    let listener = try Listener(path: String(longest))
    let client = try await Connection.connect(path: String(longest))
    try await expectWorking(client, try await listener.next())
  }

  @Test("8.1 An empty path, and one with a zero in it, are invalid", arguments: ["", "/tmp/a\0b"])
  func senselessPaths(_ path: String) async throws {
    func isInvalid(_ error: any Error) -> Bool {
      if case .invalidOption? = error as? ConnectionError { true } else { false }
    }
    #expect(performing: { try Listener(path: path) }, throws: isInvalid)
    do {
      _ = try await Connection.connect(path: path, timeout: patience)
      Issue.record("connected")
    } catch {
      #expect(isInvalid(error))
    }
  }

  @Test("8.1 A path without a slash lies in the user's runtime directory")
  func runtimeDirectory() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let directory = freshPath()
        try #require(unsafe mkdir(directory, 0o700) == 0)
        unsafe setenv("XDG_RUNTIME_DIR", directory, 1)
        do {
          let listener = try Listener(path: "some-name")
          #expect(listener.path == directory + "/some-name")
          let client = try await Connection.connect(path: "some-name", timeout: patience)
          try await expectWorking(client, try await listener.next())
        }
        #expect(entries(of: directory).isEmpty)
        unsafe unsetenv("XDG_RUNTIME_DIR")
        let listener = try Listener(path: "messageports-test-\(getpid())")
        #expect(
          listener.path.hasPrefix("/run/user/\(geteuid())/")
            || listener.path.hasPrefix("/tmp/messageports-\(geteuid())/"))
        unsafe rmdir(directory)
      }
    }
  }

  @Test("8.1 The server learns who has connected")
  func credentials() async throws {
    let listener = try Listener(path: freshPath())
    let worker = try PeerProcess.spawn("connect", [listener.path])
    let server = try await listener.next()
    #expect(server.peer?.processIdentifier == worker.processIdentifier)
    #expect(server.peer?.userIdentifier == geteuid())
    #expect(server.peer?.groupIdentifier == getegid())
    #expect(try await worker.connection.nextName() == "connected")
  }

  // MARK: 8.1, cancellation

  @Test("8.1 Connecting can be cancelled while there is no server")
  func cancelWithoutServer() async throws {
    let connecting = Task { try await Connection.connect(path: freshPath(), timeout: .seconds(60)) }
    try await Task.sleep(for: .milliseconds(30))
    connecting.cancel()
    await #expect(throws: ConnectionError.cancelled) { try await connecting.value }
  }

  @Test("8.1 Connecting can be cancelled while the server does not answer")
  func cancelWithSilentServer() async throws {
    let path = freshPath()
    let socket = unsafe csupport_socket_listen(path, 8)
    try #require(socket >= 0)
    defer {
      _ = csupport_close(socket)
      unsafe unlink(path)
    }
    for pause in [0, 1, 20] {
      let connecting = Task { try await Connection.connect(path: path, timeout: .seconds(60)) }
      try await Task.sleep(for: .milliseconds(pause))
      connecting.cancel()
      await #expect(throws: ConnectionError.cancelled) { try await connecting.value }
    }
  }

  // MARK: 8.1, the listener's life

  @Test("8.1 A closed listener's name is gone, and the connections that it accepted stay")
  func listenerCloses() async throws {
    let listener = try Listener(path: freshPath())
    let client = try await Connection.connect(path: listener.path, timeout: patience)
    let server = try await listener.next()
    let waiting = try await Connection.connect(path: listener.path, timeout: patience)
    // Accepted, and not yet taken by the program.
    listener.close()
    listener.close()
    #expect(kind(of: listener.path) == CSUPPORT_PATH_ABSENT)
    await #expect(throws: ConnectionError.noServer(path: listener.path)) {
      try await Connection.connect(path: listener.path, timeout: .milliseconds(50))
    }
    try await expectWorking(client, server)
    var rest: [Connection] = []
    for await connection in listener.connections { rest.append(connection) }
    try #require(rest.count == 1)
    try await expectWorking(waiting, rest[0])
    // The name is free for another one.
    let successor = try Listener(path: listener.path)
    try await expectWorking(
      try await Connection.connect(path: listener.path, timeout: patience), try await successor.next())
  }

  @Test("8.1 A listener that nobody refers to any more removes its name")
  func listenerReleased() async throws {
    let path = freshPath()
    let (client, server) = try await {
      let listener = try Listener(path: path)
      return (try await Connection.connect(path: path, timeout: patience), try await listener.next())
    }()
    #expect(kind(of: path) == CSUPPORT_PATH_ABSENT)
    try await expectWorking(client, server)
  }

  @Test("8.1 Two hundred clients connect at once, and each talks to its own end")
  func manyClients() async throws {
    let listener = try Listener(path: freshPath())
    let count = 200
    let servers = Task {
      var servers: [Connection] = []
      for await connection in listener.connections {
        connection.on("number") { event in try? event.connection.postMessage("back", bytes: event.bytes) }
        servers.append(connection)
        if servers.count == count { break }
      }
      return servers
    }
    let answers = Collected<UInt64>()
    let clients = try await withThrowingTaskGroup { group in
      for number in 0..<UInt64(count) {
        group.addTask {
          let client = try await Connection.connect(path: listener.path, timeout: patience)
          client.on("back") { event in
            if (try? event.load(as: UInt64.self)) == number { answers.append(number) }
          }
          try client.postMessage("number", bitwise: number)
          return client
        }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    try await answers.wait(for: count)
    #expect(Set(answers.all).count == count)
    #expect(await servers.value.count == count)
    clients.forEach { $0.close() }
  }

  @Test("8.1 Messages of a client that is gone before the server looks are delivered, and then its end")
  func clientGoneBeforeAccepted() async throws {
    let listener = try Listener(path: freshPath())
    let client = try await Connection.connect(path: listener.path, timeout: patience)
    for number in 0..<10 as Range<UInt64> { try client.postMessage("number", bitwise: number) }
    client.close()
    let server = try await listener.next()
    let events = Collected<String>()
    server.onClose = { events.append("\($0)") }
    server.on("number") { events.append("\((try? $0.load(as: UInt64.self)) ?? .max)") }
    #expect(try await events.wait(for: 11) == (0..<10).map { "\($0)" } + ["closed by peer"])
  }
}

// MARK: - Helpers for all tests of connections

func kind(of path: String) -> Int { Int(unsafe csupport_path_kind(path)) }

extension Listener {
  /// The next connection, within a limit.
  func next(within limit: Duration = patience) async throws -> Connection {
    let connections = connections
    return try await withThrowingTaskGroup { group in
      group.addTask {
        var iterator = connections.makeAsyncIterator()
        return await iterator.next()
      }
      group.addTask {
        try await Task.sleep(for: limit)
        throw DeadlineExceeded(what: "a connection")
      }
      defer { group.cancelAll() }
      guard let connection = try await group.next()! else { throw Agent.Failure(description: "no more connections") }
      return connection
    }
  }
}

extension Connection {
  /// The name of the next message, whatever it is. Only for connections whose messages come one at a time.
  func nextName(within limit: Duration = patience) async throws -> String {
    let names = Collected<String>()
    onUnhandled = { names.append($0.name) }
    return try await names.wait(for: 1, within: limit)[0]
  }
}

/// Two ends of one connection: each hears what the other says.
func expectWorking(
  _ one: Connection, _ other: Connection, sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let heard = Collected<String>()
  let number = UInt64.random(in: 0 ... .max)
  for (name, connection) in [("one", one), ("other", other)] {
    connection.on("working") { event in
      if (try? event.load(as: UInt64.self)) == number { heard.append(name) }
    }
    try connection.postMessage("working", bitwise: number)
  }
  #expect(try await Set(heard.wait(for: 2)) == ["one", "other"], sourceLocation: sourceLocation)
}

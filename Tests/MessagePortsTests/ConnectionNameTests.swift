import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// What a listener takes, keeps and gives back.
@Suite("Listeners and their names", .serialized, .timeLimit(.minutes(5)))
struct ConnectionNameTests {
  @Test("13.5 Closing a listener leaves the name of its successor alone")
  func successorKeepsItsName() async throws {
    let path = freshPath()
    let first = try Listener(path: path)
    try #require(unsafe unlink(path) == 0)
    let second = try Listener(path: path)
    first.close()
    _ = try await Connection.connect(path: path, timeout: patience)
    _ = try await second.accept(timeout: patience)
    second.close()
    #expect(unsafe csupport_path_kind(path) == CSUPPORT_PATH_ABSENT)
  }

  @Test("13.5 A lock that somebody holds on the directory keeps no listener waiting")
  func heldLock() throws {
    let directory = freshPath()
    try #require(unsafe mkdir(directory, 0o700) == 0)
    let lock = unsafe open(directory, O_RDONLY | O_CLOEXEC)
    try #require(lock >= 0 && flock(lock, LOCK_EX) == 0)
    defer {
      close(lock)
      _ = unsafe rmdir(directory)
    }
    try Listener(path: directory + "/socket").close()
  }

  @Test("13.5 A client that comes while nobody accepts is given to the next accept loop")
  func nextLoop() async throws {
    let listener = try Listener(path: freshPath())
    let loop = Task { for await _ in listener.connections {} }
    try await Task.sleep(for: .milliseconds(20))
    loop.cancel()
    await loop.value
    _ = try await Connection.connect(path: listener.path, timeout: patience)
    _ = try await listener.accept(timeout: patience)
  }

  @Test("13.5, 9.5 Few clients wait for a program that takes none; the others are let in as it does")
  func untakenClients() async throws {
    let listener = try Listener(path: freshPath())
    let connected = Collected<Connection>()
    let path = listener.path
    let count = 300
    try await withThrowingTaskGroup { group in
      for _ in 0..<count {
        group.addTask { connected.append(try await Connection.connect(path: path, timeout: patience)) }
      }
      try await connected.wait(for: 128)
      // Those that were being greeted already; and time for others, if they were let in.
      try await Task.sleep(for: .milliseconds(100))
      #expect(connected.count <= 2 * 128)
      var taken: [Connection] = []
      for _ in 0..<count { taken.append(try await listener.accept(timeout: patience)) }
      try await group.waitForAll()
      #expect(connected.count == count)
    }
  }

  @Test("13.5 A wait for a client that times out or is cancelled loses none")
  func acceptErrors() async throws {
    let listener = try Listener(path: freshPath())
    await #expect(throws: ConnectionError.timedOut) { try await listener.accept(timeout: .milliseconds(20)) }
    let waiting = Task { try await listener.accept() }
    waiting.cancel()
    await #expect(throws: ConnectionError.cancelled) { try await waiting.value }
    _ = try await Connection.connect(path: listener.path, timeout: patience)
    _ = try await listener.accept(timeout: .seconds(Int64.max))
    listener.close()
    await #expect(throws: ConnectionError.listenerClosed) { try await listener.accept() }
  }

  @Test("8.1 Connecting to what is no socket is refused at once")
  func connectToFile() async throws {
    let path = freshPath()
    _ = unsafe close(open(path, O_CREAT | O_WRONLY, 0o600))
    defer { _ = unsafe unlink(path) }
    await #expect(throws: ConnectionError.foreignFile(path: path)) {
      try await Connection.connect(path: path, timeout: .seconds(Int64.max))
    }
  }

  @Test("8.4 Handlers that are set together miss none of their messages")
  func handlersTogether() async throws {
    let listener = try Listener(path: freshPath())
    let client = try await Connection.connect(path: listener.path, timeout: patience)
    let server = try await listener.accept(timeout: patience)
    try client.postMessage("b")
    try client.postMessage("a")
    let heard = Collected<String>()
    server.handle {
      $0.on("a") { heard.append($0.name) }
      $0.on("b") { heard.append($0.name) }
    }
    #expect(try await heard.wait(for: 2) == ["b", "a"])
  }

  @Test("8.2 A listener's own limit holds, whatever the client asks for")
  func stricterLimit() async throws {
    let listener = try Listener(path: freshPath(), options: ChannelOptions(messageLimitBytes: 4096))
    _ = try await Connection.connect(path: listener.path, timeout: patience)
    let server = try await listener.accept(timeout: patience)
    #expect {
      try server.postMessage("a", bytes: [UInt8](repeating: 0, count: 5000))
    } throws: { if case .messageTooLarge? = $0 as? PortError { true } else { false } }
  }
}

import Glibc
import MessagePorts
import TestSupport
import Testing

/// Which users may connect, and where a user may listen.
@Suite("Access to names", .serialized, .timeLimit(.minutes(3)))
struct ConnectionAccessTests {
  /// Starts the other process as another user, from a copy that this user can read.
  private func spawnAsNobody(
    _ role: String, _ arguments: [String], user: Int = 65534
  ) async throws -> WorkerProcess {
    let copy = freshPath("-TestPeer")
    // Not written by this process: a child that is being started would keep it from being executed.
    let copying = try WorkerProcess.spawn("cp", arguments: [PeerProcess.executable, copy])
    #expect(await copying.exitStatus == .exited(0))
    defer { unsafe unlink(copy) }
    let worker = try WorkerProcess.spawn(
      "setpriv", arguments: ["--reuid=\(user)", "--regid=\(user)", "--clear-groups", copy, role] + arguments)
    try await eventually("the start of the copy") { linkTarget("/proc/\(worker.processIdentifier)/exe") == copy }
    return worker
  }

  private static let canBecomeNobody = unsafe geteuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0

  private func mode(_ path: String) -> UInt32 {
    var facts = stat()
    return unsafe lstat(path, &facts) == 0 ? facts.st_mode & 0o777 : 0
  }

  @Test("8.1 Whom the file system lets near the socket: the user alone, unless others are let in, or it is root's")
  func fileMode() async throws {
    let path = freshPath()
    let worker = try await Self.canBecomeNobody ? spawnAsNobody("listen", [path]) : PeerProcess.spawn("listen", [path])
    #expect(try await worker.connection.nextName() == "listening")
    #expect(mode(path) == 0o600)
    let own = try Listener(path: freshPath())
    #expect(mode(own.path) == (geteuid() == 0 ? 0o666 : 0o600))
    let open = try Listener(path: freshPath(), access: .anyone)
    #expect(mode(open.path) == 0o666)
  }

  @Test("8.1 Another user's process is not let in", .enabled(if: canBecomeNobody, "needs root and setpriv"))
  func otherUser() async throws {
    let listener = try Listener(path: freshPath())
    let worker = try await spawnAsNobody("connect", [listener.path])
    #expect(try await worker.connection.nextName() == "notPermitted")
  }

  @Test(
    "8.1 A server that has become another user lets in that user and the one who made the name, and nobody else",
    .enabled(if: canBecomeNobody, "needs root and setpriv"))
  func becomesAnotherUser() async throws {
    let path = freshPath()
    let server = try PeerProcess.spawn("listenAsNobody", [path])
    #expect(try await server.connection.nextName() == "listening")
    let stranger = try await spawnAsNobody("connect", [path], user: 65533)
    #expect(try await stranger.connection.nextName() == "notPermitted")
    let same = try await spawnAsNobody("connect", [path])
    #expect(try await same.connection.nextName() == "connected")
    let maker = try await Connection.connect(path: path, timeout: patience)
    #expect(!maker.isPeerClosed)
    unsafe unlink(path)
  }

  @Test(
    "8.1 Another user's process is let in if the server says so",
    .enabled(if: canBecomeNobody, "needs root and setpriv"),
    arguments: [Listener.Access.anyone, .users([65534])])
  func invitedUser(_ access: Listener.Access) async throws {
    let listener = try Listener(path: freshPath(), access: access)
    let worker = try await spawnAsNobody("connect", [listener.path])
    #expect(try await worker.connection.nextName() == "connected")
    let server = try await listener.next()
    #expect(server.peer?.userIdentifier == 65534)
    try server.postMessage("hello", bytes: [1])
    #expect(try await server.nextName() == "hello")
  }

  @Test("8.1 A user who is not on the server's list is refused with a typed error, every time")
  func uninvitedUser() async throws {
    let listener = try Listener(path: freshPath(), access: .users([65533]))
    for _ in 0..<20 {
      await #expect(throws: ConnectionError.notPermitted(path: listener.path)) {
        try await Connection.connect(path: listener.path, timeout: patience)
      }
    }
  }

  @Test(
    "8.1 Listening where the user may not is refused with a typed error",
    .enabled(if: canBecomeNobody, "needs root and setpriv"))
  func forbiddenDirectory() async throws {
    let worker = try await spawnAsNobody("listen", ["/etc/messageports-test"])
    #expect(try await worker.connection.nextName() == "notPermitted")
  }

  @Test(
    "8.1 Connecting where the user may not look is refused with a typed error, at once",
    .enabled(if: canBecomeNobody, "needs root and setpriv"))
  func forbiddenPath() async throws {
    let directory = freshPath()
    try #require(unsafe mkdir(directory, 0o700) == 0)
    defer { unsafe rmdir(directory) }
    let worker = try await spawnAsNobody("connect", [directory + "/socket"])
    #expect(try await worker.connection.nextName() == "notPermitted")
  }

  /// What lies where a user without a runtime directory would have one.
  enum Found: String, CaseIterable, Sendable {
    case nothing, own, ownOpenToOthers, anothers, aLink
    var isGood: Bool { self == .nothing || self == .own }
  }

  @Test(
    "8.1 Where there is no runtime directory, a name lies in one that is the user's alone, or there is none",
    .enabled(if: canBecomeNobody, "needs root"), arguments: Found.allCases)
  func fallbackDirectory(_ found: Found) async throws {
    let user = UInt32.random(in: 60_000..<65_000)
    let directory = "/tmp/messageports-\(user)"
    switch found {
    case .nothing: break
    case .aLink: try #require(unsafe symlink("/tmp", directory) == 0)
    case .own, .ownOpenToOthers, .anothers:
      try #require(unsafe mkdir(directory, 0o700) == 0)
      if found == .ownOpenToOthers { try #require(unsafe chmod(directory, 0o770) == 0) }
      if found != .anothers { try #require(unsafe chown(directory, user, user) == 0) }
    }
    defer { if unsafe rmdir(directory) != 0 { unsafe unlink(directory) } }
    let isGood = found.isGood
    await #expect(processExitsWith: .success) {
      [user = user as UInt32, directory = directory as String, isGood = isGood as Bool] in
      await recordErrors {
        unsafe unsetenv("XDG_RUNTIME_DIR")
        try #require(setgid(user) == 0 && setuid(user) == 0)
        guard isGood else {
          #expect(throws: ConnectionError.self) { try Listener(path: "name") }
          return
        }
        let listener = try Listener(path: "name")
        #expect(listener.path == directory + "/name")
        #expect(ConnectionAccessTests().mode(directory) == 0o700)
      }
    }
  }
}

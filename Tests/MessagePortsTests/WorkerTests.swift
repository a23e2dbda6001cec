import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

@Suite("Workers", .serialized, .timeLimit(.minutes(5)))
struct WorkerTests {
  // MARK: Starting

  @Test("8.1 A program that does not exist is a typed error", arguments: ["/nowhere/at/all", "no-such-program-at-all"])
  func executableNotFound(_ name: String) {
    #expect(throws: ConnectionError.executableNotFound(name)) { try WorkerProcess.spawn(name) }
  }

  @Test("8.1 A program that may not be executed is a typed error")
  func executableNotPermitted() throws {
    let path = freshPath()
    unsafe close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600))
    defer { unsafe unlink(path) }
    #expect(throws: ConnectionError.notPermitted(path: path)) { try WorkerProcess.spawn(path) }
  }

  @Test("8.1 A worker gets its arguments, and the environment that it was given besides one variable")
  func argumentsAndEnvironment() async throws {
    // All processes of a test run must know in which mode the library works.
    var modes: [String: String] = [:]
    for name in ["MESSAGEPORTS_BACKING", "MESSAGEPORTS_DRIVER"] {
      if let value = unsafe getenv(name) { modes[name] = unsafe String(cString: value) }
    }
    let worker = try WorkerProcess.spawn(
      PeerProcess.executable, arguments: ["arguments", "one", "two words", "", "drei ß"],
      environment: ["A": "1", "B": "x=y"].merging(modes) { $1 })
    let messages = Collected<ConnectionEvent>()
    worker.connection.onUnhandled = { messages.append($0) }
    let texts = try await messages.wait(for: 2).map { String(decoding: $0.bytes, as: UTF8.self) }
    #expect(texts[0] == "one\ntwo words\n\ndrei ß")
    let variables = texts[1].split(separator: "\n")
    #expect(variables.count == 3 + modes.count)
    #expect(variables.contains("A=1") && variables.contains("B=x=y"))
  }

  @Test("8.1 A worker inherits this process's environment unless told otherwise, and is found in PATH")
  func inheritedEnvironment() async throws {
    let worker = try WorkerProcess.spawn("env", arguments: [PeerProcess.executable, "arguments"])
    let messages = Collected<ConnectionEvent>()
    worker.connection.onUnhandled = { messages.append($0) }
    let variables = try await messages.wait(for: 2).map { String(decoding: $0.bytes, as: UTF8.self) }[1]
    let path = unsafe String(cString: getenv("PATH"))
    #expect(variables.split(separator: "\n").contains { $0 == "PATH=\(path)" })
  }

  @Test("8.1 A program that was not started as a worker has no parent")
  func noParent() {
    #expect(throws: ConnectionError.noParent) { try Connection.parent }
  }

  @Test(
    "8.1 A variable inherited from a worker does not pass for a parent",
    arguments: ["3:1", "3", "x:y", "1:2:3", "-1:0"])
  func foreignParentVariable(_ value: String) async throws {
    await #expect(processExitsWith: .success) { [value] in
      await recordErrors {
        unsafe setenv("MESSAGEPORTS_PARENT", value, 1)
        #expect(throws: ConnectionError.noParent) { try Connection.parent }
      }
    }
  }

  // MARK: Ending

  @Test("8.5 A worker's exit code is known, and is the reason of its connection's close", arguments: [0, 7] as [CInt])
  func exitCode(_ code: CInt) async throws {
    let worker = try PeerProcess.spawn("exit", ["\(code)"])
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    #expect(await worker.exitStatus == .exited(code))
    #expect(try await closes.wait(for: 1) == [.peerExited(.exited(code))])
    #expect(!worker.isRunning)
    // Asked again, it is still known.
    #expect(await worker.exitStatus == .exited(code))
    #expect(kill(worker.processIdentifier, 0) < 0, "no zombie is left")
  }

  @Test(
    "8.5 The signal that ended a worker is known, and is the reason of its connection's close",
    arguments: [SIGKILL, SIGTERM])
  func exitSignal(_ signal: CInt) async throws {
    let worker = try PeerProcess.spawn("silent")
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    #expect(worker.isRunning)
    worker.kill(signal)
    #expect(await worker.exitStatus == .signalled(signal))
    #expect(try await closes.wait(for: 1) == [.peerExited(.signalled(signal))])
    worker.kill()  // To nobody.
  }

  @Test("4.7 A worker that is stopped is not dead")
  func stoppedWorker() async throws {
    let agent = try Agent(.anotherProcess)
    try await agent.call(.processIdentifier)
    let worker = try #require(agent.worker)
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    worker.kill(SIGSTOP)
    try agent.begin(.processIdentifier)
    try await Task.sleep(for: .milliseconds(300))
    #expect(closes.all.isEmpty && worker.isRunning && !worker.connection.isPeerClosed)
    worker.kill(SIGCONT)
    #expect(try await agent.end().value == UInt64(worker.processIdentifier))
  }

  @Test("8.5 A worker that disconnects and lives on is disconnected, not exited")
  func disconnectsAndLives() async throws {
    let worker = try PeerProcess.spawn("postAndExit", ["0", "close"])
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    #expect(try await closes.wait(for: 1) == [.closedByPeer])
    #expect(worker.isRunning)
    worker.kill()
    #expect(await worker.exitStatus == .signalled(9))
  }

  @Test("8.5 A worker whose program does not use the library ends like any other")
  func foreignProgram() async throws {
    let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "exit 5"])
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    try worker.connection.postMessage("nobody will read this")
    #expect(await worker.exitStatus == .exited(5))
    #expect(try await closes.wait(for: 1) == [.peerExited(.exited(5))])
  }

  @Test("8.5 Of many workers at once, each one's end is reported to its own connection")
  func manyWorkers() async throws {
    let closes = Collected<String>()
    let workers = try (0..<20).map { number in
      let worker = try PeerProcess.spawn("exit", ["\(number)"])
      worker.connection.onClose = { closes.append("\(number): \($0)") }
      return worker
    }
    try await closes.wait(for: 20)
    #expect(Set(closes.all) == Set((0..<20).map { "\($0): peer exited: exit code \($0)" }))
    for (number, worker) in workers.enumerated() { #expect(await worker.exitStatus == .exited(CInt(number))) }
  }

  @Test("7.2 A worker's connection that nobody refers to closes, and the worker's process object does not")
  func connectionReleased() async throws {
    var worker: WorkerProcess? = try PeerProcess.spawn("silent")
    let pid = try #require(worker).processIdentifier
    worker = nil
    // The worker's own end hears of it, and its program ends.
    try await eventually("the worker's end") { kill(pid, 0) < 0 }
  }

  // MARK: 9.2 Descriptors

  @Test("9.2 A worker gets the standard descriptors and its connection, and nothing of this process's channels")
  func inheritedDescriptors() async throws {
    // Ports in shared memory, a listener, another worker: all have descriptors here.
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [channel.port2])
    let listener = try Listener(path: freshPath())
    let client = try await Connection.connect(path: listener.path, timeout: patience)
    let guarded = guardedSockets(of: "self")
    // A program that opens nothing of its own lists what it has.
    let directory = freshPath()
    let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "ls -l /proc/$$/fd > \(directory)"])
    defer { unsafe unlink(directory) }
    #expect(await worker.exitStatus == .exited(0))
    let links = lines(of: directory).compactMap { $0.split(separator: ">").last.map(String.init) }
    let sockets = links.filter { $0.contains("socket:") }
    let strangers = links.filter { $0.contains("memfd") || $0.contains("anon_inode") || $0.contains("/dev/shm") }
    #expect(!guarded.isEmpty)
    #expect(guarded.isDisjoint(with: sockets), "\(links)")
    #expect(strangers.isEmpty, "\(links)")
    _ = (channel, client)
  }

  @Test("9.2 A worker's own children inherit none of its ports, and do not hide its death")
  func grandchildren() async throws {
    let worker = try PeerProcess.spawn("grandchild")
    let ports = Collected<MessagePort>()
    let pids = Collected<Int32>()
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    worker.connection.on("port") { for port in $0.ports { ports.append(port) } }
    worker.connection.on("grandchild") { pids.append(Int32((try? $0.load(as: UInt64.self)) ?? 0)) }
    let grandchildren = try await pids.wait(for: 2)
    let port = try await ports.wait(for: 1)[0]
    port.onClose = { closes.append($0) }
    defer { for pid in grandchildren where pid > 1 { kill(pid, SIGKILL) } }

    for pid in grandchildren {
      try await eventually("the start of \(pid)") { text(of: "/proc/\(pid)/comm") == "sleep\n" }
      let links = entries(of: "/proc/\(pid)/fd").compactMap { linkTarget("/proc/\(pid)/fd/\($0)") }
      #expect(
        !links.contains { $0.contains("memfd") || $0.contains("anon_inode") || $0.contains("/dev/shm") }, "\(links)")
      // The first one's connection to the worker is a socket that the worker has one end of, and not this one.
      #expect(guardedSockets(of: "\(worker.processIdentifier)").isDisjoint(with: links), "\(links)")
    }
    worker.kill()
    #expect(await worker.exitStatus == .signalled(9))
    try await closes.wait(for: 2)
    for pid in grandchildren { #expect(kill(pid, 0) == 0, "still there") }
  }
}

/// The sockets that a process keeps from its children: all that the library has made are among them, while those of
/// whoever runs the tests need not be.
private func guardedSockets(of process: String) -> Set<String> {
  var sockets: Set<String> = []
  for fd in entries(of: "/proc/\(process)/fd") {
    guard let target = linkTarget("/proc/\(process)/fd/\(fd)"), target.contains("socket:") else { continue }
    let flags = lines(of: "/proc/\(process)/fdinfo/\(fd)").first { $0.hasPrefix("flags:") }?.split(separator: "\t").last
    if let flags, let value = CInt(flags, radix: 8), value & O_CLOEXEC != 0 { sockets.insert(target) }
  }
  return sockets
}

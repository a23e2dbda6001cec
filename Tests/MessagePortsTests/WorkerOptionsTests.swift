import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

@Suite("What workers have otherwise", .serialized, .timeLimit(.minutes(5)))
struct WorkerOptionsTests {
  private func shell(_ script: String, _ change: (inout WorkerOptions) -> Void) throws -> WorkerProcess {
    var process = WorkerOptions()
    change(&process)
    return try WorkerProcess.spawn("sh", arguments: ["-c", script], process: process)
  }

  /// What a shell script says on its standard output.
  private func said(by script: String, _ change: (inout WorkerOptions) -> Void = { _ in }) throws -> String {
    let worker = try shell(script) { process in
      process.standardOutput = .pipe
      change(&process)
    }
    let pipe = try #require(worker.takePipe(.output))
    defer { close(pipe) }
    return text(from: pipe)
  }

  /// Everything until nobody has the other end any more.
  private func text(from pipe: CInt) -> String {
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = unsafe read(pipe, &buffer, buffer.count)
      if count <= 0 { return String(decoding: bytes, as: UTF8.self) }
      bytes += buffer[..<count]
    }
  }

  // MARK: Standard streams

  @Test("13.9 Pipes lead to and from a worker, and are taken once")
  func pipes() throws {
    let worker = try shell("cat; echo oops >&2") { process in
      (process.standardInput, process.standardOutput, process.standardError) = (.pipe, .pipe, .pipe)
    }
    let input = try #require(worker.takePipe(.input)), output = try #require(worker.takePipe(.output))
    let errors = try #require(worker.takePipe(.error))
    #expect(StandardDescriptor.allCases.allSatisfy { worker.takePipe($0) == nil })
    #expect([input, output, errors].allSatisfy { $0 > 2 && fcntl($0, F_GETFD) == FD_CLOEXEC })
    #expect(unsafe write(input, "there", 5) == 5)
    close(input)
    #expect(text(from: output) == "there")
    #expect(text(from: errors) == "oops\n")
    for pipe in [output, errors] { close(pipe) }
    #expect(try worker.wait(timeout: patience) == .exited(0))
  }

  @Test("13.9 A pipe that nobody takes closes with the worker's object")
  func untakenPipe() throws {
    var worker: WorkerProcess? = try shell("cat; exit 3") { $0.standardInput = .pipe }
    let pidfd = csupport_pidfd_open(try #require(worker).processIdentifier)
    defer { _ = csupport_close(pidfd) }
    try #require(pidfd >= 0)
    #expect(csupport_wait_readable(pidfd, 100_000_000) == 0, "it reads on")
    worker = nil
    #expect(csupport_wait_readable(pidfd, Int64(patience.inSeconds * 1e9)) == 1)
  }

  @Test("13.9 A worker's standard streams can be nothing, files, or descriptors of this process")
  func files() throws {
    let path = freshPath()
    defer { unsafe unlink(path) }
    #expect(
      try said(by: "cat; readlink /proc/self/fd/2") { ($0.standardInput, $0.standardError) = (.null, .null) }
        == "/dev/null\n")
    for (append, expected) in [(false, "one\n"), (true, "one\ntwo\n"), (false, "three\n")] {
      let word = expected.split(separator: "\n").last!
      let worker = try shell("echo \(word)") { $0.standardOutput = .file(path, append: append) }
      #expect(try worker.wait(timeout: patience) == .exited(0))
      #expect(TestSupport.text(of: path) == expected)
    }
    #expect(try said(by: "cat") { $0.standardInput = .file(path) } == "three\n")
    let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
    defer { close(file) }
    #expect(try said(by: "cat") { $0.standardInput = .descriptor(file) } == "three\n")
    #expect(fcntl(file, F_GETFD) == FD_CLOEXEC, "it is this process's, unchanged")
  }

  @Test("13.9 A file that cannot be opened is named in the error, and nothing has run")
  func missingFile() throws {
    let path = freshPath()
    #expect(throws: ConnectionError.cannotOpen(path: path, SystemError(call: "open", errno: ENOENT))) {
      try shell("exit 0") { $0.standardInput = .file(path) }
    }
    #expect(throws: ConnectionError.cannotOpen(path: "/", SystemError(call: "open", errno: EISDIR))) {
      try shell("touch \(path)") { $0.standardOutput = .file("/") }
    }
    #expect(unsafe access(path, F_OK) != 0)
  }

  // MARK: Descriptors

  @Test("13.9 Further descriptors have the numbers that were asked for, and the connection another")
  func descriptors() async throws {
    let file = unsafe open("/dev/zero", O_RDONLY | O_CLOEXEC), other = unsafe open("/dev/full", O_RDONLY | O_CLOEXEC)
    defer { for file in [file, other] { close(file) } }
    var process = WorkerOptions()
    process.descriptors = [3: file, 4: other, 77: file]
    let worker = try WorkerProcess.spawn(PeerProcess.executable, arguments: ["surroundings"], process: process)
    let seen = try await Seen.by(worker)
    #expect(seen.descriptors["3"] == "/dev/zero" && seen.descriptors["4"] == "/dev/full")
    #expect(seen.descriptors["77"] == "/dev/zero")
    #expect(seen.descriptors["5"]?.hasPrefix("socket:") == true, "\(seen.descriptors)")
    #expect(seen.parentVariable.hasPrefix("5:"))
  }

  @Test("13.9 Numbers that are taken, and descriptors that are not open, are typed errors")
  func badDescriptors() {
    #expect(throws: ConnectionError.invalidOption("descriptors: 1 is a standard descriptor's number")) {
      try shell("exit 0") { $0.descriptors = [1: 0] }
    }
    #expect(throws: ConnectionError.invalidOption("descriptors: 5: 54321 is no open descriptor")) {
      try shell("exit 0") { $0.descriptors = [5: 54321] }
    }
    #expect(throws: ConnectionError.invalidOption("standard output: -1 is no open descriptor")) {
      try shell("exit 0") { $0.standardOutput = .descriptor(-1) }
    }
  }

  // MARK: Directory, session, limits

  @Test("13.9 A worker starts in another directory if asked to; one that is not there is the call's error")
  func directory() throws {
    #expect(try said(by: "pwd") { $0.workingDirectory = "/usr/bin" } == "/usr/bin\n")
    #expect(throws: ConnectionError.system(SystemError(call: "chdir", errno: ENOENT))) {
      try shell("exit 0") { $0.workingDirectory = "/no/such/place" }
    }
  }

  @Test("13.9 A worker is in this process's group, in one of its own, or in a session of its own")
  func session() async throws {
    for (session, isOwnGroup, isOwnSession) in [
      (.inherited, false, false), (.newGroup, true, false), (.newSession, true, true),
    ] as [(WorkerOptions.Session, Bool, Bool)] {
      var process = WorkerOptions()
      process.session = session
      let worker = try WorkerProcess.spawn(PeerProcess.executable, arguments: ["surroundings"], process: process)
      let seen = try await Seen.by(worker)
      #expect((seen.group == worker.processIdentifier) == isOwnGroup)
      #expect((seen.session == worker.processIdentifier) == isOwnSession)
    }
  }

  @Test("13.9 Limits are the worker's alone; one that the system refuses is the call's error")
  func limits() throws {
    let before = try said(by: "ulimit -n; ulimit -f")
    let limited = try said(by: "ulimit -n; ulimit -Hn; ulimit -c") { $0.limits = [.descriptors: 55, .coreDump: 0] }
    #expect(limited == "55\n55\n0\n")
    #expect(try said(by: "ulimit -n; ulimit -f") == before)
    let status = try shell("while :; do :; done") { $0.limits = [.processorTime: 1] }.wait(timeout: patience)
    #expect(status == .signalled(SIGKILL) || status == .signalled(SIGXCPU))
  }

  // MARK: Death

  @Test("13.9 A worker gets its signal when this process ends, and not when the thread does that has started it")
  func parentDeath() async throws {
    // In between stands a process that starts the worker on a thread which ends at once.
    let parent = try PeerProcess.spawn("startsMortal")
    let messages = Collected<ConnectionEvent>()
    parent.connection.onUnhandled = { messages.append($0) }
    let worker = try #require(Int32(String(decoding: try await messages.wait(for: 1)[0].bytes, as: UTF8.self)))
    let pidfd = csupport_pidfd_open(worker)
    defer { _ = csupport_close(pidfd) }
    try #require(pidfd >= 0)
    #expect(csupport_process_is_ending(worker) == 0)
    parent.kill()
    #expect(csupport_wait_readable(pidfd, Int64(patience.inSeconds * 1e9)) == 1)
  }

  @Test("13.9 A number that is no signal's is a typed error")
  func badSignal() {
    #expect(throws: ConnectionError.invalidOption("parentDeathSignal: no signal has the number 65")) {
      try shell("exit 0") { $0.parentDeathSignal = 65 }
    }
  }

  @Test("13.10 A worker that ends when asked to is not killed; one that does not is")
  func termination() async throws {
    let polite = try WorkerProcess.spawn("sleep", arguments: ["1000"])
    #expect(await polite.terminate(grace: patience) == .signalled(SIGTERM))
    #expect(await polite.terminate(grace: .zero) == .signalled(SIGTERM), "it is over")
    let orderly = try PeerProcess.spawn("endsOrderly")
    let messages = Collected<ConnectionEvent>()
    orderly.connection.onUnhandled = { messages.append($0) }
    try await messages.wait(for: 1)
    #expect(try orderly.terminateAndWait(grace: patience) == .exited(3))
    #expect(try await messages.wait(for: 2)[1].name == "last words")
    for isAsynchronous in [false, true] {
      let stubborn = try shell("trap '' TERM; echo; exec sleep 1000") { $0.standardOutput = .pipe }
      let pipe = try #require(stubborn.takePipe(.output))
      var byte: UInt8 = 0
      #expect(unsafe read(pipe, &byte, 1) == 1)
      close(pipe)
      let grace = Duration.milliseconds(50)
      let status = isAsynchronous ? await stubborn.terminate(grace: grace) : try stubborn.terminateAndWait(grace: grace)
      #expect(status == .signalled(SIGKILL))
    }
  }

  @Test("13.10 A task that waits for a worker to end can be cancelled; the worker is killed all the same")
  func cancelledTermination() async throws {
    let stubborn = try shell("trap '' TERM; echo; exec sleep 1000") { $0.standardOutput = .pipe }
    let pipe = try #require(stubborn.takePipe(.output))
    defer { close(pipe) }
    var byte: UInt8 = 0
    #expect(unsafe read(pipe, &byte, 1) == 1)
    let termination = Task { await stubborn.terminate(grace: .milliseconds(300)) }
    termination.cancel()
    _ = await termination.value
    #expect(try stubborn.wait(timeout: patience) == .signalled(SIGKILL))
  }

  // MARK: Whether anybody is there

  @Test("13.11 A worker that has asked for its connection is told from one that has not, and never will")
  func greeting() async throws {
    let silent = try WorkerProcess.spawn("true")
    #expect(try silent.wait(timeout: patience) == .exited(0))
    #expect(!silent.hasOpenedConnection)

    let worker = try PeerProcess.spawn("exit", ["4"])
    #expect(try worker.wait(timeout: patience) == .exited(4))
    #expect(worker.hasOpenedConnection, "the role begins after that")
    worker.connection.close()
    #expect(worker.hasOpenedConnection, "what was known stays known")

    // With a handler, the loop takes the greeting.
    let agent = try PeerProcess.spawn("surroundings")
    _ = try await Seen.by(agent)
    #expect(agent.hasOpenedConnection)
  }
}

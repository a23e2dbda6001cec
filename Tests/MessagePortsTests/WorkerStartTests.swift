import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Most change something of the whole process, and so run in one of their own.
@Suite("How workers are started", .serialized, .timeLimit(.minutes(5)))
struct WorkerStartTests {
  // MARK: Finding the program

  @Test("13.4 A worker starts after clearenv(), and is found where programs usually are")
  func noEnvironment() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        clearenv()
        let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "exit 4"])
        #expect(await worker.exitStatus == .exited(4))
      }
    }
  }

  @Test("13.4 What cannot be executed is passed over in PATH, and remembered if nothing else is found")
  func passedOver() async {
    await #expect(processExitsWith: .success) { await recordErrors { try Self.searchPlaces() } }
  }

  private static func searchPlaces() throws {
    let base = freshPath()
    defer { ProgramRun.remove(base) }
    let places = ["directory", "plain", "loop", "dangling", "good"].map { "\(base)/\($0)" }
    for place in [base] + places { unsafe mkdir(place, 0o700) }
    unsafe mkdir(places[0] + "/prog", 0o700)
    try ProgramRun.write("", to: places[1] + "/prog", mode: 0o600)
    unsafe symlink("prog", places[2] + "/prog")
    unsafe symlink("nowhere", places[3] + "/prog")
    try ProgramRun.write("#!/bin/sh\nexit 5\n", to: places[4] + "/prog", mode: 0o700)
    // One is no directory at all, one does not exist.
    let all = ["/no/such/directory", places[1] + "/prog"] + places

    #expect(try run(searching: all) == .exited(5))
    #expect(throws: ConnectionError.notPermitted(path: "prog")) { try run(searching: all.dropLast()) }
    #expect(throws: ConnectionError.executableNotFound("prog")) {
      try run(searching: [all[0], all[1], places[2], places[3]])
    }
    // An empty place is the current directory.
    unsafe chdir(places[4])
    #expect(try run(searching: [all[0], "", "/bin"]) == .exited(5))
    #expect(try run(searching: []) == .exited(5))
  }

  private static func run(searching places: [String]) throws -> MessagePorts.ExitStatus {
    unsafe setenv("PATH", places.joined(separator: ":"), 1)
    return try WorkerProcess.spawn("prog").wait()
  }

  @Test("13.4 An empty name is no program")
  func noName() {
    #expect(throws: ConnectionError.executableNotFound("")) { try WorkerProcess.spawn("") }
    #expect(throws: ConnectionError.executableNotFound("")) { try WorkerProcess.spawn(bytes: []) }
  }

  @Test("13.4 A directory in PATH need not be UTF-8, nor a program's name")
  func undecodablePlace() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let place = Array(freshPath().utf8) + [0xff, 0xcc]
        let program = place + Array("/prog".utf8) + [0xfe]
        defer { ProgramRun.remove(place) }
        unsafe mkdir(ProgramRun.cString(place), 0o700)
        try ProgramRun.write("#!/bin/sh\nexit 6\n", to: program, mode: 0o700)
        unsafe setenv("PATH", ProgramRun.cString(Array("/no/such:".utf8) + place), 1)
        #expect(try await WorkerProcess.spawn(bytes: Array("prog".utf8) + [0xfe]).exitStatus == .exited(6))
        #expect(try await WorkerProcess.spawn(bytes: program).exitStatus == .exited(6))
        // As strings, they are the same.
        #expect(throws: ConnectionError.self) { try WorkerProcess.spawn(bytes: Array("prog".utf8) + [0xfd]) }
      }
    }
  }

  // MARK: What is passed on

  @Test("13.4 This process's environment is passed on byte for byte, whatever is in it")
  func inheritedBytes() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        clearenv()
        let entries: [[UInt8]] = [
          Array("PLAIN=1".utf8), Array("BYTES=".utf8) + [0xff, 0x80, 0xc3], Array("ACCENT=".utf8) + [0xcc, 0x81, 0x78],
          [0xcc, 0x81, 0x3d, 0x31], Array("EMPTY=".utf8), Array("=odd".utf8), Array("WITHOUT".utf8),
        ]
        // Not setenv(): it refuses some of these, which a parent may still have passed on.
        for entry in entries { unsafe ProgramRun.inherit(entry) }
        let passed = try await ProgramRun.environment { path in
          try WorkerProcess.spawn("/bin/cp", arguments: ["/proc/self/environ", path])
        }
        #expect(passed.dropLast() == entries[...])
        #expect(passed.last?.starts(with: Array("MESSAGEPORTS_PARENT=3:".utf8)) == true)
      }
    }
  }

  @Test("13.4 A worker gets the variables that it is given, byte for byte, and only one that says where its parent is")
  func givenBytes() async throws {
    let accent = "\u{301}x"
    let passed = try await ProgramRun.environment { path in
      try WorkerProcess.spawn(
        "/bin/cp", arguments: ["/proc/self/environ", path],
        environment: ["A": accent, accent: "=", "MESSAGEPORTS_PARENT": "7:1", "E": ""])
    }
    let expected = ["A=\(accent)", "\(accent)==", "E="].map { Array($0.utf8) }
    #expect(passed.count == 4)
    #expect(expected.allSatisfy(passed.contains))

    let raw = try await ProgramRun.environment { path in
      try WorkerProcess.spawn(
        bytes: Array("/bin/cp".utf8), arguments: ["/proc/self/environ", path].map { Array($0.utf8) },
        environment: [[0xff]: [0xfe, 0x3d], [0xfd]: []])
    }
    #expect(raw.count == 3)
    #expect(raw.contains([0xff, 0x3d, 0xfe, 0x3d]) && raw.contains([0xfd, 0x3d]))
  }

  @Test("13.4 Arguments are passed on byte for byte, the program's own name among them")
  func argumentBytes() async throws {
    let target = Array(freshPath().utf8) + [0xff]
    defer { unsafe unlink(ProgramRun.cString(target)) }
    let arguments = [Array("/proc/self/cmdline".utf8), target]
    let worker = try WorkerProcess.spawn(bytes: Array("cp".utf8), arguments: arguments)
    #expect(await worker.exitStatus == .exited(0))
    #expect(ProgramRun.strings(in: target) == [Array("cp".utf8)] + arguments)
  }

  @Test("13.4 What no program can be given is a typed error that names it")
  func unpassable() {
    func refusal(
      _ program: String = "true", _ arguments: [String] = [], _ variables: [String: String]? = nil
    ) -> String? {
      do throws(ConnectionError) {
        _ = try WorkerProcess.spawn(program, arguments: arguments, environment: variables)
        return nil
      } catch {
        guard case .invalidOption(let text) = error else { return "\(error)" }
        return text
      }
    }
    #expect(refusal("tr\0ue") == "the program's name contains a zero byte")
    #expect(refusal("\0") == "the program's name contains a zero byte")
    #expect(refusal("true", ["a", "b\0"]) == "argument 2 contains a zero byte")
    #expect(refusal("true", [], ["A": "\0b"]) == "the value of the variable \"A\" contains a zero byte")
    #expect(refusal("true", [], ["A\0": "b"]) == "the name of the variable \"A\0\" contains a zero byte")
    #expect(refusal("true", [], ["A=B": "c"]) == "the name of the variable \"A=B\" contains '='")
    #expect(refusal("true", [], ["=": "c"]) == "the name of the variable \"=\" contains '='")
    #expect(refusal("true", [], ["": "c"]) == "a variable has no name")
  }

  @Test("13.4 A program or environment that is too large is a typed error")
  func tooLarge() {
    let huge = String(repeating: "x", count: 1 << 22)
    for body in [
      { try WorkerProcess.spawn("true", arguments: [huge]) },
      { try WorkerProcess.spawn("true", environment: ["A": huge]) },
    ] as [() throws -> WorkerProcess] {
      let error = #expect(throws: ConnectionError.self) { try body() }
      guard case .system(let cause)? = error else { Issue.record("\(String(describing: error))"); continue }
      #expect(cause.errno == E2BIG)
    }
  }

  // MARK: Signals and descriptors

  @Test("13.4 A worker ignores what this process ignores", arguments: [SIGHUP, SIGINT, SIGQUIT])
  func ignoredSignals(_ number: CInt) async {
    await #expect(processExitsWith: .success) { [number] in
      await recordErrors {
        let dies = try WorkerProcess.spawn("sh", arguments: ["-c", "kill -\(number) $$; exit 6"])
        #expect(await dies.exitStatus == .signalled(number))
        signal(number, SIG_IGN)
        let lives = try WorkerProcess.spawn("sh", arguments: ["-c", "kill -\(number) $$; exit 6"])
        #expect(await lives.exitStatus == .exited(6))
      }
    }
  }

  @Test("13.1 With the standard descriptors closed, a worker starts and hears nothing of what is printed")
  func closedStandardDescriptors() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        // Dispatch takes descriptors when it is first asked for a timer, and must not take these.
        try await Task.sleep(for: .milliseconds(1))
        for fd: CInt in 0..<3 { _ = csupport_close(fd) }
        let worker = try PeerProcess.spawn("arguments", ["one"])
        print("printed into nothing")
        let messages = Collected<ConnectionEvent>()
        worker.connection.onUnhandled = { messages.append($0) }
        let texts = try await messages.wait(for: 3).map { String(decoding: $0.bytes, as: UTF8.self) }
        #expect(texts[0] == "one")
        // Others may have taken the numbers meanwhile.
        let taken = (0..<3).compactMap { linkTarget("/proc/self/fd/\($0)") }
        #expect(!taken.contains { name in ["socket", "memfd", "shm", "uring"].contains { name.contains($0) } })
      }
    }
  }
}

extension ProgramRun {
  /// The environment that a copying program of `start` saw.
  static func environment(_ start: (_ path: String) throws -> WorkerProcess) async throws -> [[UInt8]] {
    let path = freshPath()
    defer { unsafe unlink(path) }
    let status = try await start(path).exitStatus
    #expect(status == .exited(0))
    return strings(in: Array(path.utf8))
  }

  /// The strings of a file in which each ends with a zero.
  static func strings(in path: [UInt8]) -> [[UInt8]] {
    let file = unsafe open(cString(path), O_RDONLY | O_CLOEXEC)
    defer { _ = csupport_close(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = unsafe read(file, &bytes, bytes.count)
    return bytes.prefix(max(count, 0)).split(separator: 0, omittingEmptySubsequences: false).dropLast().map(Array.init)
  }

  static func write(_ text: String, to path: String, mode: mode_t) throws {
    try write(text, to: Array(path.utf8), mode: mode)
  }

  static func write(_ text: String, to path: [UInt8], mode: mode_t) throws {
    let file = unsafe open(cString(path), O_CREAT | O_WRONLY | O_CLOEXEC, mode)
    try #require(file >= 0)
    _ = unsafe Glibc.write(file, text, text.utf8.count)
    _ = csupport_close(file)
  }

  static func cString(_ bytes: [UInt8]) -> [CChar] { (bytes + [0]).map { CChar(bitPattern: $0) } }

  static func remove(_ path: String) { remove(Array(path.utf8)) }
  static func remove(_ path: [UInt8]) {
    _ = try? WorkerProcess.spawn(bytes: Array("/bin/rm".utf8), arguments: [Array("-rf".utf8), path]).wait()
  }

  /// Adds an entry to this process's environment as it is.
  @unsafe static func inherit(_ entry: [UInt8]) {
    var count = 0
    if let old = unsafe csupport_environment() { while unsafe old[count] != nil { count += 1 } }
    let list = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: count + 2)
    for index in 0..<count { unsafe list[index] = csupport_environment()![index] }
    unsafe list[count] = strdup(cString(entry))
    unsafe list[count + 1] = nil
    // The C library's own variable, which Swift lets nobody set.
    let variable = unsafe dlsym(nil, "environ")!
    unsafe variable.storeBytes(of: list, as: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.self)
  }
}

import CSupport
import Dispatch
import Glibc
import MessagePorts
import TestSupport

let connectionRoles: [String: Role] = [
  "arguments": arguments,
  "connect": connect,
  "endsOrderly": endsOrderly,
  "exit": exitAtOnce,
  "files": { _, parent in try parent.postMessage("files", Confinement.filesOfThisProgram) },
  "forksAndPosts": forksAndPosts,
  "grandchild": grandchild,
  "listen": listen,
  "listenAsNobody": listenAsNobody,
  "postAndExit": postAndExit,
  "receiveFirst": { _, parent in try parent.receive(timeout: patience).ports[0].postMessage(bitwise: UInt64(5)) },
  "receiveNamed": { _, parent in
    let (first, second) = parent.handle { ($0.messages(named: "first"), $0.messages(named: "second")) }
    try first.receive(timeout: patience).ports[0].postMessage(bitwise: UInt64(1))
    try second.receive(timeout: patience).ports[0].postMessage(bitwise: UInt64(2))
  },
  "spawnThisProgram": spawnThisProgram,
  "serve": { _, parent in RequestService.serve(parent) },
  "streams": streams,
  "silent": { _, _ in },
  "startsMortal": startsMortal,
  "surroundings": { arguments, parent in try parent.postMessage("seen", Seen(directories: arguments)) },
]

/// Asks for streams that end in every way, and reports what is left of them.
@Sendable private func streams(_ arguments: [String], _ parent: Connection) throws {
  let worker = try WorkerProcess.spawn(.thisProgram, arguments: ["serve"])
  let connection = worker.connection
  Task {
    for try await _ in connection.stream("count", 1, of: Int.self) {}
    let before = entries(of: "/proc/self/fd").count
    for _ in 0..<20 {
      for try await _ in connection.stream("count", 10, of: Int.self) {}
      do { for try await _ in connection.stream("count and refuse", 10, of: Int.self) {} } catch {}
      for try await _ in connection.stream("pour", 100, of: [UInt8].self) { break }
    }
    try await eventually("everything to be closed") { entries(of: "/proc/self/fd").count <= before }
    try LoneProcess.report(["descriptors": 0], to: parent)
  }
}

/// Starts itself once it is told to, and says how that ended.
@Sendable private func spawnThisProgram(_ arguments: [String], _ parent: Connection) throws {
  _ = try parent.receive(timeout: patience)
  let worker = try WorkerProcess.spawn(.thisProgram, arguments: ["exit", "7"])
  try parent.postMessage("\(try worker.wait(timeout: patience))")
}

/// Ends by itself once it is asked to.
@Sendable private func endsOrderly(_ arguments: [String], _ parent: Connection) throws {
  signal(SIGTERM, SIG_IGN)
  let asked = DispatchSource.makeSignalSource(signal: SIGTERM)
  asked.setEventHandler {
    try? parent.postMessage("last words")
    exit(3)
  }
  // Before that, the signal is ignored.
  asked.setRegistrationHandler { try? parent.postMessage("ready") }
  asked.resume()
  dispatchMain()
}

/// Starts a process that is to end with this one, on a thread that ends at once, and says which.
@Sendable private func startsMortal(_ arguments: [String], _ parent: Connection) throws {
  let thread = TestThread {
    var process = WorkerOptions()
    process.parentDeathSignal = SIGTERM
    return try WorkerProcess.spawn("sleep", arguments: ["1000"], process: process)
  }
  let worker = try thread.join()
  // The kernel would have sent the signal as soon as the thread was gone.
  guard csupport_wait_readable(csupport_pidfd_open(worker.processIdentifier), 200_000_000) == 0 else { exit(9) }
  try parent.postMessage("started", bytes: Array("\(worker.processIdentifier)".utf8))
}

/// Says what it was started with.
@Sendable private func arguments(_ arguments: [String], _ parent: Connection) throws {
  try parent.postMessage("arguments", bytes: Array(arguments.joined(separator: "\n").utf8))
  let environment = text(of: "/proc/self/environ").split(separator: "\0")
  try parent.postMessage("environment", bytes: Array(environment.joined(separator: "\n").utf8))
  let descriptors = entries(of: "/proc/self/fd").joined(separator: " ")
  try parent.postMessage("descriptors", bytes: Array(descriptors.utf8))
}

@Sendable private func exitAtOnce(_ arguments: [String], _ parent: Connection) {
  exit(arguments.first.flatMap { CInt($0) } ?? 0)
}

/// Connects to a path, says how that went, and echoes what comes.
@Sendable private func connect(_ arguments: [String], _ parent: Connection) {
  Task {
    do {
      let connection = try await Connection.connect(path: arguments[0], timeout: patience)
      connection.onUnhandled = { event in
        try? event.connection.postMessage(event.name, bytes: event.bytes, transfer: event.ports)
      }
      try parent.postMessage("connected")
    } catch let error as ConnectionError {
      try parent.postMessage("\(error.caseName)")
    }
  }
}

/// Listens on a path, and echoes what comes over any connection.
@Sendable private func listen(_ arguments: [String], _ parent: Connection) throws {
  let listener: Listener
  do {
    listener = try Listener(path: arguments[0])
  } catch {
    return try parent.postMessage("\(error.caseName)")
  }
  Task {
    for await connection in listener.connections {
      connection.onUnhandled = { event in
        try? event.connection.postMessage(event.name, bytes: event.bytes, transfer: event.ports)
      }
    }
  }
  try parent.postMessage("listening")
}

/// Listens as the user who has started it, who is root, and then becomes nobody.
@Sendable private func listenAsNobody(_ arguments: [String], _ parent: Connection) throws {
  let listener = try Listener(path: arguments[0])
  precondition(setgid(65534) == 0 && setuid(65534) == 0)
  Task { for await connection in listener.connections { connection.onUnhandled = { _ in } } }
  try parent.postMessage("listening")
}

/// Posts numbers under changing names, and ends.
@Sendable private func postAndExit(_ arguments: [String], _ parent: Connection) throws {
  let count = UInt64(arguments[0])!
  for number in 0..<count { try parent.postMessage("name \(number % 7)", bitwise: number) }
  switch arguments[1] {
  case "exit": exit(3)
  case "close": parent.close()
  default: raise(SIGKILL)
  }
}

/// Starts a process that outlives it, with a pipe to it as any program might have, and says which.
@Sendable private func grandchild(_ arguments: [String], _ parent: Connection) throws {
  let channel = try MessageChannel()
  try parent.postMessage("port", transfer: [channel.port2])
  // The library's way to start a process, and the C library's.
  let worker = try WorkerProcess.spawn("sleep", arguments: ["60"])
  try parent.postMessage("grandchild", bitwise: UInt64(worker.processIdentifier))
  var pid: pid_t = 0
  var argv: [UnsafeMutablePointer<CChar>?] = unsafe [strdup("sleep"), strdup("60"), nil]
  let result = unsafe posix_spawnp(&pid, "sleep", nil, nil, &argv, environ)
  precondition(result == 0)
  try parent.postMessage("grandchild", bitwise: UInt64(pid))
  parent.on("keep") { _ in _ = (channel, worker) }
}

/// Starts a helper that keeps all of this process's descriptors, posts numbers, and is killed.
@Sendable private func forksAndPosts(_ arguments: [String], _ parent: Connection) throws {
  // With the marks off, the helper keeps the connection's socket through exec.
  for name in entries(of: "/proc/self/fd") { if let fd = CInt(name) { _ = fcntl(fd, F_SETFD, 0) } }
  var pid: pid_t = 0
  var argv: [UnsafeMutablePointer<CChar>?] = unsafe [strdup("sleep"), strdup("1000"), nil]
  let result = unsafe posix_spawnp(&pid, "sleep", nil, nil, &argv, environ)
  precondition(result == 0)
  try parent.postMessage("helper", bitwise: UInt64(pid))
  for number in 0..<UInt64(arguments[0])! { try parent.postMessage("number", bitwise: number) }
  raise(SIGKILL)
}

extension ConnectionError {
  /// The case alone, for the other side to compare.
  fileprivate var caseName: String {
    switch self {
    case .noServer: "noServer"
    case .nameInUse: "nameInUse"
    case .foreignFile: "foreignFile"
    case .pathTooLong: "pathTooLong"
    case .notPermitted: "notPermitted"
    case .versionDiffers: "versionDiffers"
    case .notAMessagePort: "notAMessagePort"
    case .timedOut: "timedOut"
    case .listenerClosed: "listenerClosed"
    case .cancelled: "cancelled"
    case .noParent: "noParent"
    case .executableNotFound: "executableNotFound"
    case .cannotOpen: "cannotOpen"
    case .confinementUnavailable: "confinementUnavailable"
    case .invalidOption: "invalidOption"
    case .lockLimitExceeded: "lockLimitExceeded"
    case .system: "system"
    }
  }
}

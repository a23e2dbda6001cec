import Glibc
public import MessagePorts

/// What a process finds about itself.
public struct Seen: Codable, Sendable {
  /// By number, what each is open on.
  public var descriptors: [String: String] = [:]
  public var parentVariable = ""
  public var directory = ""
  public var group: Int32 = 0
  public var session: Int32 = 0
  public var processIdentifier: Int32 = 0
  /// The names in some directories.
  public var files: [String: [String]] = [:]
  /// Whether it could make a file in some directories.
  public var writable: [String: Bool] = [:]
  /// The processes that it sees.
  public var processes: [String] = []
  /// Its network devices.
  public var devices: [String] = []

  /// What this process sees.
  public init(directories: [String] = []) {
    for number in entries(of: "/proc/self/fd") { descriptors[number] = linkTarget("/proc/self/fd/\(number)") }
    parentVariable = unsafe getenv("MESSAGEPORTS_PARENT").map { unsafe String(cString: $0) } ?? ""
    directory = linkTarget("/proc/self/cwd") ?? ""
    (group, session, processIdentifier) = (getpgrp(), getsid(0), getpid())
    for directory in directories {
      files[directory] = entries(of: directory).sorted()
      let path = "\(directory)/made-by-\(getpid())"
      let file = unsafe open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600)
      writable[directory] = file >= 0
      if file >= 0 {
        close(file)
        unsafe unlink(path)
      }
    }
    processes = entries(of: "/proc").filter { Int($0) != nil }
    devices = lines(of: "/proc/net/dev").dropFirst(2).compactMap { line in
      line.split(separator: ":").first.map { String($0.drop { $0 == " " }) }
    }
  }

  /// What a worker in the role `surroundings` sees.
  public static func by(_ worker: WorkerProcess) async throws -> Seen {
    let messages = Collected<ConnectionEvent>()
    worker.connection.onUnhandled = { messages.append($0) }
    return try await messages.wait(for: 1)[0].decode(Seen.self)
  }
}

import CSupport
import Glibc
import Testing

/// The real tool, run to its end: what it printed, and its exit code.
struct ToolRun {
  var code: CInt
  var output: String
  var errors: String

  /// - Parameters:
  ///   - arguments: as one would type them.
  ///   - environment: of the tool, besides the search path.
  ///   - setup: what the shell does first, `ulimit` for example.
  init(_ arguments: String, environment: [String: String] = [:], setup: String = ":") throws {
    // Memory for the output: a pipe would have to be emptied while the tool runs.
    let output = try Self.checked(csupport_memory_create_sealed(0))
    defer { _ = csupport_close(output) }
    let errors = try Self.checked(csupport_memory_create_sealed(0))
    defer { _ = csupport_close(errors) }

    let command = ["/bin/bash", "-c", "\(setup); exec '\(Self.tool)' \(arguments)"]
    let variables = environment.merging(["PATH": "/usr/bin:/bin"]) { own, _ in own }.map { "\($0)=\($1)" }
    let pidfd = try Self.spawn(command, variables, output: output, errors: errors)
    defer { _ = csupport_close(pidfd) }

    let patienceMilliseconds: CInt = 30_000
    var ending = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
    let ended = unsafe poll(&ending, 1, patienceMilliseconds) == 1
    if !ended {
      _ = csupport_pidfd_signal(pidfd, SIGKILL)
      _ = unsafe poll(&ending, 1, -1)
    }
    var status = csupport_exit()
    _ = unsafe csupport_reap(pidfd, &status)
    try #require(ended, "the tool did not end")
    try #require(!status.was_signalled, "the tool was ended by signal \(status.code)")
    code = status.code
    self.output = try Self.text(of: output)
    self.errors = try Self.text(of: errors)
  }

  /// Where SwiftPM has put the tool: beside the running test bundle.
  private static var tool: String {
    let directory = CommandLine.arguments[0].split(separator: "/", omittingEmptySubsequences: false).dropLast()
    return directory.joined(separator: "/") + "/messageports"
  }

  private static func spawn(
    _ command: [String], _ environment: [String], output: CInt, errors: CInt
  ) throws -> CInt {
    let descriptors = [
      csupport_inherited_fd(parent_fd: output, child_fd: STDOUT_FILENO),
      csupport_inherited_fd(parent_fd: errors, child_fd: STDERR_FILENO),
    ]
    var argv = unsafe command.map { unsafe strdup($0) } + [nil]
    defer { unsafe argv.forEach { unsafe free($0) } }
    var envp = unsafe environment.map { unsafe strdup($0) } + [nil]
    defer { unsafe envp.forEach { unsafe free($0) } }
    var pid: pid_t = 0
    var pidfd: CInt = -1
    let paths = unsafe [UnsafePointer(argv[0]), nil]
    _ = try checked(unsafe csupport_spawn(paths, &argv, &envp, descriptors, descriptors.count, &pid, &pidfd))
    return pidfd
  }

  private static func text(of fd: CInt) throws -> String {
    var facts = csupport_file_facts()
    _ = try checked(unsafe csupport_file_facts(fd, &facts))
    var bytes = [UInt8](repeating: 0, count: Int(facts.size_bytes))
    let count = unsafe pread(fd, &bytes, bytes.count, 0)
    try #require(count == bytes.count)
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func checked(_ result: CInt) throws -> CInt {
    try #require(result >= 0, "\(unsafe String(cString: csupport_error_name(-result)))")
    return result
  }
}

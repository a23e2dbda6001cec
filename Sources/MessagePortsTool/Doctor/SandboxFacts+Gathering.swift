import CSupport
import Glibc

extension SandboxFacts {
  static func gather(_ files: KernelFiles) -> SandboxFacts {
    SandboxFacts(
      userNamespaces: files.setting("user.max_user_namespaces"),
      unprivilegedUserNamespaces: files.setting("kernel.unprivileged_userns_clone"),
      apparmorRestrictsUserNamespaces: files.setting("kernel.apparmor_restrict_unprivileged_userns"),
      bubblewrap: program("bwrap").map { path in
        // Inside, it runs itself again: the only program that is certain to be there.
        let arguments = [path, "--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--", path, "--version"]
        return Bubblewrap(path: path, complaint: complaint(of: arguments))
      })
  }

  /// The path of a program in the search path.
  private static func program(_ name: String) -> String? {
    let directories = (environmentVariable("PATH") ?? "/usr/bin:/bin").split(separator: ":")
    return directories.lazy.map { "\($0)/\(name)" }.first { unsafe access($0, X_OK) == 0 }
  }

  /// Runs a program that should end well and soon. Returns what went wrong, in a line, or `nil`.
  private static func complaint(of arguments: [String]) -> String? {
    // The program's output comes as packets, which wait in the socket until it has ended.
    var ours: CInt = -1
    var theirs: CInt = -1
    let pair = unsafe csupport_socket_pair(&ours, &theirs)
    guard pair >= 0 else { return "not tried: \(Outcome(result: pair))" }
    defer { for fd in [ours, theirs] { _ = csupport_close(fd) } }

    var pid: pid_t = 0
    var pidfd: CInt = -1
    let spawned = spawn(arguments, output: theirs, &pid, &pidfd)
    guard spawned >= 0 else { return "cannot be started: \(Outcome(result: spawned))" }
    defer { _ = csupport_close(pidfd) }

    let patienceMilliseconds: CInt = 5_000
    var ending = pollfd(fd: pidfd, events: Int16(POLLIN), revents: 0)
    if unsafe poll(&ending, 1, patienceMilliseconds) != 1 {
      _ = csupport_pidfd_signal(pidfd, SIGKILL)
      _ = unsafe poll(&ending, 1, patienceMilliseconds)
    }
    var status = csupport_exit()
    guard unsafe csupport_reap(pidfd, &status) == 1 else { return "did not end" }
    if status.was_signalled { return "ended by signal \(status.code)" }
    return status.code == 0 ? nil : firstLine(from: ours) ?? "ended with code \(status.code)"
  }

  private static func spawn(
    _ arguments: [String], output: CInt, _ pid: inout pid_t, _ pidfd: inout CInt
  ) -> CInt {
    let descriptors = [STDOUT_FILENO, STDERR_FILENO].map { csupport_inherited_fd(parent_fd: output, child_fd: $0) }
    var argv = unsafe arguments.map { unsafe strdup($0) } + [nil]
    defer { unsafe argv.forEach { unsafe free($0) } }
    var environment: [UnsafeMutablePointer<CChar>?] = unsafe [nil]
    let paths = unsafe [UnsafePointer(argv[0]), nil]
    return unsafe csupport_spawn(paths, &argv, &environment, descriptors, descriptors.count, &pid, &pidfd)
  }

  private static func firstLine(from socket: CInt) -> String? {
    var text: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 1024)
    var received = csupport_received()
    while unsafe csupport_receive_packet(socket, &buffer, buffer.count, nil, 0, &received) == 1 {
      text += buffer[..<received.byte_count]
    }
    return String(decoding: text, as: UTF8.self).split(separator: "\n").first.map(String.init)
  }
}

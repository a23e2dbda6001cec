import CSupport
import Glibc
import Testing

/// A child as csupport_spawn returns it.
struct Child {
  let pid: pid_t
  let pidfd: CInt

  /// Waits for its end, reaps it, closes the pidfd.
  func end() -> csupport_exit? {
    defer { _ = csupport_close(pidfd) }
    var status = csupport_exit()
    let isDone = eventually {
      usleep(1000)
      return unsafe csupport_reap(pidfd, &status) == 1
    }
    return isDone ? status : nil
  }
}

/// Runs the first of `paths` that can be run. The child or -errno.
func spawn(_ paths: String..., arguments: [String], fds: [(CInt, CInt)] = []) -> (result: CInt, child: Child) {
  var argv: [UnsafeMutablePointer<CChar>?] = unsafe ([paths[0]] + arguments).map { unsafe strdup($0) } + [nil]
  defer { for index in unsafe argv.indices { unsafe free(argv[index]) } }
  let names: [UnsafeMutablePointer<CChar>?] = unsafe paths.map { unsafe strdup($0) } + [nil]
  defer { for index in unsafe names.indices { unsafe free(names[index]) } }
  var envp: [UnsafeMutablePointer<CChar>?] = unsafe [nil]
  let inherited = fds.map { csupport_inherited_fd(parent_fd: $0.0, child_fd: $0.1) }
  var pid: pid_t = -1
  var pidfd: CInt = -1
  let result = unsafe csupport_spawn(
    names.map { unsafe UnsafePointer($0) }, &argv, &envp, inherited, inherited.count, &pid, &pidfd)
  return (result, Child(pid: pid, pidfd: pidfd))
}

func spawn(_ path: String, _ arguments: [String], fds: [(CInt, CInt)] = []) -> (result: CInt, child: Child) {
  spawn(path, arguments: arguments, fds: fds)
}

/// The exit code of a shell script, or -1 if it could not be run or was killed.
func exitCode(ofScript script: String, fds: [(CInt, CInt)] = []) -> CInt {
  let (result, child) = spawn("/bin/sh", ["-c", script], fds: fds)
  guard result == 0, let status = child.end(), !status.was_signalled else { return -1 }
  return status.code
}

/// A file in memory that contains `text`.
func file(_ text: String) -> CInt {
  let fd = csupport_memory_create_sealed(0)
  let bytes = text.ascii
  let written = unsafe pwrite(fd, bytes, bytes.count, 0)
  precondition(written == bytes.count)
  return fd
}

@Suite("Child processes")
struct ProcessTests {
  @Test("An exit code is reported, once")
  func exitCodeReported() {
    let (result, child) = spawn("/bin/sh", ["-c", "exit 7"])
    #expect(result == 0)
    #expect(isCloseOnExec(child.pidfd))
    let epoll = csupport_epoll_create()
    defer { closeAll([epoll, child.pidfd]) }
    #expect(csupport_epoll_add(epoll, child.pidfd, UInt32(CSUPPORT_EVENT_IN), 1) == 0)
    var event = csupport_event()
    var count: CInt
    repeat { count = unsafe csupport_epoll_wait(epoll, &event, 1, patienceNanoseconds) } while count == -EINTR
    #expect(count == 1)
    var status = csupport_exit()
    #expect(unsafe csupport_reap(child.pidfd, &status) == 1)
    #expect(!status.was_signalled)
    #expect(status.code == 7)
    #expect(unsafe csupport_reap(child.pidfd, &status) == -ECHILD)
    #expect(csupport_pidfd_signal(child.pidfd, SIGTERM) == -ESRCH)
  }

  @Test("A signal is reported; a child that runs is not reaped")
  func signalReported() {
    let (result, child) = spawn("/bin/sleep", ["1000"])
    #expect(result == 0)
    var status = csupport_exit()
    #expect(unsafe csupport_reap(child.pidfd, &status) == 0)
    #expect(csupport_pidfd_signal(child.pidfd, 0) == 0)
    #expect(csupport_pidfd_signal(child.pidfd, SIGKILL) == 0)
    let end = child.end()
    #expect(end?.was_signalled == true)
    #expect(end?.code == SIGKILL)
  }

  @Test("A failing exec is an error of the call, and leaves no child")
  func execErrors() async {
    await #expect(processExitsWith: .success) {
      let script = freshPath()
      let file = unsafe open(script, O_CREAT | O_WRONLY | O_CLOEXEC, 0o700)
      #expect(unsafe write(file, "exit 0", 6) == 6)
      _ = csupport_close(file)
      let other = csupport_memory_create_sealed(1)
      let isClean = leavesNoDescriptor {
        #expect(spawn("/no/such/program", []).result == -ENOENT)
        #expect(spawn("/etc/passwd", []).result == -EACCES)
        #expect(spawn("/tmp", []).result == -EACCES)
        #expect(spawn(script, []).result == -ENOEXEC)
        #expect(spawn("/bin/true", [], fds: [(-1, 3)]).result == -EBADF)
        #expect(spawn("/bin/true", [], fds: [(other, -1)]).result == -EBADF)
        #expect(spawn("/bin/true", [], fds: [(other, 3000), (3000, other)]).result == -EBADF)
        #expect(spawn("/no/such/program", [], fds: [(other, 0), (0, other)]).result == -ENOENT)
      }
      unsafe unlink(script)
      #expect(isClean)
      #expect(waitpid(-1, nil, WNOHANG) == -1)
      #expect(errno == ECHILD)
    }
  }

  @Test("13.4 A program that could not be started raises no SIGCHLD; one that has run does")
  func noSignalWithoutProgram() async {
    await #expect(processExitsWith: .success) {
      func isPending() -> Bool {
        var pending = sigset_t()
        unsafe sigpending(&pending)
        return unsafe sigismember(&pending, SIGCHLD) == 1
      }
      var child = sigset_t()
      unsafe sigemptyset(&child)
      unsafe sigaddset(&child, SIGCHLD)
      unsafe pthread_sigmask(SIG_BLOCK, &child, nil)
      // Other threads would take it.
      signal(SIGCHLD) { _ in _exit(9) }
      #expect(spawn("/no/such/program", []).result == -ENOENT)
      #expect(!isPending())
    }
    await #expect(processExitsWith: .exitCode(9)) {
      signal(SIGCHLD) { _ in _exit(9) }
      _ = exitCode(ofScript: "exit 0")
      sleep(60)
    }
  }

  @Test("13.4 The first path that can be executed is; a forbidden one is reported only if none can")
  func firstPath() {
    let file = freshPath()
    _ = csupport_close(unsafe open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0o600))
    defer { unsafe unlink(file) }
    let (result, child) = spawn(
      "/no/such/true", "/tmp", file, file + "/true", "/bin/true", "/bin/false", arguments: [])
    #expect(result == 0)
    #expect(child.end()?.code == 0)
    #expect(spawn("/no/such/true", "/tmp", "/no/such/either", arguments: []).result == -EACCES)
    #expect(spawn(file, "/no/such/true", arguments: []).result == -EACCES)
    #expect(spawn(file + "/true", "/no/such/true", arguments: []).result == -ENOENT)
    #expect(spawn(file + "/true", arguments: []).result == -ENOTDIR)
  }

  @Test("13.4 A child is started, and its end known or unknown, whatever its parent does with SIGCHLD")
  func ignoredChildren() async {
    await #expect(processExitsWith: .success) {
      signal(SIGCHLD, SIG_IGN)
      for code: CInt in 0..<200 {
        let (result, child) = spawn("/bin/sh", ["-c", "exit \(code)"])
        #expect(result == 0)
        #expect(csupport_wait_readable(child.pidfd, patienceNanoseconds) == 1)
        var status = csupport_exit()
        #expect(unsafe csupport_reap(child.pidfd, &status) == -ECHILD)
        var known: CInt = 0
        #expect(
          eventually {
            known = unsafe csupport_exit_after_reaping(child.pidfd, &status)
            return known != 0
          })
        if known == 1 { #expect(!status.was_signalled && status.code == code) }
        _ = csupport_close(child.pidfd)
      }
    }
  }

  @Test("13.4 A status that somebody else has reaped is still reported, where the kernel remembers")
  func reapedByAnother() {
    for (script, signal, code) in [("exit 7", false, 7), ("kill -TERM $$", true, SIGTERM)] as [(String, Bool, CInt)] {
      let child = spawn("/bin/sh", ["-c", script]).child
      defer { _ = csupport_close(child.pidfd) }
      var status = csupport_exit()
      #expect(csupport_wait_readable(child.pidfd, patienceNanoseconds) == 1)
      #expect(unsafe csupport_exit_after_reaping(child.pidfd, &status) <= 0)
      #expect(waitpid(child.pid, nil, 0) == child.pid)
      let known = unsafe csupport_exit_after_reaping(child.pidfd, &status)
      if known == 1 { #expect(status.was_signalled == signal && status.code == code) }
      #expect(known != 0)
    }
  }

  @Test("13.3 A child that runs is not ending; one that waits to be reaped is")
  func isEnding() {
    let child = spawn("/bin/sleep", ["1000"]).child
    #expect(csupport_process_is_ending(child.pid) == 0)
    _ = csupport_pidfd_signal(child.pidfd, SIGKILL)
    #expect(csupport_wait_readable(child.pidfd, patienceNanoseconds) == 1)
    #expect(csupport_process_is_ending(child.pid) == 1)
    _ = child.end()
    #expect(csupport_process_is_ending(0x3fffffff) == -ENOENT)
  }

  @Test("Waiting for a descriptor ends with it, or with the time")
  func waitReadable() {
    let counter = csupport_eventfd_create()
    defer { _ = csupport_close(counter) }
    #expect(csupport_wait_readable(counter, 0) == 0)
    #expect(csupport_wait_readable(counter, 1000) == 0)
    #expect(csupport_eventfd_signal(counter) == 0)
    for timeout in [0, 1000, .max, -1] as [Int64] { #expect(csupport_wait_readable(counter, timeout) == 1) }
  }

  /// All orders of `items`.
  static func permutations(_ items: [Int]) -> [[Int]] {
    guard items.count > 1 else { return [items] }
    return items.indices.flatMap { index in
      var rest = items
      let first = rest.remove(at: index)
      return permutations(rest).map { [first] + $0 }
    }
  }

  @Test(
    "Descriptors arrive at their numbers, however these overlap the parent's",
    arguments: permutations([0, 1, 2, 3]))
  func permutation(order: [Int]) {
    let fds = order.indices.map { file("\($0)\n") }
    defer { closeAll(fds) }
    // The file with content i goes to the number that file order[i] has here.
    let mapping = fds.indices.map { (fds[$0], fds[order[$0]]) }
    let script = fds.indices.map { "read x < /proc/self/fd/\(fds[order[$0]]) && [ $x = \($0) ]" }
    #expect(exitCode(ofScript: script.joined(separator: " && "), fds: mapping) == 0)
    #expect(fds.allSatisfy(isCloseOnExec), "the parent's own stay as they are")
  }

  @Test("One descriptor may go to several numbers, standard ones among them, and a chain is resolved")
  func chain() {
    let (a, b) = (file("a\n"), file("b\n"))
    defer { closeAll([a, b]) }
    let script = """
      read x < /proc/self/fd/0 && [ $x = a ] && read x < /proc/self/fd/\(b) && [ $x = a ] \
      && read x < /proc/self/fd/900 && [ $x = b ] && [ ! -e /proc/self/fd/901 ]
      """
    #expect(exitCode(ofScript: script, fds: [(a, 0), (a, b), (b, 900)]) == 0)
  }

  @Test("Nothing else is inherited")
  func nothingElse() {
    let secret = fcntl(file("x"), F_DUPFD_CLOEXEC, 700)
    defer { _ = csupport_close(secret) }
    #expect(exitCode(ofScript: "[ ! -e /proc/self/fd/\(secret) ]") == 0)
    #expect(exitCode(ofScript: "[ -e /proc/self/fd/\(secret) ]", fds: [(secret, secret)]) == 0)
  }

  @Test(
    "13.4 The child starts with no signal blocked, and ignores what its parent ignores",
    arguments: [[], [SIGHUP, SIGPIPE, 40], Array(1..<65)])
  func signals(ignored: [CInt]) async {
    await #expect(processExitsWith: .success) { [ignored] in
      for number in 1..<65 { signal(CInt(number), SIG_DFL) }
      var all = sigset_t()
      unsafe sigfillset(&all)
      unsafe pthread_sigmask(SIG_SETMASK, &all, nil)
      for number in ignored where number != SIGCHLD { signal(number, SIG_IGN) }
      // (The C library keeps two signals for itself, which nobody can change.)
      let script = """
        grep -q 'SigBlk:.0000000000000000' /proc/self/status \
        && [ "$(sed -n s/SigIgn://p /proc/self/status)" = "$(sed -n s/SigIgn://p /proc/$PPID/status)" ]
        """
      #expect(exitCode(ofScript: script) == 0)
    }
  }

  @Test("13.4 A signal handler of the parent's is not the child's")
  func handlers() async {
    await #expect(processExitsWith: .success) {
      signal(SIGUSR1) { _ in _exit(8) }
      let (result, child) = spawn("/bin/sh", ["-c", "kill -USR1 $$; exit 3"])
      #expect(result == 0)
      let end = child.end()
      #expect(end?.was_signalled == true && end?.code == SIGUSR1)
    }
  }

  @Test("A pidfd of any process; none for a number that is nobody's")
  func pidfd() {
    let own = csupport_pidfd_open(getpid())
    #expect(own >= 0)
    #expect(isCloseOnExec(own))
    #expect(csupport_pidfd_signal(own, 0) == 0)
    var status = csupport_exit()
    #expect(unsafe csupport_reap(own, &status) == -ECHILD)
    _ = csupport_close(own)
    #expect(csupport_pidfd_open(0x3fffffff) == -ESRCH)
  }
}

@Suite("Threads")
struct ThreadTests {
  @Test("A thread has its name, cut to 15 bytes", arguments: ["a", "message-port-lo", "message-port-loop-7", ""])
  func name(name: String) {
    let thread = HelperThread(named: name) {
      var bytes = [UInt8](repeating: 0, count: 64)
      let comm = unsafe open("/proc/thread-self/comm", O_RDONLY | O_CLOEXEC)
      defer { _ = csupport_close(comm) }
      let count = unsafe read(comm, &bytes, bytes.count)
      return String(decoding: bytes.prefix(count), as: UTF8.self)
    }
    #expect(thread.result() == name.prefix(15) + "\n")
  }

  @Test("A thread has every signal blocked but those of its own faults; its creator's mask stays")
  func signalMask() {
    func isBlocked(_ number: CInt) -> Bool {
      var mask = sigset_t()
      unsafe pthread_sigmask(SIG_BLOCK, nil, &mask)
      return unsafe sigismember(&mask, number) == 1
    }
    let before = (CInt(1)..<65).map(isBlocked)
    let thread = HelperThread {
      var mask = sigset_t()
      unsafe pthread_sigmask(SIG_BLOCK, nil, &mask)
      // The C library keeps 32 and 33 for itself.
      return Set((1..<65).filter { unsafe ![32, 33].contains($0) && sigismember(&mask, CInt($0)) == 0 })
    }
    #expect((CInt(1)..<65).map(isBlocked) == before)
    // SIGKILL and SIGSTOP cannot be blocked.
    #expect(thread.result() == Set([SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS].map(Int.init)))
  }

  @Test("Threads have different numbers, each the same for its life")
  func threadID() {
    let own = csupport_thread_id()
    let ids = HelperThread { [csupport_thread_id(), csupport_thread_id()] }.result() ?? []
    #expect(ids.count == 2)
    #expect(ids.first == ids.last)
    #expect(!ids.contains(own) && !ids.contains(0))
    #expect(csupport_thread_id() == own)
  }

  @Test("Usable processors are counted as nproc counts them")
  func processors() {
    let count = csupport_usable_processors()
    #expect(exitCode(ofScript: "[ $(OMP_NUM_THREADS= nproc) = \(count) ]") == 0)
  }
}

import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

@Suite("Confined workers", .serialized, .timeLimit(.minutes(5)))
struct ConfinementTests {
  /// Why nobody can be confined here; `nil`: it works.
  private static let obstacle: String? = {
    do {
      _ = try spawn("silent").terminateAndWait(grace: .zero)
      return nil
    } catch {
      return "\(error)"
    }
  }()

  /// What the other program of the tests needs to start.
  private static let files: [String] = {
    let worker = try? PeerProcess.spawn("files")
    let event = try? worker?.connection.receive(timeout: patience)
    return (try? event?.decode([String].self)) ?? []
  }()

  private static func spawn(
    _ role: String, _ arguments: [String] = [], _ change: (inout WorkerOptions) -> Void = { _ in }
  ) throws -> WorkerProcess {
    var process = WorkerOptions()
    process.confinement = Confinement(readablePaths: files)
    change(&process)
    return try WorkerProcess.spawn(PeerProcess.executable, arguments: [role] + arguments, process: process)
  }

  @Test(
    "13.12 A confined worker has its connection and the files that were named, and nothing else",
    .enabled(if: obstacle == nil))
  func world() async throws {
    let worker = try Self.spawn("surroundings", ["/", "/etc", "/tmp", "/dev"])
    let seen = try await Seen.by(worker)
    // Directories that lead to the files.
    let roots = Set(Self.files.compactMap { $0.split(separator: "/").first.map(String.init) } + ["proc"])
    let own = PeerProcess.executable.split(separator: "/").first.map(String.init)
    #expect(Set(seen.files["/"] ?? []) == roots.union(own.map { [$0] } ?? []))
    #expect(seen.files["/etc"]?.contains("passwd") == false)
    #expect(seen.files["/dev"] == [])
    #expect(seen.processes.count == 2, "the first process of its world, and itself: \(seen.processes)")
    #expect(seen.devices == ["lo"])
    // Nothing of bubblewrap's is left open in it.
    let sockets = seen.descriptors.values.filter { $0.hasPrefix("socket:") }
    #expect(sockets.count == 1, "\(seen.descriptors)")
    let granted = try #require(worker.confinement)
    #expect(granted.namespaces.isSuperset(of: [.user, .files, .processes, .network, .interprocess, .hostName]))
    #expect(granted.hasNoNewPrivileges && granted.capabilities == 0)
    #expect(granted.asked == Confinement(readablePaths: Self.files))
    #expect(try PeerProcess.spawn("silent").confinement == nil)
  }

  @Test("13.12 What is granted beyond that is what was asked for", .enabled(if: obstacle == nil))
  func grants() async throws {
    let place = freshPath()
    unsafe mkdir(place, 0o777)
    defer { unsafe rmdir(place) }
    let worker = try Self.spawn("surroundings", [place, "/tmp", "/dev", "/usr"]) { process in
      process.workingDirectory = place
      process.confinement?.writablePaths = [place]
      process.confinement?.readablePaths.append("/usr")
      process.confinement?.hasDevices = true
      process.confinement?.hasTemporaryDirectory = true
      process.confinement?.sharesNetwork = true
    }
    let seen = try await Seen.by(worker)
    #expect(seen.writable[place] == true && seen.writable["/tmp"] == true && seen.writable["/usr"] == false)
    #expect(seen.files["/dev"]?.contains("null") == true)
    #expect(seen.directory == place)
    #expect(Set(seen.devices) == Set(Seen().devices))
    #expect(worker.confinement?.namespaces.contains(.network) == false)
  }

  @Test("13.12 Ports that a confined worker is sent work, and one's end is heard", .enabled(if: obstacle == nil))
  func ports() async throws {
    let worker = try Self.spawn("receiveFirst")
    let channel = try MessageChannel()
    let closes = Collected<CloseReason>()
    channel.port1.onClose = { closes.append($0) }
    try worker.connection.postMessage("port", transfer: [channel.port2])
    #expect(try channel.port1.receive(timeout: patience).load(as: UInt64.self) == 5)
    worker.kill()
    #expect(await worker.exitStatus == .signalled(SIGKILL))
    try await closes.wait(for: 1)
  }

  @Test("8.5 A confined worker's end is known as any other's", .enabled(if: obstacle == nil))
  func ends() async throws {
    let exits = try Self.spawn("exit", ["7"])
    let closes = Collected<CloseReason>()
    exits.connection.onClose = { closes.append($0) }
    #expect(await exits.exitStatus == .exited(7))
    #expect(try await closes.wait(for: 1) == [.peerExited(.exited(7))])
    let killed = try Self.spawn("surroundings")
    _ = try await Seen.by(killed)
    #expect(await killed.terminate(grace: patience) == .signalled(SIGTERM))
  }

  @Test("13.4, 13.12 A program that ends at once has run, and its status is known", .enabled(if: obstacle == nil))
  func quick() throws {
    var process = WorkerOptions()
    process.confinement = Confinement(
      readablePaths: ["/usr", "/bin", "/lib", "/lib64"].filter { unsafe access($0, F_OK) == 0 })
    for code in 0..<20 as Range<CInt> {
      let worker = try WorkerProcess.spawn("/bin/sh", arguments: ["-c", "exit \(code)"], process: process)
      #expect(try worker.wait(timeout: patience) == .exited(code))
      #expect(!worker.hasOpenedConnection && worker.confinement != nil)
    }
  }

  @Test("13.12 When bubblewrap is killed, what it has confined ends", .enabled(if: obstacle == nil))
  func orphan() async throws {
    let worker = try Self.spawn("surroundings")
    _ = try await Seen.by(worker)
    let first = csupport_process_child(worker.processIdentifier)
    try #require(first > 0)
    let pidfd = csupport_pidfd_open(first)
    defer { _ = csupport_close(pidfd) }
    _ = kill(worker.processIdentifier, SIGKILL)
    #expect(csupport_wait_readable(pidfd, Int64(patience.inSeconds * 1e9)) == 1)
  }

  @Test("13.12 A path that is not there, or not absolute, is a typed error; so is a program that is not there")
  func badPaths() {
    #expect(throws: ConnectionError.invalidOption("confinement: there is no /no/such/file")) {
      try Self.spawn("silent") { $0.confinement?.readablePaths.append("/no/such/file") }
    }
    #expect(throws: ConnectionError.invalidOption("confinement: etc is no absolute path")) {
      try Self.spawn("silent") { $0.confinement?.writablePaths.append("etc") }
    }
    var process = WorkerOptions()
    process.confinement = Confinement()
    #expect(throws: ConnectionError.executableNotFound("/no/such/program")) {
      try WorkerProcess.spawn("/no/such/program", process: process)
    }
  }

  /// Says all that bubblewrap says, and confines nothing.
  private static let looseBubblewrap = """
    #!/bin/sh
    while [ "$1" != -- ]; do
      [ "$1" = --json-status-fd ] && status=$2
      [ "$1" = --block-fd ] && gate=$2
      shift
    done
    eval "/bin/sh -c 'while :; do /bin/sleep 1; done' $status>&- $gate>&- &"
    echo "{ \\"child-pid\\": $! }" >&$status
    eval "exec $gate>&-"
    wait

    """

  @Test("13.12 Where nobody can be confined, the worker does not run at all")
  func unavailable() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let place = freshPath()
        unsafe mkdir(place, 0o700)
        defer { ProgramRun.remove(place) }
        var process = WorkerOptions()
        process.confinement = Confinement(
          readablePaths: ["/usr", "/bin", "/lib", "/lib64"].filter { unsafe access($0, F_OK) == 0 })
        unsafe setenv("PATH", place, 1)
        #expect(throws: ConnectionError.confinementUnavailable("bubblewrap (bwrap) is not installed")) {
          try WorkerProcess.spawn("/bin/sh", arguments: ["-c", "exit 0"], process: process)
        }
        // One that fails when it is about to confine, as it does where namespaces are forbidden.
        try ProgramRun.write("#!/bin/sh\nexit 1\n", to: place + "/bwrap", mode: 0o700)
        #expect(throws: ConnectionError.self) {
          try WorkerProcess.spawn("/bin/sh", arguments: ["-c", "exit 0"], process: process)
        }
        // One that confines nothing.
        try ProgramRun.write(Self.looseBubblewrap, to: place + "/bwrap", mode: 0o700)
        do {
          _ = try WorkerProcess.spawn("/bin/sh", arguments: ["-c", "exit 0"], process: process)
          Issue.record("it ran without a cage")
        } catch {
          #expect("\(error)".contains("no namespace of its own"))
        }
      }
    }
  }
}

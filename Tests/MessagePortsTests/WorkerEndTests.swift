import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

@Suite("How workers end", .serialized, .timeLimit(.minutes(5)))
struct WorkerEndTests {
  // MARK: Who else has the socket

  @Test("13.3 A worker's end closes its connection with the status, though a helper has inherited its socket")
  func helperLivesOn() async throws {
    let path = freshPath()
    defer { unsafe unlink(path) }
    let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "sleep 1000 & echo $! > \(path); exit 3"])
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    #expect(try await closes.wait(for: 1) == [.peerExited(.exited(3))])
    let helper = pid_t(text(of: path).dropLast()) ?? 0
    try #require(helper > 1)
    defer { kill(helper, SIGKILL) }
    #expect(linkTarget("/proc/\(helper)/fd/3")?.contains("socket:") == true, "it has the socket still")
    #expect(worker.connection.isPeerClosed)
  }

  @Test("13.3 The same without a handler: whoever asks, or waits for space, is told")
  func helperLivesOnUnhandled() async throws {
    let path = freshPath()
    defer { unsafe unlink(path) }
    let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "sleep 1000 & echo $! > \(path); exit 3"])
    #expect(await worker.exitStatus == .exited(3))
    let helper = pid_t(text(of: path).dropLast()) ?? 0
    defer { if helper > 1 { kill(helper, SIGKILL) } }
    try await eventually("the end") { worker.connection.isPeerClosed }
  }

  @Test("13.3 A worker killed while its helper lives: what it had posted arrives, then close")
  func killedWithHelper() async throws {
    let worker = try PeerProcess.spawn("forksAndPosts", ["50"])
    let received = Collected<UInt64>(), closes = Collected<CloseReason>(), helpers = Collected<pid_t>()
    worker.connection.onClose = { closes.append($0) }
    worker.connection.on("helper") { event in helpers.append(pid_t((try? event.load(as: UInt64.self)) ?? 0)) }
    worker.connection.on("number") { event in received.append((try? event.load(as: UInt64.self)) ?? .max) }
    defer { for helper in helpers.all where helper > 1 { kill(helper, SIGKILL) } }
    #expect(try await closes.wait(for: 1) == [.peerExited(.signalled(SIGKILL))])
    #expect(received.all == Array(0..<50))
    #expect(helpers.all.allSatisfy { kill($0, 0) == 0 })
  }

  @Test("13.3 A worker that silently closes its socket and lives on is disconnected, and not waited for")
  func closesSocket() async throws {
    let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "exec 3>&-; exec sleep 1000"])
    let closes = Collected<CloseReason>()
    worker.connection.onClose = { closes.append($0) }
    #expect(try await closes.wait(for: 1) == [.peerExited(nil)])
    #expect(worker.isRunning)
    worker.kill()
    #expect(await worker.exitStatus == .signalled(SIGKILL))
    #expect(closes.count == 1)
  }

  @Test("13.3 The same where all threads that close are held up by what peers have sent: no copy is left to them")
  func closesSocketBesideHeldClosers() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        // Twice as many as there are such threads. What another process has goes on to linger.
        let slow = (0..<8).map { _ in LingeringSocket() }
        let files = slow.map { "/proc/self/fd/\($0.descriptor)" }
        let sockets = files.map(linkTarget)
        for socket in slow { csupport_close_sent_elsewhere(socket.descriptor) }
        // Four of the numbers come free, or are others' by then: nobody is left who could close anything else.
        try await eventually("the threads to be held up") {
          zip(files, sockets).filter { linkTarget($0) != $1 }.count == 4
        }
        let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "exec 3>&-; exec sleep 1000"])
        defer { worker.kill() }
        let closes = Collected<CloseReason>()
        worker.connection.onClose = { closes.append($0) }
        #expect(try await closes.wait(for: 1) == [.peerExited(nil)])
        #expect(worker.isRunning)
      }
    }
  }

  // MARK: Who else reaps

  @Test("13.4 With SIGCHLD ignored, each worker starts and its end is reported; a status may be unknown, never wrong")
  func ignoredChildren() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        signal(SIGCHLD, SIG_IGN)
        try await Self.runQuickWorkers(200)
      }
    }
  }

  @Test("13.4 In a program that reaps every child it has, the same")
  func reapingProgram() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        _ = TestThread { while true { if waitpid(-1, nil, 0) < 0 { sched_yield() } } }
        try await Self.runQuickWorkers(100)
      }
    }
  }

  private static func runQuickWorkers(_ count: Int) async throws {
    let closes = Collected<CloseReason>()
    let workers = try (0..<count).map { number in
      let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "exit \(number)"])
      worker.connection.onClose = { closes.append($0) }
      return worker
    }
    for (number, worker) in workers.enumerated() {
      let status = await worker.exitStatus
      #expect(status == .exited(CInt(number)) || status == .unknown)
    }
    try await closes.wait(for: count)
    let possible = Set((0..<count).map { CloseReason.peerExited(.exited(CInt($0))) } + [.peerExited(.unknown)])
    #expect(closes.all.allSatisfy(possible.contains))
  }

  // MARK: Waiting

  @Test(
    "13.7 Waiting for a worker's end is over when the task is cancelled, and the worker runs on",
    arguments: [true, false])
  func cancelledWait(before: Bool) async throws {
    let worker = try PeerProcess.spawn("silent")
    let mayWait = Promise<Void>()
    let task = Task {
      if before { while !Task.isCancelled { await Task.yield() } }
      mayWait.fulfil(())
      return await worker.exitStatus
    }
    if !before { try await onThread { try mayWait.wait() } }
    task.cancel()
    #expect(await task.value == .unknown)
    #expect(worker.isRunning)
    worker.kill()
    #expect(await worker.exitStatus == .signalled(SIGKILL))
    // Whoever asks afterwards need not wait.
    let late = Task {
      while !Task.isCancelled { await Task.yield() }
      return await worker.exitStatus
    }
    late.cancel()
    #expect(await late.value == .signalled(SIGKILL))
  }

  @Test("13.7 Of several that wait, only those that give up do")
  func oneGivesUp() async throws {
    let worker = try PeerProcess.spawn("silent")
    let patient = Task { await worker.exitStatus }
    for _ in 0..<20 {
      let impatient = Task { await worker.exitStatus }
      impatient.cancel()
      #expect(await impatient.value == .unknown)
    }
    worker.kill()
    #expect(await patient.value == .signalled(SIGKILL))
  }

  @Test("13.3 A thread, even the event loop's own, can wait for a worker's end, for the longest possible duration")
  func blockingWait() async throws {
    let worker = try PeerProcess.spawn("silent")
    for timeout in [Duration.zero, .seconds(-1), .seconds(Int64.min), .nanoseconds(1)] {
      #expect { try worker.wait(timeout: timeout) } throws: { error in
        if case PortError.timedOut? = error as? PortError { true } else { false }
      }
    }
    let statuses = Collected<MessagePorts.ExitStatus?>()
    let quick = try WorkerProcess.spawn("sh", arguments: ["-c", "exit 8"])
    Task(executorPreference: EventLoop.default) { statuses.append(try? quick.wait()) }
    #expect(try await statuses.wait(for: 1) == [.exited(8)])
    worker.kill()
    for timeout in [nil, Duration.seconds(Int64.max), .zero] {
      let status = try await onThread { try worker.wait(timeout: timeout) }
      #expect(status == .signalled(SIGKILL))
    }
    #expect(await quick.exitStatus == .exited(8))
  }

  // MARK: The parent

  @Test(
    "13.1 A stale variable does not make the library touch a descriptor that is something else",
    arguments: [true, false])
  func staleVariable(isPacketSocket: Bool) async {
    await #expect(processExitsWith: .success) { [isPacketSocket] in
      await recordErrors {
        var fds: [CInt] = [-1, -1]
        let kind = isPacketSocket ? SOCK_SEQPACKET : SOCK_STREAM
        #expect(unsafe socketpair(AF_UNIX, CInt(kind.rawValue), 0, &fds) == 0)
        #expect(unsafe send(fds[0], "mine", 4, 0) == 4)
        let taken = fds[1]
        // Another socket that carries packets; the right one that carries none.
        var facts = csupport_file_facts()
        #expect(unsafe csupport_file_facts(taken, &facts) == 0)
        unsafe setenv("MESSAGEPORTS_PARENT", "\(taken):\(facts.inode + (isPacketSocket ? 1 : 0))", 1)
        #expect(throws: ConnectionError.noParent) { try Connection.parent }
        #expect(throws: ConnectionError.noParent) { try Connection.parent(options: ChannelOptions()) }
        #expect(fcntl(taken, F_GETFD) == 0, "neither closed nor marked")
        var bytes = [UInt8](repeating: 0, count: 8)
        #expect(unsafe recv(taken, &bytes, 8, CInt(MSG_DONTWAIT)) == 4, "nor read")
      }
    }
  }

  @Test("8.1 A worker's own options decide whether it accepts memory that is not sealed")
  func parentOptions() async throws {
    let options = ChannelOptions(backing: .posixSharedMemory)
    let environment = ["SWIFT_BACKTRACE": "enable=no"]
    let trusting = try WorkerProcess.spawn(
      PeerProcess.executable, arguments: ["trusting", "arguments", "one"], environment: environment, options: options)
    let messages = Collected<ConnectionEvent>()
    trusting.connection.onUnhandled = { messages.append($0) }
    #expect(try await messages.wait(for: 1).first?.bytes == Array("one".utf8))
    let other = try WorkerProcess.spawn(
      PeerProcess.executable, arguments: ["arguments", "one"], environment: environment, options: options)
    other.connection.onUnhandled = { messages.append($0) }
    #expect(await other.exitStatus != .exited(0))
  }

  @Test("8.5 A worker that ends before it asks for its parent is reported like any other, with what was posted unread")
  func endsBeforeAsking() async throws {
    let worker = try WorkerProcess.spawn("sh", arguments: ["-c", "exit 5"])
    let channel = try MessageChannel()
    let closes = Collected<CloseReason>()
    channel.port1.onClose = { closes.append($0) }
    worker.connection.onClose = { closes.append($0) }
    try worker.connection.postMessage("port", transfer: [channel.port2])
    try await closes.wait(for: 2)
    #expect(closes.all.contains(.peerExited(.exited(5))))
  }
}

import CTestSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Each forks in a process of its own, in which no other tests run.
@Suite(
  "13.2 What a forked child has of its parent's", .serialized, .timeLimit(.minutes(5)),
  .enabled(if: ForkedChild.isAskedFor, "runs alone: see scripts/test.sh"))
struct ForkedChildTests {
  // MARK: What is closed

  /// Everything that can be done with a port, and what a forked child gets for it.
  private static func expectClosed(_ port: MessagePort, _ name: String, _ checks: inout ForkedChild.Checks) throws {
    let fresh = try MessageChannel()
    let calls: [(String, () throws(PortError) -> Void)] = [
      ("post a value", { () throws(PortError) in try port.postMessage("text") }),
      ("post bytes", { () throws(PortError) in try port.postMessage(bytes: [1, 2]) }),
      ("post a plain value", { () throws(PortError) in try port.postMessage(bitwise: 7) }),
      ("fill", { () throws(PortError) in try port.postMessage(byteCount: 1) { unsafe $0.append(1, as: UInt8.self) } }),
      ("post ports", { () throws(PortError) in try port.postMessage(bytes: [], transfer: [fresh.port1]) }),
      ("try to receive", { () throws(PortError) in _ = try port.tryReceive() }),
      ("receive", { () throws(PortError) in _ = try port.receive(timeout: .milliseconds(1)) }),
      ("receive for ever", { () throws(PortError) in _ = try port.receive() }),
      ("split", { () throws(PortError) in _ = try port.split() }),
    ]
    for (call, body) in calls { checks.expectClosed("\(name): \(call)", body) }
    checks.expect(!fresh.port1.isDetached, "a port of \(name) that stays with the caller")
    let isListedWrongly = { (error: PortError) in
      if case .invalidTransfer(index: 0, .isClosed) = error { true } else { false }
    }
    checks.expectThrows("\(name): transfer", isListedWrongly) { () throws(PortError) in
      try fresh.port1.postMessage(bytes: [], transfer: [port])
    }
    checks.expect(port.isClosed && !port.isStarted && !port.isDetached, "\(name) closed")
    checks.expect(!port.isPeerClosed && port.queuedByteCount == 0, "\(name) quiet")
    let calledAny = SharedNumber()
    port.onMessage = { _ in calledAny.add(1) }
    port.onClose = { _ in calledAny.add(1) }
    port.onMessageError = { _ in calledAny.add(1) }
    port.start()
    port.setEventLoop(EventLoop(name: "other"))
    checks.expect(port.onMessage == nil && port.onClose == nil && port.onMessageError == nil, "handlers of \(name)")
    try runTask(on: EventLoop(name: "tasks"), "tasks of \(name)") {
      let next = try await port.messages.makeAsyncIterator().nextOnce()
      if next != nil { throw DeadlineExceeded(what: "a message of \(name)") }
      do throws(PortError) {
        try await port.waitForSpace(byteCount: 1)
        throw PortError.timedOut
      } catch {
        guard case .closed = error else { throw error }
      }
    }
    port.close()
    checks.expect(calledAny.value == 0, "handlers of \(name) left alone")
  }

  @Test(
    "13.2 In the child, a pool of buffers is closed, and what was lent there is closed and changes nothing in the parent"
  )
  func pool() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let pool = try SharedBufferPool(byteCount: 4096, capacity: 1)
        var buffer = try pool.tryTake()
        let child = try ForkedChild { checks in
          checks.expectThrows("take", { (error: BufferError) in error == .closed }) { () throws(BufferError) in
            _ = try pool.tryTake()
          }
          checks.expect(buffer?.isOpen == false && pool.lentCount == 0, "an open pool")
          buffer = nil
          pool.close()
        }
        child.expectSuccess()
        #expect(pool.lentCount == 1 && buffer?.isOpen == true)
        buffer = nil
        #expect(pool.lentCount == 0)
        #expect(try pool.tryTake() != nil)
      }
    }
  }

  @Test("13.2 In the child, a port that existed before is closed, and says so in every way; in the parent, it goes on")
  func ports() async {
    await #expect(processExitsWith: .success) {
      let far = FarProcess()
      let shared = try far.open(.echo)
      let local = try MessageChannel()
      let handled = try MessageChannel()
      let received = Collected<Int>()
      handled.port2.onMessage = { event in received.append((try? event.load(as: Int.self)) ?? -1) }
      try handled.port1.postMessage(bitwise: 1)
      try await received.wait(for: 1)
      try local.port1.postMessage(bitwise: 5)
      let child = try ForkedChild { checks in
        for (port, name) in [
          (shared, "shared"), (local.port1, "posting"), (local.port2, "receiving"), (handled.port2, "handled"),
        ] { try Self.expectClosed(port, name, &checks) }
      }
      child.expectSuccess()
      #expect(try local.port2.receiveSoon().load(as: Int.self) == 5)
      try handled.port1.postMessage(bitwise: 2)
      #expect(try await received.wait(for: 2) == [1, 2])
      try shared.postMessage(bitwise: 3)
      #expect(try shared.receiveSoon().load(as: Int.self) == 3)
    }
  }

  @Test("13.2 In the child, a set that existed before is closed, and a new one works; in the parent, it goes on")
  func sets() async {
    await #expect(processExitsWith: .success) {
      let far = FarProcess()
      let shared = try far.open(.echo)
      let local = try MessageChannel()
      let set = try PortSet([shared, local.port1])
      let descriptor = try set.descriptor
      try local.port2.postMessage(bitwise: 5)
      let child = try ForkedChild { checks in
        checks.expectClosed("tell") { () throws(PortError) in _ = try set.nextReady() }
        checks.expectClosed("wait") { () throws(PortError) in _ = try set.firstReady(timeout: .milliseconds(1)) }
        checks.expectClosed("wait for ever") { () throws(PortError) in _ = try set.firstReady() }
        checks.expectClosed("ask for its descriptor") { () throws(PortError) in _ = try set.descriptor }
        let fresh = try MessageChannel()
        checks.expectClosed("put a port into it") { () throws(PortError) in try set.add(fresh.port1) }
        checks.expect(!set.remove(local.port1) && set.count == 0, "an empty set")
        let new = try PortSet([fresh.port1])
        checks.expectClosed("put one of before into a new one") { () throws(PortError) in try new.add(local.port1) }
        try fresh.port2.postMessage(bitwise: 1)
        var ready = pollfd(fd: try new.descriptor, events: Int16(POLLIN), revents: 0)
        checks.expect(unsafe poll(&ready, 1, 0) == 1, "a new descriptor")
        guard case .port(let port) = try new.firstReady(timeout: patience), port === fresh.port1 else {
          throw DeadlineExceeded(what: "the port of a new set")
        }
      }
      child.expectSuccess()
      guard case .port(let port) = try set.firstReady(timeout: patience) else { return }
      #expect(try port === local.port1 && local.port1.receiveNumber() == 5)
      #expect(try set.nextReady() == nil)
      try shared.postMessage(bitwise: 3)
      var ready = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      #expect(unsafe poll(&ready, 1, CInt(patience.inSeconds * 1000)) == 1)
      guard case .port(let other)? = try set.nextReady() else { throw DeadlineExceeded(what: "the shared port") }
      #expect(try other === shared && shared.receiveNumber() == 3)
    }
  }

  @Test(
    "13.2 In the child, a descriptor is closed, in hand or in a message, and keeps nothing open; in the parent, it goes on"
  )
  func descriptors() async {
    await #expect(processExitsWith: .success) {
      let pipe = try TestPipe(), local = try MessageChannel()
      try local.port1.postMessage(bitwise: 1, descriptors: [try pipe.writer.duplicate()])
      let taken = try TestPipe.readable(containing: 7).take()
      let child = try ForkedChild { checks in
        for (descriptor, name) in [(pipe.reader, "reader"), (pipe.writer, "writer")] {
          checks.expect(!descriptor.isOpen, "\(name) closed")
          checks.expectThrows("take \(name)", { (error: DescriptorError) in error == .closed }) {
            () throws(DescriptorError) in _ = try descriptor.take()
          }
          let fresh = try MessageChannel()
          let isListedWrongly = { (error: PortError) in
            if case .invalidDescriptor(index: 0, .isClosed) = error { true } else { false }
          }
          checks.expectThrows("post \(name)", isListedWrongly) { () throws(PortError) in
            try fresh.port1.postMessage(descriptors: [descriptor])
          }
          descriptor.close()
        }
        // What was taken is the program's.
        checks.expect(fcntl(taken, F_GETFD) >= 0, "taken and open")
        let targets = entries(of: "/proc/self/fd").compactMap { linkTarget("/proc/self/fd/\($0)") }
        checks.expect(!targets.contains(pipe.name), "rid of the pipe")
      }
      child.expectSuccess()
      let event = try local.port2.receiveSoon()
      #expect(try event.descriptors.map { try $0.target() } == [pipe.name])
      try pipe.writer.write(5)
      #expect(try pipe.reader.readNumber() == 5)
      close(taken)
    }
  }

  @Test("13.2 In the child, the halves of a split port are closed, on the fast path as well")
  func halves() async {
    await #expect(processExitsWith: .success) {
      let channel = try MessageChannel()
      let (halves, others) = (try channel.port1.split(), try channel.port2.split())
      var writer = halves.takeWriter()
      var reader = halves.takeReader()
      var otherWriter = others.takeWriter()
      var otherReader = others.takeReader()
      #expect(try otherWriter.tryWrite(bitwise: 1))
      #expect(try otherWriter.tryWrite(bitwise: 2))
      #expect(try reader.tryRead(bitwise: Int.self) == 1)
      // `fork` returns twice; a closure could not use the halves.
      let pid = ForkedChild.fork()
      if pid == 0 {
        var failures: CInt = 0
        func expectClosed(_ what: String, _ body: () throws(PortError) -> Void) {
          do throws(PortError) { try body() } catch { if case .closed = error { return } }
          printNow("not closed: \(what)\n")
          failures += 1
        }
        expectClosed("write a value") { () throws(PortError) in _ = try writer.tryWrite(bitwise: 1) }
        expectClosed("write bytes") { () throws(PortError) in _ = try unsafe writer.tryWrite([UInt8(1), 2].span.bytes) }
        expectClosed("reserve") { () throws(PortError) in _ = try writer.tryReserve(byteCount: 8) { _ in } }
        expectClosed("write many") { () throws(PortError) in _ = try writer.tryWrite(contentsOf: [1, 2, 3].span) }
        expectClosed("wait for space") { () throws(PortError) in try writer.waitForSpace(byteCount: 8) }
        expectClosed("batch") { () throws(PortError) in
          try writer.batch { (batch) throws(PortError) in _ = try batch.tryWrite(bitwise: 1) }
        }
        for _ in 0..<3 {
          expectClosed("read") { () throws(PortError) in _ = try reader.tryRead { _ in } }
          expectClosed("read a value") { () throws(PortError) in _ = try reader.tryRead(bitwise: Int.self) }
        }
        expectClosed("read a batch") { () throws(PortError) in _ = try reader.readBatch(upTo: 3) { _ in } }
        expectClosed("wait and read") { () throws(PortError) in _ = try reader.read { _ in } }
        expectClosed("wait") { () throws(PortError) in try reader.waitForMessage() }
        do throws(PortError) {
          _ = try MessagePort(joining: writer, reader)
          failures += 1
        } catch {
          if case .closed = error {} else { failures += 1 }
        }
        _exit(failures)
      }
      #expect(ForkedChild.wait(for: pid) == 0)
      #expect(try reader.tryRead(bitwise: Int.self) == 2)
      #expect(try writer.tryWrite(bitwise: 3))
      #expect(try otherReader.tryRead(bitwise: Int.self) == 3)
      #expect(try otherReader.tryRead(bitwise: Int.self) == nil)
    }
  }

  @Test("13.2 In the child, connections, listeners and workers that existed before are closed, and the name is kept")
  func connections() async {
    await #expect(processExitsWith: .success) {
      let path = "/tmp/messageports-fork-\(getpid())"
      let listener = try Listener(path: path)
      let client = try await Connection.connect(path: path)
      let server = try await listener.accept(timeout: patience)
      let worker = try WorkerProcess.spawn("/bin/sleep", arguments: ["1000"])
      let child = try ForkedChild { checks in
        for connection in [client, server, worker.connection] {
          checks.expectClosed("post") { () throws(PortError) in try connection.postMessage("name", bytes: [1]) }
          checks.expectClosed("encode") { () throws(PortError) in try connection.postMessage("name", "value") }
          connection.on("name") { _ in }
          connection.once("other") { _ in }
          connection.handle { $0.on("third") { _ in } }
          connection.onUnhandled = { _ in }
          connection.removeHandler("name")
          connection.start()
          checks.expect(connection.isClosed && !connection.isPeerClosed, "a closed connection")
          connection.close()
        }
        try runTask(on: EventLoop(name: "tasks"), "accepting") {
          do throws(ConnectionError) {
            _ = try await listener.accept(timeout: patience)
          } catch {
            guard error == .listenerClosed else { throw error }
          }
          for await _ in listener.connections { throw DeadlineExceeded(what: "a connection") }
          guard await worker.exitStatus == .unknown else { throw DeadlineExceeded(what: "an unknown status") }
        }
        checks.expectClosed("wait") { () throws(PortError) in _ = try worker.wait() }
        checks.expect(!worker.isRunning, "a worker of its own")
        worker.kill()
        listener.close()
        let noParent = { (error: ConnectionError) in error == .noParent }
        checks.expectThrows("parent", noParent) { () throws(ConnectionError) in _ = try Connection.parent }
        // The name is in use.
        let isInUse = { (error: ConnectionError) in if case .nameInUse = error { true } else { false } }
        checks.expectThrows("listen", isInUse) { () throws(ConnectionError) in _ = try Listener(path: path) }
      }
      child.expectSuccess()
      #expect(worker.isRunning)
      #expect(unsafe access(path, F_OK) == 0)
      let names = Collected<String>()
      server.on("name") { event in names.append(event.name) }
      try client.postMessage("name", bytes: [1])
      try await names.wait(for: 1)
      let next = try await Connection.connect(path: path)
      _ = try await listener.accept(timeout: patience)
      withExtendedLifetime(next) {}
      worker.kill()
      #expect(await worker.exitStatus == .signalled(SIGKILL))
      listener.close()
      #expect(unsafe access(path, F_OK) != 0)
    }
  }

  @Test("13.2 To release what was inherited does nothing to the parent's")
  func releases() async {
    await #expect(processExitsWith: .success) {
      let far = FarProcess()
      var port: MessagePort? = try far.open(.echo)
      let path = "/tmp/messageports-fork-\(getpid())"
      var listener: Listener? = try Listener(path: path)
      var worker: WorkerProcess? = try WorkerProcess.spawn("/bin/sleep", arguments: ["1000"])
      let pid = ForkedChild.fork()
      if pid == 0 {
        (port, listener, worker) = (nil, nil, nil)
        exit(0)
      }
      #expect(ForkedChild.wait(for: pid) == 0)
      try port?.postMessage(bitwise: 3)
      #expect(try port?.receiveSoon().load(as: Int.self) == 3)
      #expect(listener != nil && worker?.isRunning == true)
      _ = try await Connection.connect(path: path)
      worker?.kill()
      _ = await worker?.exitStatus
    }
  }

  // MARK: What works

  /// Channels, loops, handlers, transfers, a name, a worker: all anew.
  fileprivate static func useEverything(_ inherited: EventLoop, _ checks: inout ForkedChild.Checks) throws {
    for loop in [EventLoop.default, inherited, EventLoop(name: "fresh")] {
      let channel = try MessageChannel(loop: loop), carried = try MessageChannel(loop: loop)
      let sum = SharedNumber(), closes = SharedNumber()
      channel.port2.onMessage = { event in
        sum.add((try? event.load(as: Int.self)) ?? 1000)
        for port in event.ports { try? port.postMessage(bitwise: 9) }
      }
      channel.port2.onClose = { _ in closes.add(1) }
      for number in 0..<100 { try channel.port1.postMessage(bitwise: number) }
      try channel.port1.postMessage(bitwise: 50, transfer: [carried.port2])
      try waitUntil("messages on \(loop.name)") { sum.value == 5000 }
      checks.expect(try carried.port1.receiveSoon().load(as: Int.self) == 9, "an answer")
      channel.port1.close()
      try waitUntil("the close on \(loop.name)") { closes.value == 1 }
    }
    let worker = try WorkerProcess.spawn("/bin/sh", arguments: ["-c", "exit 7"])
    checks.expect(try worker.wait(timeout: patience) == .exited(7), "a worker's status")
    let path = "/tmp/messageports-forked-\(getpid())"
    let listener = try Listener(path: path)
    try runTask(on: EventLoop(name: "tasks"), "connecting") {
      let client = try await Connection.connect(path: path)
      let server = try await listener.accept(timeout: patience)
      let count = SharedNumber()
      server.on("name") { _ in count.add(1) }
      try client.postMessage("name", bytes: [1])
      while count.value == 0 { await Task.yield() }
    }
    listener.close()
    let split = try MessageChannel()
    let halves = try split.port1.split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    checks.expect(try writer.tryWrite(bitwise: 3), "a write")
    checks.expect(try split.port2.receiveSoon().load(as: Int.self) == 3, "what was written")
    try split.port2.postMessage(bitwise: 4)
    checks.expect(try reader.tryRead(bitwise: Int.self) == 4, "what was posted")
  }

  @Test("13.2 In the child, new channels, loops, workers, names and halves work; so they do in its own child")
  func newOnes() async {
    await #expect(processExitsWith: .success) {
      let loop = EventLoop(name: "inherited")
      for loop in [loop, .default] {
        let channel = try MessageChannel(loop: loop)
        let received = Collected<Int>()
        channel.port2.onMessage = { _ in received.append(1) }
        try channel.port1.postMessage(bitwise: 1)
        try await received.wait(for: 1)
      }
      let child = try ForkedChild { checks in
        try Self.useEverything(loop, &checks)
        let channel = try MessageChannel()
        let grandchild = try ForkedChild { checks in
          checks.expectClosed("the child's") { () throws(PortError) in try channel.port1.postMessage(bitwise: 1) }
          try Self.useEverything(loop, &checks)
        }
        checks.expect(grandchild.succeeds(), "a grandchild")
        try channel.port1.postMessage(bitwise: 1)
        checks.expect(try channel.port2.receiveSoon().load(as: Int.self) == 1, "the child's own")
      }
      child.expectSuccess()
    }
  }

  @Test(
    "13.2 In the child, a loop has its place anew; where the child may not have that, it goes on without",
    .enabled(if: geteuid() == 0, "it takes a privilege to lose"))
  func placedLoop() async {
    await #expect(processExitsWith: .success) {
      let loop = try EventLoop(
        name: "placed", placement: EventLoop.Placement(scheduling: .normal(nice: -5)))
      for isNobody in [false, true] {
        let child = try ForkedChild { checks in
          if isNobody { checks.expect(ctest_become_nobody(1 << 20) == 0, "a nobody") }
          let nice = SharedNumber()
          try runTask(on: loop, "a task on the placed loop") { nice.set(Int(ctest_thread_nice())) }
          checks.expect(nice.value == (isNobody ? 0 : -5), "the right nice value: \(nice.value)")
        }
        child.expectSuccess()
      }
    }
  }

  @Test("13.2 A process that forks and is killed is heard to close, though its child lives")
  func killedParent() async {
    await #expect(processExitsWith: .success) {
      let path = "/tmp/messageports-fork-\(getpid())"
      let listener = try Listener(path: path)
      let forker = try ForkedChild { _ in
        try runTask(on: .default, "connecting") {
          let connection = try await Connection.connect(path: path)
          let channel = try MessageChannel()
          let child = ctest_fork_and_pause()
          try connection.postMessage("child", bitwise: Int(child), transfer: [channel.port1])
          try await Task.sleep(for: .seconds(1000))
          withExtendedLifetime(channel) {}
        }
      }
      let pid = forker.pid
      let connection = try await listener.accept(timeout: patience)
      let closes = Collected<CloseReason>(), events = Collected<ConnectionEvent>()
      connection.onClose = { closes.append($0) }
      connection.on("child") { event in
        event.ports[0].onClose = { closes.append($0) }
        events.append(event)
      }
      let child = pid_t(try await events.wait(for: 1)[0].load(as: Int.self))
      kill(pid, SIGKILL)
      #expect(try await closes.wait(for: 2).count == 2)
      #expect(kill(child, 0) == 0)
      kill(child, SIGKILL)
      _ = forker.succeeds()
    }
  }
}

extension MessagePort.Messages.AsyncIterator {
  fileprivate consuming func nextOnce() async throws(PortError) -> MessageEvent? {
    var iterator = self
    return try await iterator.next()
  }
}

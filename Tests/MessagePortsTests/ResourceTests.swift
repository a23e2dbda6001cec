import Glibc
import MessagePorts
import TestSupport
import Testing

/// What is given back, and when. Each test has a process of its own: these numbers belong to the whole process.
@Suite("Resources", .serialized, .timeLimit(.minutes(5)))
struct ResourceTests {
  @Test("9.1 Channels to another process give back descriptors, mappings and threads when they close, from either end")
  func channelsClosed() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let before = Resources.now()
        let far = try await agent.call(.descriptors).value
        for isClosedHere in [true, false] {
          let channels = try await makeChannels(100, agent, firstKey: 0)
          let shared = Resources.now()
          guard shared.descriptors >= before.descriptors + 190, shared.mappings >= before.mappings + 100 else {
            throw Agent.Failure(description: "\(before) before, \(shared) with a hundred channels")
          }
          for (key, port) in channels.enumerated() {
            if isClosedHere { port.close() } else { try agent.begin(.close, UInt64(key)) }
          }
          if !isClosedHere {
            for _ in channels { try await agent.end() }
            try await onThread { for port in channels { try port.expectEnd() } }
            for port in channels { port.close() }
          }
          for key in 0..<100 { try await agent.call(.release, UInt64(key)) }
          try await expectBack(before)
          try await expectBack(far, of: agent)
        }
      }
    }
  }

  @Test("9.1 Channels whose ports are merely released give everything back")
  func portsReleased() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let before = Resources.now()
        do {
          let ports = try await makeChannels(100, agent, firstKey: 0)
          for port in ports { port.onClose = { _ in } }
          try await Task.sleep(for: .milliseconds(20))
        }
        for key in 0..<100 { try await agent.call(.release, UInt64(key)) }
        try await expectBack(before)
      }
    }
  }

  @Test("9.1 Loops that are stopped while they serve ports leave nothing behind", arguments: ["uring", "epoll"])
  func stoppedLoops(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        let agent = try await settledAgent()
        let before = Resources.now()
        for _ in 0..<20 {
          let loop = EventLoop(name: "stopped", driver: EventLoop.Driver(rawValue: driver))
          let received = Received()
          for key in 0..<5 {
            let channel = try MessageChannel(loop: loop)
            channel.port1.onMessage = received.messageHandler
            try await agent.call(.keep, UInt64(key), transfer: [channel.port2])
            try await agent.call(.post, UInt64(key), UInt64(key), 1)
          }
          _ = try await onThread { try received.wait(for: 5) }
          loop.stop()
          for key in 0..<5 { try await agent.call(.expectEnd, UInt64(key)) }
        }
        try await expectBack(before)
      }
    }
  }

  @Test("9.1 A port that has been away and back leaves nothing in either process")
  func transfersLeaveNothing() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let before = Resources.now()
        let far = try await agent.call(.descriptors).value
        for round in 0..<3 {
          let channel = try MessageChannel()
          var port = channel.port2
          for _ in 0..<50 {
            if round == 1 { port.onMessage = { _ in } }
            if round == 2 { try channel.port1.postMessage(bytes: patternBytes(count: 100_000, seed: 1)) }
            try await agent.call(.keep, 0, transfer: [port])
            port = try #require(try await agent.call(.give, 0).ports.first)
          }
          port.close()
          channel.port1.close()
        }
        try await expectBack(before)
        try await expectBack(far, of: agent)
      }
    }
  }

  @Test("9.1 A refused post leaves no descriptor behind, and no mapping")
  func refusedPosts() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let link = try MessageChannel(options: ChannelOptions(queueLimitBytes: 16, messageLimitBytes: 100))
        try await agent.call(.keep, 0, transfer: [link.port2])
        try link.port1.postMessage(bitwise: 1)
        let closed = try MessageChannel()
        closed.port1.close()
        let before = Resources.now()
        let good = try (0..<20).map { _ in try MessageChannel() }
        let lists: [(bytes: Int, ports: [MessagePort], error: String)] = [
          (0, [link.port1], "invalidTransfer.isSendingPort"), (0, [closed.port1], "invalidTransfer.isClosed"),
          (0, [good[0].port1, good[0].port1], "invalidTransfer.isListedTwice"), (101, [], "messageTooLarge"),
          (8, [], "queueFull"),
        ]
        for list in lists {
          let error = portError {
            try link.port1.postMessage(
              bytes: patternBytes(count: list.bytes, seed: 1), transfer: good.map(\.port2) + list.ports)
          }
          #expect(error == list.error)
        }
        try await expectBack(before)
        try await expectUsable(good)
      }
    }
  }

  @Test("9.1 A killed process's channels give everything back to those at their other ends")
  func peersKilled() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        _ = try await settledAgent()
        let before = Resources.now()
        for _ in 0..<3 {
          let agent = try await settledAgent()
          let ports = try await makeChannels(50, agent, firstKey: 0)
          let closes = Collected<CloseReason>()
          for (index, port) in ports.enumerated() {
            // Some have something under way: unread messages here, and there, ports in them, a large message.
            switch index % 4 {
            case 0: try agent.begin(.post, UInt64(index), 0, 10)
            case 1: try port.postMessage(bytes: [], transfer: [try MessageChannel().port1])
            case 2: try agent.begin(.postBytes, UInt64(index), 300_000, 1)
            default: try port.postMessage(bytes: patternBytes(count: 300_000, seed: 1))
            }
            port.onClose = { closes.append($0) }
          }
          try await Task.sleep(for: .milliseconds(50))
          try await agent.kill()
          for port in ports { port.onMessage = { _ in } }
          try await closes.wait(for: 50)
        }
        try await expectBack(before)
      }
    }
  }

  @Test("9.1 Messages and ports that were discarded unread give everything back")
  func discarded() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let before = Resources.now()
        for _ in 0..<3 {
          let link = try MessageChannel()
          try await agent.call(.keep, 0, transfer: [link.port2])
          let back = try #require(try await agent.call(.give, 0).ports.first)
          for _ in 0..<20 {
            try link.port1.postMessage(
              bytes: patternBytes(count: 10_000, seed: 1),
              transfer: [try MessageChannel().port1, try MessageChannel().port2])
          }
          back.close()
          link.port1.close()
        }
        try await expectBack(before)
      }
    }
  }

  @Test("9.1 The memory of messages that were read is given back to the system with the next messages")
  func memoryOfReadMessages() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let (agent, port, memory) = try await flooded()
        // The next messages find nothing unread any more, and make do with a small segment.
        for number in 0..<3 as Range<UInt64> {
          try port.postMessage(bitwise: number)
          try await agent.call(.expect, 0, number, 1)
          try await agent.call(.expectNothing, 0)
        }
        #expect(allocatedBytes(memory) <= 4 << 20, "\(allocatedBytes(memory)) bytes")
      }
    }
  }

  @Test("9.1 The memory of messages that were read is given back to the system although nothing is posted any more")
  func memoryOfReadMessagesWithoutTraffic() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let (agent, port, memory) = try await flooded()
        try await eventually("the memory to be given back") { allocatedBytes(memory) <= 4 << 20 }
        withExtendedLifetime((agent, port)) {}
      }
    }
  }

  @Test("9.1 Killed processes leave nothing in /dev/shm, nor in the runtime directory but a listener's name")
  func nothingInTheFileSystem() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let directory = freshPath()
        try #require(unsafe mkdir(directory, 0o700) == 0)
        unsafe setenv("XDG_RUNTIME_DIR", directory, 1)
        let shared = Set(entries(of: "/dev/shm"))
        let agents = try await [settledAgent(), settledAgent()]
        for agent in agents {
          let ports = try await makeChannels(20, agent, firstKey: 0)
          for port in ports { try port.postMessage(bytes: patternBytes(count: 100_000, seed: 1)) }
        }
        let server = try PeerProcess.spawn("listen", ["name"])
        #expect(try await server.connection.nextName() == "listening")
        let client = try await Connection.connect(path: "name", timeout: patience)
        try client.postMessage("a")
        for agent in agents { try await agent.kill() }
        server.kill()
        #expect(await server.exitStatus == .signalled(9))
        // Others on this machine may be making memory, which has a name for a moment.
        let new = Set(entries(of: "/dev/shm")).subtracting(shared)
        try await eventually("names in /dev/shm to be gone") { new.isDisjoint(with: entries(of: "/dev/shm")) }
        #expect(entries(of: directory) == ["name"])
        // That, too, goes with the next server.
        do { _ = try Listener(path: "name") }
        #expect(entries(of: directory).isEmpty)
        unsafe rmdir(directory)
      }
    }
  }

  // MARK: 9.4 Signals

  @Test("9.4 A thousand signals a second disturb neither blocking receives, nor posts, nor transfers, nor connecting")
  func signals() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let channel = try MessageChannel()
        try await agent.call(.keep, 0, transfer: [channel.port2])
        try await agent.call(.echo, 0)
        let listener = try Listener(path: freshPath())
        startSignals(everyMicroseconds: 1000)
        let port = channel.port1
        try await onThread {
          unblockSignals()
          let end = ContinuousClock.now + .milliseconds(1500)
          var number: UInt64 = 0
          while ContinuousClock.now < end {
            try port.postMessage(bitwise: number)
            try port.expect(number)
            number += 1
            if number % 100 == 0 {
              let carried = try MessageChannel()
              try port.postMessage(bytes: patternBytes(count: 500_000, seed: number), transfer: [carried.port2])
              let event = try port.receiveSoon()
              guard event.bytes == patternBytes(count: 500_000, seed: number) else {
                throw Agent.Failure(description: "differs")
              }
              try carried.port1.postMessage(bitwise: number)
              try event.ports[0].expect(number)
            }
            // A wait that sleeps longer than the time between two signals.
            if number % 200 == 0 {
              let start = ContinuousClock.now
              do {
                _ = try port.receive(timeout: .milliseconds(20))
                throw Agent.Failure(description: "a message out of nowhere")
              } catch PortError.timedOut {
                guard ContinuousClock.now - start >= .milliseconds(20) else {
                  throw Agent.Failure(description: "too early")
                }
              }
            }
          }
        }
        for _ in 0..<20 { try await expectServing(listener) }
        let worker = try PeerProcess.spawn("exit", ["4"])
        #expect(await worker.exitStatus == .exited(4))
        #expect(signalCount() > 300, "the signals did arrive, at threads of this program")
      }
    }
  }
}

// MARK: - Helpers for tests of resources

/// An agent in another process, when all that the first one makes is there: threads, the loop's descriptors.
func settledAgent() async throws -> Agent {
  let agent = try Agent(.anotherProcess)
  let channel = try MessageChannel()
  let closes = Collected<CloseReason>()
  channel.port1.onMessage = { _ in }
  channel.port1.onClose = { closes.append($0) }
  try await agent.call(.keep, 1 << 32, transfer: [channel.port2])
  try await agent.call(.post, 1 << 32, 0, 1)
  try await agent.call(.release, 1 << 32)
  try await closes.wait(for: 1)
  channel.port1.close()
  return agent
}

/// Ports whose other ends the agent has under keys from `firstKey` on.
func makeChannels(_ count: Int, _ agent: Agent, firstKey: UInt64) async throws -> [MessagePort] {
  try await agent.call(.makeChannels, firstKey, UInt64(count)).ports
}

/// Waits until this process has no more than it had, except for a thread of the pool and what the program's own runtime
/// opens.
func expectBack(_ before: Resources, sourceLocation: SourceLocation = #_sourceLocation) async throws {
  do {
    try await eventually("resources") {
      let now = Resources.now()
      return now.descriptors <= before.descriptors + 2 && now.mappings <= before.mappings + 4
        && now.threads <= before.threads + 2
    }
  } catch {
    Issue.record("\(before) before, \(Resources.now()) now", sourceLocation: sourceLocation)
  }
}

/// The same for an agent's descriptors.
func expectBack(_ before: UInt64, of agent: Agent, sourceLocation: SourceLocation = #_sourceLocation) async throws {
  let deadline = ContinuousClock.now + patience
  var now = try await agent.call(.descriptors).value
  while now > before + 2 && ContinuousClock.now < deadline {
    try await Task.sleep(for: .milliseconds(5))
    now = try await agent.call(.descriptors).value
  }
  if now > before + 2 { Issue.record("\(before) before, \(now) now", sourceLocation: sourceLocation) }
}

/// A port, and its channel's memory, in which 64 MiB have waited at a busy receiver, and were read.
private func flooded() async throws -> (agent: Agent, port: MessagePort, memory: CInt) {
  let agent = try await settledAgent()
  let channel = try MessageChannel()
  let memory = try await memory(sharedBy: { try await agent.call(.keep, 0, transfer: [channel.port2]) })
  for seed in 0..<64 as Range<UInt64> { try channel.port1.postMessage(bytes: patternBytes(count: 1 << 20, seed: seed)) }
  #expect(allocatedBytes(memory) >= 64 << 20, "\(allocatedBytes(memory)) bytes")
  for seed in 0..<64 as Range<UInt64> { try await agent.call(.expectBytes, 0, 1 << 20, seed) }
  try await agent.call(.expectNothing, 0)
  return (agent, channel.port1, memory)
}

/// The descriptor of the memory of the channel that `body` shares.
func memory(sharedBy body: () async throws -> Void) async throws -> CInt {
  let before = sharedMemories()
  try await body()
  return try #require(sharedMemories().first { before[$0.key] != $0.value }?.key)
}

/// The descriptors of shared memory, and which file each is.
private func sharedMemories() -> [CInt: ino_t] {
  var found: [CInt: ino_t] = [:]
  for fd in entries(of: "/proc/self/fd").compactMap({ CInt($0) }) {
    let target = linkTarget("/proc/self/fd/\(fd)") ?? ""
    var facts = stat()
    if target.contains("memfd:") || target.contains("/dev/shm"), unsafe fstat(fd, &facts) == 0 {
      found[fd] = facts.st_ino
    }
  }
  return found
}

func allocatedBytes(_ descriptor: CInt) -> Int {
  var facts = stat()
  return unsafe fstat(descriptor, &facts) == 0 ? Int(facts.st_blocks) * 512 : 0
}

import Glibc
import MessagePorts
import TestSupport
import Testing

/// When the system has nothing more to give. Each test has a process of its own, whose limits it lowers.
@Suite("Resource limits", .serialized, .timeLimit(.minutes(5)))
struct ResourceLimitTests {
  // It is always the agent that is out of descriptors: the test's own runtime would not survive it.

  @Test("9.3 Making a channel, and posting on it, needs no descriptor")
  func channelsWithoutDescriptors() async throws {
    let agent = try Agent(.anotherProcess)
    try await agent.call(.takeDescriptors, 0)
    for key in 0..<100 as Range<UInt64> { try await agent.call(.makeLocal, 2 * key) }
    // Nor does handing a port on within the process.
    try await agent.call(.pass, 1, 2, 5)
    try await agent.call(.take, 3, 1, 5)
    try await agent.call(.tryOut, 0)
    // And messages come and go.
    #expect(try await agent.call(.processIdentifier).value != 0)
  }

  @Test(
    "9.3 Out of descriptors, a transfer to another process is refused, nothing changes, and channels go on",
    arguments: 0..<4 as Range<UInt64>)
  func transferWithoutDescriptors(_ left: UInt64) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 10, transfer: [link.port2])
    try await agent.call(.makeLocal, 0)
    try await agent.call(.takeDescriptors, left)
    for _ in 0..<3 {
      let refusal = try await agent.call(.tryPass, 1, 10, 7).value
      // Three are enough: memory and two sockets.
      #expect(refusal == (left < 3 ? UInt64(EMFILE) : 0))
      if refusal == 0 { break }
      try await agent.call(.tryOut, 0)
      // What exists works in this very situation.
      try link.port1.postMessage(bitwise: 3 as UInt64)
      try await agent.call(.expect, 10, 3, 1)
    }
    if left < 3 {
      try await agent.call(.giveDescriptors)
      #expect(try await agent.call(.tryPass, 1, 10, 7).value == 0)
    }
    let event = try await onThread { try link.port1.receiveSoon() }
    #expect(try event.load(as: UInt64.self) == 7)
    let port = try #require(event.ports.first)
    try await agent.call(.post, 0, 1, 1)
    try await onThread { try port.expect(1) }
  }

  @Test(
    "9.3, 11.3, 13.6 Out of descriptors, a message with ports waits, and what follows it; others go on; then all arrives",
    arguments: 0..<6 as Range<UInt64>)
  func receiveWithoutDescriptors(_ left: UInt64) async throws {
    let agent = try Agent(.anotherProcess)
    let (link, other) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.keep, 1, transfer: [other.port2])
    try await agent.call(.echo, 1)
    try await agent.call(.record, 0)
    try await agent.call(.takeDescriptors, left)
    let channels = try (0..<3).map { _ in try MessageChannel() }
    for (index, channel) in channels.enumerated() {
      try link.port1.postMessage(bitwise: UInt64(index), transfer: [channel.port2])
      try link.port1.postMessage(bitwise: UInt64(index + 100))
    }
    let all = (0..<3).map { "\($0), \($0 + 100)" }
    // A port takes two descriptors; as many ports arrive as there is room for.
    try await expectRecorded(agent, all[..<(Int(left) / 2)].joined(separator: ", "))
    for number in 0..<20 as Range<UInt64> {
      try other.port1.postMessage(bitwise: number)
      try await onThread { try other.port1.expect(number) }
    }
    for channel in channels { #expect(!channel.port1.isPeerClosed) }
    try await agent.call(.giveDescriptors)
    try await expectRecorded(agent, all.joined(separator: ", "))
    for channel in channels { #expect(!channel.port1.isPeerClosed) }
  }

  @Test(
    "11.3, 13.6 Out of descriptors, a message with descriptors and buffers waits, and what follows it; others go on; then all arrives",
    arguments: 0..<4 as Range<UInt64>)
  func receiveDescriptorsWithoutDescriptors(_ left: UInt64) async throws {
    let agent = try Agent(.anotherProcess)
    let (link, other) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.keep, 1, transfer: [other.port2])
    try await agent.call(.echo, 1)
    try await agent.call(.record, 0)
    try await agent.call(.takeDescriptors, left)
    let pipe = try TestPipe()
    let buffers = try (0..<2).map { MessageBuffer.frozen(try FrozenBuffer(copying: [$0])) }
    try link.port1.postMessage(
      bitwise: 0 as UInt64, descriptors: (0..<2).map { _ in try pipe.reader.duplicate() }, buffers: buffers)
    try link.port1.postMessage(bitwise: 1 as UInt64)
    pipe.reader.close()
    for number in 0..<20 as Range<UInt64> {
      try other.port1.postMessage(bitwise: number)
      try await onThread { try other.port1.expect(number) }
    }
    try await expectRecorded(agent, "")
    #expect(try !TestPipe.isHungUp(pipe.writer))
    try await agent.call(.giveDescriptors)
    try await expectRecorded(agent, "0 with 4, 1")
    // It was a copy that came first; now there is none left.
    try await pipe.expectReadersClosed()
  }

  /// What the agent's handlers were told, now or soon.
  private func expectRecorded(_ agent: Agent, _ expected: String) async throws {
    var text = ""
    let deadline = ContinuousClock.now + patience
    repeat { text = try await agent.call(.recorded).text } while text != expected && ContinuousClock.now < deadline
    #expect(text == expected)
  }

  @Test("11.3 Out of descriptors, a synchronous receive says so, and the message is there once there are some")
  func synchronousReceiveWithoutDescriptors() async throws {
    let agent = try Agent(.anotherProcess)
    let (link, channel) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.takeDescriptors, 1)
    try link.port1.postMessage(bitwise: 1 as UInt64, transfer: [channel.port2])
    try link.port1.postMessage(bitwise: 2 as UInt64)
    for _ in 0..<3 {
      do {
        try await agent.call(.take, 0, 1, 1)
        Issue.record("received without descriptors")
      } catch let failure as Agent.Failure {
        #expect(
          failure.description.contains("\(EMFILE)") || failure.description.contains("Too many open files"), "\(failure)"
        )
      }
    }
    try await agent.call(.giveDescriptors)
    try await agent.call(.take, 0, 1, 1)
    try await agent.call(.expect, 0, 2, 1)
    try channel.port1.postMessage(bitwise: 3 as UInt64)
    try await agent.call(.expect, 1, 3, 1)
  }

  @Test(
    "9.3 Out of descriptors, connecting, listening and starting a worker are refused with typed errors",
    arguments: 0..<2 as Range<UInt64>)
  func connectWithoutDescriptors(_ left: UInt64) async throws {
    let agent = try Agent(.anotherProcess)
    let number = UInt64.random(in: 0 ... .max)
    let listener = try Listener(path: Agent.listenPath(number))
    try await agent.call(.takeDescriptors, left)
    // They need a socket and memory; a lock on the directory and a socket; memory and two sockets.
    #expect(try await agent.call(.tryConnect, number).value == UInt64(EMFILE))
    #expect(try await agent.call(.tryOthers).value == UInt64(EMFILE))
    try await agent.call(.giveDescriptors)
    #expect(try await agent.call(.tryConnect, number).value == 0)
    #expect(try await agent.call(.tryOthers).value == 0)
    listener.close()
  }

  @Test(
    "9.3 A listener that is out of descriptors lets its clients wait, and goes on once it has some",
    arguments: 0..<2 as Range<UInt64>)
  func listenerWithoutDescriptors(_ left: UInt64) async throws {
    let agent = try Agent(.anotherProcess)
    let number = UInt64.random(in: 0 ... .max)
    defer { unsafe unlink(Agent.listenPath(number)) }
    try await agent.call(.listen, number)
    // One is enough to accept a client, but not for the memory that comes with its hello.
    try await agent.call(.takeDescriptors, left)
    let connected = Collected<Connection>()
    let connecting = Task {
      connected.append(try await Connection.connect(path: Agent.listenPath(number), timeout: patience))
    }
    try await Task.sleep(for: .milliseconds(300))
    #expect(connected.count == 0)
    try await agent.call(.giveDescriptors)
    try await connecting.value
    #expect(connected.count == 1)
  }

  @Test("9.3 An event loop that finds no io_uring when its thread starts works on epoll")
  func loopWithoutRing() async throws {
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [channel.port2])
    // Two are what the loop itself takes; its thread finds none for a ring.
    try await agent.call(.useNewLoop, 0, 2)
    for number in 0..<20 as Range<UInt64> {
      try channel.port1.postMessage(bitwise: number)
      try await onThread { try channel.port1.expect(number) }
      if number % 5 == 0 { try await Task.sleep(for: .milliseconds(20)) }
    }
    try await agent.call(.giveDescriptors)
    let carried = try MessageChannel()
    try channel.port1.postMessage(bitwise: 1, transfer: [carried.port1])
    _ = try await onThread { try channel.port1.receiveSoon() }
  }

  @Test("9.3 Out of address space, a transfer and a growing lane are refused with typed errors, and channels go on")
  func noAddressSpace() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let existing = try await makeChannels(1, agent, firstKey: 5)[0]
        let channels = try (0..<3000).map { _ in try MessageChannel() }
        let big = patternBytes(count: 64 << 20, seed: 1)
        // A first large message, so that whatever else it needs is there; what it wrote stays with the receiver.
        leaveAddresses(48 << 20)
        func isRefusal(_ error: any Error) -> Bool {
          if case .system(let error)? = error as? PortError { error.errno == ENOMEM } else { false }
        }
        #expect(performing: { try existing.postMessage(bytes: big) }, throws: isRefusal)
        #expect(performing: { try existing.postMessage(bytes: big, transfer: [channels[0].port2]) }, throws: isRefusal)
        try await expectUsable(Array(channels[..<2]))
        for number in 0..<100 as Range<UInt64> { try existing.postMessage(bitwise: number) }
        leaveAddresses(nil)
        try await agent.call(.expect, 5, 0, 100)
        try existing.postMessage(bytes: big)
        try await agent.call(.expectBytes, 5, 64 << 20, 1)
        try await agent.call(.keep, 0, transfer: [channels[0].port2])
      }
    }
  }

  @Test("9.3 A receiver without address space for a port is told so, and later messages are intact")
  func noAddressSpaceForAPort() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let link = try MessageChannel(options: ChannelOptions())
        try await agent.call(.keep, 0, transfer: [link.port2])
        // A channel whose memory is large from the start.
        let large = try MessageChannel(options: ChannelOptions(laneCapacityBytes: 1 << 30))
        try await agent.call(.keep, 1, transfer: [large.port2])
        try await agent.call(.pass, 1, 0, 7)
        try await agent.call(.post, 0, 8, 1)
        let events = Collected<String>()
        leaveAddresses(512 << 20)
        link.port1.onMessageError = { error in
          if case .badPort = error { events.append("bad port") } else { events.append("\(error)") }
        }
        link.port1.onMessage = { events.append("\((try? $0.load(as: UInt64.self)) ?? .max)") }
        #expect(try await events.wait(for: 2) == ["bad port", "8"])
        leaveAddresses(nil)
        try await onThread { try large.port1.expectEnd() }
      }
    }
  }

  @Test("9.3 Where files may not grow, a full lane is a typed error that changed nothing")
  func noFileSize() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let port = try await makeChannels(1, agent, firstKey: 5)[0]
        setLimit(RLIMIT_FSIZE, 1 << 20)
        var posted: UInt64 = 0
        var refusal: SystemError?
        while refusal == nil && posted < 10_000 {
          do {
            try port.postMessage(bitwise: posted)
            posted += 1
          } catch PortError.system(let error) {
            refusal = error
          }
        }
        #expect(refusal?.errno == EFBIG)
        #expect(portError { try port.postMessage(bytes: patternBytes(count: 1 << 20, seed: 1)) } == "system.\(EFBIG)")
        let channel = try MessageChannel()
        let refused = portError {
          try port.postMessage(bytes: patternBytes(count: 1 << 20, seed: 1), transfer: [channel.port2])
        }
        #expect(refused == "system.\(EFBIG)")
        try await expectUsable([channel])
        // What was accepted arrives, and then there is room again.
        try await agent.call(.expect, 5, 0, posted)
        try port.postMessage(bitwise: posted)
        setLimit(RLIMIT_FSIZE, nil)
        try port.postMessage(bytes: patternBytes(count: 1 << 20, seed: 1))
        try await agent.call(.expect, 5, posted, 1)
        try await agent.call(.expectBytes, 5, 1 << 20, 1)
      }
    }
  }

  @Test("6.2 More ports than the system carries are a typed error that changed nothing; once some were taken, more go")
  func tooManyInFlight() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let link = try MessageChannel()
        try await agent.call(.keep, 0, transfer: [link.port2])
        // The limit is one for those without privileges.
        if geteuid() == 0 { try #require(setuid(65534) == 0) }
        setLimit(RLIMIT_NOFILE, 256)
        var posted: UInt64 = 0
        var others: [MessagePort] = []
        while posted < 10_000 {
          let channel = try MessageChannel()
          try channel.port1.postMessage(bitwise: posted)
          do {
            try link.port1.postMessage(bitwise: posted, transfer: [channel.port2])
            posted += 1
            if others.count < 20 { others.append(channel.port1) }
          } catch PortError.transferQueueFull {
            try await onThread { [posted] in try channel.port2.expect(posted) }
            break
          }
        }
        #expect(posted > 20 && posted < 10_000)
        // Messages without ports are not affected.
        try link.port1.postMessage(bitwise: posted)
        for number in 0..<posted { try await agent.call(.take, 0, 1, number) }
        try await agent.call(.expect, 0, posted, 1)
        let channel = try MessageChannel()
        try link.port1.postMessage(bitwise: 0 as UInt64, transfer: [channel.port2])
        try channel.port1.postMessage(bitwise: 9 as UInt64)
        try await agent.call(.take, 0, 1, 0)
        try await agent.call(.expect, 1, 9, 1)
      }
    }
  }
}

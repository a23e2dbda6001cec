import MessagePorts
import TestSupport
import Testing

@Suite("Halves with a port at the other end", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct HalfAndPortTests {
  @Test("Large messages and ports from a port arrive at a reader in order", arguments: Place.allCases)
  func fromPorts(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let halves = try channel.port1.split()
    let extra = try (0..<4).map { _ in try MessageChannel() }
    let sizes = [0, 376, 100_000, 131_072, 131_073, 500_000, 3_000_000] as [UInt64]
    let sink = TestThread { () -> [MessagePort] in
      var reader = halves.takeReader()
      for (seed, size) in sizes.enumerated() {
        let bytes = try reader.readSoon { span in unsafe span.withUnsafeBytes { unsafe Array($0) } }
        if bytes != patternBytes(count: Int(size), seed: UInt64(seed)) {
          throw Agent.Failure(description: "\(bytes.count) bytes differ from \(size)")
        }
      }
      if !reader.takePorts().isEmpty { throw Agent.Failure(description: "ports from nowhere") }
      var ports: [MessagePort] = []
      for _ in 0..<2 {
        _ = try reader.readSoon { $0.byteCount }
        ports += reader.takePorts()
      }
      let none = reader.takePorts()
      if !none.isEmpty { throw Agent.Failure(description: "ports taken twice") }
      return ports
    }
    for (seed, size) in sizes.enumerated() { try await agent.call(.postBytes, 1, size, UInt64(seed)) }
    try await agent.call(.keep, 2, transfer: [extra[0].port2])
    try await agent.call(.pass, 2, 1, 7)
    // With a message in fragments as well, from here.
    let port = try #require(try await agent.call(.give, 1).ports.first)
    try port.postMessage(bytes: patternBytes(count: 300_000, seed: 1), transfer: [extra[1].port2, extra[2].port2])
    let ports = try sink.join()
    #expect(ports.count == 3)
    for (index, port) in ports.enumerated() {
      try extra[index].port1.postMessage(bitwise: index)
      #expect(try takeNumber(port) == index)
    }
    withExtendedLifetime(halves.takeWriter()) {}
  }

  @Test("Ports that nobody takes from a reader close with it")
  func untakenPorts() throws {
    let channel = try MessageChannel()
    let extra = try MessageChannel()
    do {
      let halves = try channel.port2.split()
      try channel.port1.postMessage(bytes: [1], transfer: [extra.port2])
      var reader = halves.takeReader()
      _ = try reader.readSoon { $0.byteCount }
      #expect(!extra.port1.isPeerClosed)
    }
    #expect { _ = try extra.port1.receiveSoon() } throws: {
      if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
    }
  }

  @Test("A reader that only looks, and never sleeps, makes room for a port with a limit")
  func limitedPoster() async throws {
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 64))
    let halves = try channel.port2.split()
    let port = channel.port1
    let isOver = Flag()
    let sink = TestThread { () -> Int in
      var reader = halves.takeReader()
      var count = 0
      while !isOver.isSet {
        if try reader.tryRead({ $0.byteCount }) != nil { count += 1 } else { usleepBriefly(100) }
      }
      return count
    }
    defer { isOver.set() }
    for number in 0..<200 {
      while true {
        do {
          try port.postMessage(bitwise: number)
          break
        } catch PortError.queueFull {
          try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await port.waitForSpace(byteCount: 8) }
            group.addTask {
              try await Task.sleep(for: .seconds(3))
              throw Agent.Failure(description: "no room after \(number) messages, though all were read")
            }
            try await group.next()
            group.cancelAll()
          }
        }
      }
    }
    usleepBriefly(20_000)
    isOver.set()
    #expect(try sink.join() == 200)
  }

  @Test("A reader that reads what a poster waited for wakes it, without looking again")
  func owedRing() async throws {
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 64))
    let halves = try channel.port2.split()
    let port = channel.port1
    var reader = halves.takeReader()
    for number in 0..<4 { try port.postMessage(bitwise: number) }
    #expect(portError { try port.postMessage(bitwise: 4) } == "queueFull")
    let room = Collected<Bool>()
    Task { room.append((try? await port.waitForSpace(byteCount: 8)) != nil) }
    try await Task.sleep(for: .milliseconds(50))
    let read = try reader.tryRead { $0.byteCount }
    #expect(read == 8)
    defer { port.close() }
    #expect(try await room.wait(for: 1) == [true])
  }

  @Test("A port in a conversation that never pauses does not keep the others of its loop waiting")
  func fastConversation() async throws {
    let loop = EventLoop(name: "conversation")
    defer { loop.stop() }
    let (fast, slow) = (try MessageChannel(), try MessageChannel())
    let fastHalves = try fast.port1.split()
    let slowHalves = try slow.port1.split()
    let heard = Collected<Int>()
    fast.port2.setEventLoop(loop)
    slow.port2.setEventLoop(loop)
    fast.port2.onMessage = { [weak port = fast.port2] event in try? port?.postMessage(bytes: event.bytes) }
    slow.port2.onMessage = { heard.append((try? $0.load(as: Int.self)) ?? -1) }
    let isOver = Flag()
    let talker = TestThread { () -> Int in
      var writer = fastHalves.takeWriter()
      var reader = fastHalves.takeReader()
      var rounds = 0
      while !isOver.isSet {
        // The answer to an answer comes before the loop would go to sleep.
        _ = try writer.tryWrite(bitwise: rounds)
        while try reader.tryRead({ $0.byteCount }) == nil, !isOver.isSet {}
        rounds += 1
      }
      return rounds
    }
    defer { isOver.set() }
    var writer = slowHalves.takeWriter()
    for number in 0..<10 {
      // Long enough for its doorbell to be armed.
      try await Task.sleep(for: .milliseconds(20))
      let wrote = try writer.tryWrite(bitwise: number)
      #expect(wrote)
      try await heard.wait(for: number + 1)
    }
    isOver.set()
    try talker.join()
  }
}

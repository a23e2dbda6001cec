import Glibc
import MessagePorts
import TestSupport
import Testing

/// What a lane took because its receiver did not keep up. Each test has a process of its own, and tries both drivers.
@Suite("Overflow", .serialized, .timeLimit(.minutes(5)))
struct OverflowTests {
  private static let drivers = EventLoop.Driver.allCases.map(\.rawValue)

  @Test("9.1 What a reader has read before it sleeps is given back, and its own mapping shrinks", arguments: drivers)
  func sleepingReader(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        let overflow = try await Overflow(driver)
        let halves = try overflow.near.split()
        let isOver = Flag()
        let reading = TestThread {
          var reader = halves.takeReader()
          for seed in 0..<count {
            let bytes = try reader.readSoon { span in unsafe span.withUnsafeBytes { unsafe Array($0) } }
            guard bytes == patternBytes(count: 1 << 20, seed: seed) else { throw Agent.Failure(description: "\(seed)") }
          }
          while !isOver.isSet { _ = try? reader.read(timeout: .milliseconds(500)) { _ in } }
        }
        defer { isOver.set() }
        try await overflow.expectGivenBack()
        try await overflow.expectUnmapped()
        isOver.set()
        try reading.join()
      }
    }
  }

  @Test("9.1 What a handler was given is given back, and the receiver's own mapping shrinks", arguments: drivers)
  func handler(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        let overflow = try await Overflow(driver)
        let sizes = Collected<Int>()
        overflow.near.onMessage = { sizes.append($0.byteCount) }
        try await sizes.wait(for: Int(count))
        try await overflow.expectGivenBack()
        try await overflow.expectUnmapped()
      }
    }
  }

  @Test("9.1 What a sequence has given is given back, and the receiver's own mapping shrinks", arguments: drivers)
  func sequence(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        let overflow = try await Overflow(driver)
        let sizes = Collected<Int>()
        let task = Task { for try await event in overflow.near.messages { sizes.append(event.byteCount) } }
        try await sizes.wait(for: Int(count))
        try await overflow.expectGivenBack()
        try await overflow.expectUnmapped()
        task.cancel()
      }
    }
  }

  @Test("9.1 What was posted on a port that travels right after is given back at its new owner", arguments: drivers)
  func posterTravels(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        unsafe setenv("MESSAGEPORTS_DRIVER", driver, 1)
        let (reader, heir) = (try await settledAgent(), try await settledAgent())
        let channel = try MessageChannel()
        let memory = try await copyOfMemory { try await reader.call(.keep, 0, transfer: [channel.port2]) }
        for seed in 0..<count { try channel.port1.postMessage(bytes: patternBytes(count: 1 << 20, seed: seed)) }
        try await heir.call(.keep, 0, transfer: [channel.port1])
        #expect(allocatedBytes(memory) >= Int(count) << 20)
        for seed in 0..<count { try await reader.call(.expectBytes, 0, 1 << 20, seed) }
        try await reader.call(.expectNothing, 0)
        try await expectGivenBack(memory)
        // The channel goes on, in both directions.
        try await heir.call(.post, 0, 5, 1)
        try await reader.call(.expect, 0, 5, 1)
      }
    }
  }

  @Test("9.1 What a message with a port has made a lane take is given back", arguments: drivers)
  func postedWithPort(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        unsafe setenv("MESSAGEPORTS_DRIVER", driver, 1)
        let reader = try await settledAgent()
        let channel = try MessageChannel(), other = try MessageChannel()
        let memory = try await copyOfMemory { try await reader.call(.keep, 0, transfer: [channel.port2]) }
        let byteCount = Int(count) << 20
        let bytes = patternBytes(count: byteCount, seed: UInt64(byteCount))
        try channel.port1.postMessage(bytes: bytes, transfer: [other.port2])
        #expect(allocatedBytes(memory) >= byteCount)
        try await reader.call(.takeBytes, 0, 1, UInt64(byteCount))
        try await reader.call(.expectNothing, 0)
        try await expectGivenBack(memory)
        withExtendedLifetime((channel, other)) {}
      }
    }
  }

  @Test("9.1 What was queued in a port of this process that leaves is given back once it was read", arguments: drivers)
  func queuedPortLeaves(_ driver: String) async throws {
    await #expect(processExitsWith: .success) { [driver] in
      await recordErrors {
        unsafe setenv("MESSAGEPORTS_DRIVER", driver, 1)
        let reader = try await settledAgent()
        let channel = try MessageChannel()
        for seed in 0..<count { try channel.port1.postMessage(bytes: patternBytes(count: 1 << 20, seed: seed)) }
        let memory = try await copyOfMemory { try await reader.call(.keep, 0, transfer: [channel.port2]) }
        #expect(allocatedBytes(memory) >= Int(count) << 20)
        for seed in 0..<count { try await reader.call(.expectBytes, 0, 1 << 20, seed) }
        try await reader.call(.expectNothing, 0)
        try await expectGivenBack(memory)
        withExtendedLifetime(channel) {}
      }
    }
  }
}

/// How many messages of 1 MiB.
private let count: UInt64 = 32

/// A port at which 32 MiB wait that another process has posted, and the memory of its channel.
private struct Overflow: Sendable {
  let near: MessagePort
  private let memory: CInt
  private let agent: Agent

  init(_ driver: String) async throws {
    unsafe setenv("MESSAGEPORTS_DRIVER", driver, 1)
    let agent = try await settledAgent()
    let channel = try MessageChannel()
    memory = try await copyOfMemory { try await agent.call(.keep, 0, transfer: [channel.port2]) }
    for seed in 0..<count { try await agent.call(.postBytes, 0, 1 << 20, seed) }
    near = channel.port1
    self.agent = agent
    #expect(allocatedBytes(memory) >= Int(count) << 20)
  }

  func expectGivenBack() async throws { try await MessagePortsTests.expectGivenBack(memory) }

  /// This process has no more of the memory mapped than a lane of the usual size takes.
  func expectUnmapped() async throws {
    var facts = stat()
    try #require(unsafe fstat(memory, &facts) == 0)
    try await eventually("the mapping to shrink") { mappedBytes(inode: UInt64(facts.st_ino)) <= 8 << 20 }
  }
}

private func expectGivenBack(_ memory: CInt) async throws {
  try await eventually("the memory to be given back, of which \(allocatedBytes(memory)) bytes are left") {
    allocatedBytes(memory) <= 4 << 20
  }
}

/// A descriptor of the memory that `body` shares, which outlives the channel.
private func copyOfMemory(sharedBy body: () async throws -> Void) async throws -> CInt {
  let copy = fcntl(try await memory(sharedBy: body), F_DUPFD_CLOEXEC, 0)
  try #require(copy >= 0)
  return copy
}

/// How much of a file this process has mapped.
private func mappedBytes(inode: UInt64) -> Int {
  lines(of: "/proc/self/maps").reduce(0) { sum, line in
    let words = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
    guard words.count > 4, UInt64(words[4]) == inode else { return sum }
    let ends = words[0].split(separator: "-").compactMap { Int($0, radix: 16) }
    return sum + ends[1] - ends[0]
  }
}

import Glibc
import MessagePorts
import TestSupport
import Testing

/// A worker that has no memory left, while others have. `RLIMIT_AS` limits it, which needs no privileges and no control
/// groups, and refuses memory to one process alone.
@Suite("Memory exhaustion", .serialized, .timeLimit(.minutes(3)))
struct MemoryExhaustionTests {
  @Test("9.3 A worker that posts more than it has memory for is told so; what was accepted arrives, and then more goes")
  func postingTooMuch() async throws {
    let agent = try await settledAgent()
    let ports = try await makeChannels(2, agent, firstKey: 0)
    let answer = try await agent.call(.postUntilRefused, 0, 48 << 20)
    #expect(answer.text == "\(ENOMEM)")
    #expect(answer.value > 0)
    try await expectEchoed(ports[1], agent, 1)
    try await onThread {
      for _ in 0..<answer.value { try ports[0].receiveSoon().checkBlocks(16) }
      guard case .empty = try ports[0].tryReceive() else { throw Agent.Failure(description: "more than was accepted") }
    }
    try await agent.call(.postBytes, 0, 64 << 20, 5)
    let bytes = try await onThread { try ports[0].receiveSoon().bytes }
    #expect(bytes == patternBytes(count: 64 << 20, seed: 5))
  }

  @Test("9.3 A worker that is sent more than it has memory for loses nothing: it has the rest once there is memory")
  func postedTooMuch() async throws {
    let agent = try await settledAgent()
    let ports = try await makeChannels(2, agent, firstKey: 0)
    try await agent.call(.limitAddresses, 48 << 20)
    // What waits for a receiver that does not read lies in a segment that is larger than that.
    for _ in 0..<100 { try ports[0].postMessage(bytes: blocks(16)) }
    try ports[0].postMessage(bitwise: 7 as UInt64)
    try await agent.call(.record, 0)
    try await Task.sleep(for: .milliseconds(200))
    let early = try await agent.call(.recorded).text
    #expect(!early.hasSuffix("7") && !early.contains("outOfMemory"), "\(early)")
    try await expectEchoed(ports[1], agent, 1)
    #expect(!ports[0].isPeerClosed)

    try await agent.call(.limitAddresses, 0)
    let everything = [String](repeating: "\(UInt64.max)", count: 100) + ["7"]
    let deadline = ContinuousClock.now + patience
    var found = early
    while !found.hasSuffix(", 7"), ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(10))
      found = try await agent.call(.recorded).text
    }
    #expect(found == everything.joined(separator: ", "))
  }

  @Test("4.8 A worker that dies of having no memory is closed, after all that it had posted; nobody else is harmed")
  func dyingOfIt() async throws {
    let (agent, bystander) = (try await settledAgent(), try await settledAgent())
    let ports = try await makeChannels(2, agent, firstKey: 0)
    let closes = Collected<CloseReason>()
    ports[1].onClose = { closes.append($0) }
    // A channel between two others, one of whose ends has come by way of the worker.
    let between = try MessageChannel()
    try await agent.call(.keep, 5, transfer: [between.port2])
    let passed = try #require(try await agent.call(.give, 5).ports.first)
    try await bystander.call(.keep, 0, transfer: [passed])
    // One that the worker never gets to see.
    let unread = try MessageChannel()
    try ports[1].postMessage(bitwise: 1 as UInt64, transfer: [unread.port2])
    try await agent.call(.post, 0, 0, 1000)

    try agent.begin(.exhaustMemory)
    let status = await agent.worker?.exitStatus
    guard case .signalled = status else {
      Issue.record("the worker did not die: \(String(describing: status))")
      return
    }
    try await onThread {
      for number in 0..<1000 as Range<UInt64> { try ports[0].expect(number) }
      try ports[0].expectEnd()
      try unread.port1.expectEnd()
    }
    #expect(try await closes.wait(for: 1) == [.peerExited(nil)])
    try await expectEchoed(between.port1, bystander, 0)
    let next = try await settledAgent()
    try await expectEchoed(makeChannels(1, next, firstKey: 0)[0], next, 0)
    #expect(closes.count == 1)
  }

  /// The agent, which has the port's peer under `key`, still receives and posts.
  private func expectEchoed(_ port: MessagePort, _ agent: Agent, _ key: UInt64) async throws {
    try port.postMessage(bitwise: 42 as UInt64)
    try await agent.call(.expect, key, 42, 1)
    try await agent.call(.post, key, 43, 1)
    try await onThread { try port.expect(43) }
  }
}

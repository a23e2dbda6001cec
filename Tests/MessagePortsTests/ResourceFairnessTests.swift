import MessagePorts
import TestSupport
import Testing

@Suite("Fairness with ports in shared memory", .serialized, .timeLimit(.minutes(5)))
struct ResourceFairnessTests {
  @Test("5.3 A port that never runs out of messages does not starve a port whose messages come from another process")
  func floodHereTrafficThere() async throws {
    let agent = try Agent(.anotherProcess)
    let (flood, quiet) = (try MessageChannel(), try MessageChannel())
    try await agent.call(.keep, 0, transfer: [quiet.port2])
    try await agent.call(.echo, 0)
    let answers = Collected<UInt64>()
    quiet.port1.onMessage = { answers.append((try? $0.load(as: UInt64.self)) ?? .max) }
    flood.port2.onMessage = { event in try? flood.port1.postMessage(bytes: event.bytes) }
    defer { flood.port2.close() }
    try flood.port1.postMessage(bytes: [])
    for number in 0..<20 as Range<UInt64> {
      try quiet.port1.postMessage(bitwise: number)
      try await answers.wait(for: Int(number) + 1)
    }
    #expect(answers.all == Array(0..<20))
  }
}

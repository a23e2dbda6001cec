import Glibc
@testable import MessagePorts
import TestSupport
import Testing

/// Many requests at once.
@Suite("Concurrent requests", .serialized, .timeLimit(.minutes(5)))
struct RequestConcurrencyTests {
  @Test("12.4 Handlers ask in both directions, to any depth", arguments: Place.allCases)
  func bothDirections(_ place: Place) async throws {
    let connection = try service(place)
    connection.onRequest("ask back", of: Int.self) { depth, context in
      depth == 0 ? 0 : try await context.connection.request("ask back", depth - 1, as: Int.self) + 1
    }
    let depths = try await withThrowingTaskGroup { group in
      for _ in 0..<50 { group.addTask { try await connection.request("ask back", 20, as: Int.self) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(depths == Array(repeating: 20, count: 50))
  }

  @Test(
    "12.4 Handlers ask in both directions, and a flood goes on, over lanes that are full", arguments: Place.allCases)
  func fullLanes(_ place: Place) async throws {
    let connection = try service(place, options: ChannelOptions(queueLimitBytes: 2048))
    connection.onRequest("ask back", of: Int.self) { depth, context in
      depth == 0 ? 0 : try await context.connection.request("ask back", depth - 1, as: Int.self) + 1
    }
    let bytes = [UInt8](repeating: 1, count: 600)
    let done = try await withThrowingTaskGroup { group in
      for _ in 0..<200 {
        group.addTask { try await connection.request("ask back", 6, as: Int.self) == 6 }
        group.addTask { try await connection.request("echo", bytes: bytes).bytes == bytes }
      }
      return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(done == 400)
  }

  @Test("12.4 With a limit, so many handlers run at once; the others wait, in order, and none is refused")
  func limit() async throws {
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    #expect(server.maximumConcurrentRequests == 4096)
    server.maximumConcurrentRequests = 0
    #expect(server.maximumConcurrentRequests == 1)
    server.maximumConcurrentRequests = 3
    let begun = Collected<Int>()
    let messages = Collected<Int>()
    let gate = Gate()
    server.on("message", of: Int.self) { number, _ in messages.append(number) }
    server.onRequest("a", of: Int.self) { number, _ in
      begun.append(number)
      await gate.pass()
      return number
    }
    try await withThrowingTaskGroup { group in
      for number in 0..<20 {
        group.addImmediateTask { () async throws -> Void in
          #expect(try await client.request("a", number, as: Int.self) == number)
        }
      }
      // What comes behind them does not wait.
      try client.postMessage("message", 1)
      try await messages.wait(for: 1)
      #expect(begun.all == [0, 1, 2])
      #expect(server.requests.state.withLock { $0.served.runningCount } == 3)
      gate.open(1)
      try await begun.wait(for: 4)
      server.maximumConcurrentRequests = 6
      try await begun.wait(for: 7)
      #expect(begun.all == Array(0..<7))
      gate.open(20)
      try await group.waitForAll()
    }
    #expect(begun.all.count == 20)
  }

  @Test("12.4 Beyond a window of unanswered requests, callers wait, in order, and can give up")
  func window() async throws {
    let channel = try MessageChannel()
    let client = Connection(over: channel.port1)
    let asked = Collected<NamedEnvelope>()
    channel.port2.onMessage = { asked.append(NamedEnvelope.open($0)!) }
    let count = RequestWindow.maximumCount
    let first = Task {
      await withTaskGroup(of: Void.self) { group in
        for _ in 0..<count { group.addTask { _ = try? await client.request("a", bytes: []) } }
      }
    }
    try await asked.wait(for: count)
    let later = (0..<3).map { number in
      Task.immediate { try await client.request("\(number)", bytes: []).bytes }
    }
    #expect(await outcome { try await client.request("b", bytes: [], timeout: .milliseconds(10)) } == .timedOut)
    later[1].cancel()
    #expect(await outcome { try await later[1].value } == .cancelled)
    #expect(client.requests.state.withLock { $0.asked.unansweredCount } == count && asked.count == count)
    // Each answer lets one go on.
    for (index, name) in ["0", "2"].enumerated() {
      let answer = NamedEnvelope.make(.reply, asked.all[index].number, RawSpan())!
      try channel.port2.postMessage(bytes: answer)
      #expect(try await asked.wait(for: count + index + 1).last?.name == name)
    }
    client.close()
    await first.value
    #expect(await outcome { try await later[0].value } == .closed)
    #expect(await outcome { try await later[2].value } == .closed)
  }

  @Test("12.1, 12.4 A request that waits for room is posted when there is some; meanwhile it can be given up")
  func waitingForRoom() async throws {
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 200))
    let client = Connection(over: channel.port1)
    try client.postMessage("fills", bytes: [UInt8](repeating: 0, count: 150))
    let bytes = [UInt8](repeating: 1, count: 100)
    #expect(await outcome { try await client.request("a", bytes: bytes, timeout: .milliseconds(10)) } == .timedOut)
    let cancelled = Task.immediate { try await client.request("a", bytes: bytes) }
    cancelled.cancel()
    #expect(await outcome { try await cancelled.value } == .cancelled)
    let never = [UInt8](repeating: 1, count: 300)
    #expect(await outcome { try await client.request("a", bytes: never) } == .messageTooLarge)
    let waiting = Task.immediate { try await client.request("a", bytes: bytes).bytes }
    #expect(client.requests.state.withLock { $0.asked.isEmpty })
    _ = try channel.port2.receive(timeout: patience)
    let event = try await onThread { try channel.port2.receive(timeout: patience) }
    let question = try #require(NamedEnvelope.open(event))
    #expect(question.kind == .request && question.body.bytes == bytes)
    try channel.port2.postMessage(bytes: NamedEnvelope.make(.reply, question.number, RawSpan())!)
    #expect(try await waiting.value == [])
    let ended = Task.immediate { try await client.request("a", bytes: bytes) }
    try client.postMessage("fills", bytes: [])
    client.close()
    #expect(await outcome { try await ended.value } == .closed)
  }

  @Test("12.3, 12.4 A request that is cancelled while it waits for others never begins")
  func cancelledInQueue() async throws {
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    server.maximumConcurrentRequests = 1
    let begun = Collected<Int>()
    let gate = Gate()
    server.onRequest("a", of: Int.self) { number, _ in
      begun.append(number)
      await gate.pass()
      return number
    }
    let first = Task { try await client.request("a", 0, as: Int.self) }
    try await begun.wait(for: 1)
    let second = Task { try await client.request("a", 1, as: Int.self) }
    try await eventually("the second") { server.requests.state.withLock { $0.served.count } == 2 }
    let third = Task { try await client.request("a", 2, as: Int.self) }
    try await eventually("the third") { server.requests.state.withLock { $0.served.count } == 3 }
    second.cancel()
    #expect(await outcome { try await second.value } == .cancelled)
    try await eventually("the answer to the second") {
      client.requests.state.withLock { $0.asked.unansweredCount } == 2
    }
    gate.open(2)
    #expect(try await first.value == 0)
    #expect(try await third.value == 2)
    #expect(begun.all == [0, 2])
  }
}

import Glibc
@testable import MessagePorts
import TestSupport
import Testing

/// Askers that do not wait any longer.
@Suite("Cancelled requests", .serialized, .timeLimit(.minutes(5)))
struct RequestCancellationTests {
  @Test("12.3 A cancelled caller hears at once, and the handler's task is cancelled", arguments: Place.allCases)
  func cancelled(_ place: Place) async throws {
    let connection = try service(place)
    let begun = Collected<Int>()
    let cancelled = Collected<Int>()
    connection.handle {
      $0.on("begun", of: Int.self) { number, _ in begun.append(number) }
      $0.on("cancelled", of: Int.self) { number, _ in cancelled.append(number) }
    }
    let task = Task { try await connection.request("hang", 3, as: Int.self) }
    try await begun.wait(for: 1)
    task.cancel()
    #expect(await outcome { try await task.value } == .cancelled)
    #expect(try await cancelled.wait(for: 1) == [3])
    // A task that was cancelled before asks nothing.
    let late = Task {
      unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
      return try await connection.request("hang", 4, as: Int.self)
    }
    #expect(await outcome { try await late.value } == .cancelled)
    try await eventually("the late answer") { connection.requests.state.withLock { $0.asked.isEmpty } }
    #expect(begun.all == [3])
  }

  @Test("12.3 A caller whose time is up hears so, and the handler's task is cancelled", arguments: Place.allCases)
  func timedOut(_ place: Place) async throws {
    let connection = try service(place)
    let cancelled = Collected<Int>()
    connection.on("cancelled", of: Int.self) { number, _ in cancelled.append(number) }
    #expect(
      await outcome { try await connection.request("hang", 3, as: Int.self, timeout: .milliseconds(20)) } == .timedOut)
    #expect(try await cancelled.wait(for: 1) == [3])
    #expect(await outcome { try await connection.request("hang", 3, as: Int.self, timeout: .zero) } == .timedOut)
    #expect(try await connection.request("double", 3, as: Int.self, timeout: patience) == 6)
    #expect(try await connection.request("double", 3, as: Int.self, timeout: .seconds(Int64.max)) == 6)
  }

  @Test("12.3 What a late reply carries closes")
  func lateReply() async throws {
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    let carried = try MessageChannel()
    let closes = Collected<CloseReason>()
    carried.port1.onClose = { closes.append($0) }
    let begun = Collected<Void>()
    server.onRequest("slow", of: Int.self) { _, context in
      begun.append(())
      await untilCancelled()
      context.transfer([carried.port2])
      return 0
    }
    let task = Task { try await client.request("slow", 0) }
    try await begun.wait(for: 1)
    task.cancel()
    #expect(await outcome { try await task.value } == .cancelled)
    try await closes.wait(for: 1)
    withExtendedLifetime(carried) {}
    #expect(client.requests.state.withLock { $0.asked.isEmpty })
  }

  @Test("12.3 The end of a connection cancels its handlers' tasks", arguments: [true, false])
  func endCancels(_ closesHere: Bool) async throws {
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    let events = Collected<String>()
    server.onRequest("slow", of: Int.self) { _, _ in
      events.append("begun")
      await untilCancelled()
      events.append("cancelled")
      return 0
    }
    let task = Task { try await client.request("slow", 0) }
    try await events.wait(for: 1)
    closesHere ? server.close() : client.close()
    #expect(try await events.wait(for: 2) == ["begun", "cancelled"])
    #expect(await outcome { try await task.value } == (closesHere ? .peerClosed : .closed))
  }
}

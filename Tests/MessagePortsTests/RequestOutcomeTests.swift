import Glibc
@testable import MessagePorts
import TestSupport
import Testing

/// How a request ends.
@Suite("Outcomes of requests", .serialized, .timeLimit(.minutes(5)))
struct RequestOutcomeTests {
  @Test("12.1 A request's outcome is the reply", arguments: Place.allCases)
  func reply(_ place: Place) async throws {
    let connection = try service(place)
    #expect(try await connection.request("double", 21, as: Int.self) == 42)
    #expect(try await connection.request("echo", bytes: [1, 2, 3]).bytes == [1, 2, 3])
    // Larger than a record, in both directions.
    let large = [UInt8](repeating: 9, count: 3 << 20)
    #expect(try await connection.request("echo", bytes: large).bytes == large)
  }

  @Test("12.1 A request's outcome is the reply, also over a connection to another process")
  func replyOfWorker() async throws {
    let worker = try PeerProcess.spawn("serve")
    #expect(try await worker.connection.request("double", 4, as: Int.self, timeout: patience) == 8)
    worker.connection.close()
  }

  @Test("12.1 A request's outcome is the handler's error: its description, or itself", arguments: Place.allCases)
  func handlersError(_ place: Place) async throws {
    RequestService.register()
    let connection = try service(place)
    let refused = await #expect(throws: RemoteError.self) {
      try await connection.request("refuse", "not today", as: Int.self)
    }
    #expect(refused?.description == "not today" && refused?.typeName == "TestSupport.RequestService.Refused")
    await #expect(throws: RequestService.Typed.code(7)) {
      try await connection.request("refuse typed", 7, as: Int.self)
    }
    // Registered, and yet not to be encoded.
    let unspeakable = await #expect(throws: RemoteError.self) {
      try await connection.request("refuse unspeakably", 0, as: Int.self)
    }
    #expect(unspeakable?.description == "unspeakable")
    let long = await #expect(throws: RemoteError.self) {
      try await connection.request("refuse", String(repeating: "ü", count: 1 << 16), as: Int.self)
    }
    #expect(long?.description == String(repeating: "ü", count: 1024))
  }

  @Test("12.1 A question or an answer of another type is told to the asker", arguments: Place.allCases)
  func otherTypes(_ place: Place) async throws {
    let connection = try service(place)
    let question = await #expect(throws: RemoteError.self) {
      try await connection.request("double", "two", as: Int.self)
    }
    #expect(question?.typeName == "MessagePorts.PortError")
    let answer = await #expect(throws: PortError.self) { try await connection.request("double", 2, as: String.self) }
    #expect(answer?.code == .decodingFailed)
    #expect(try await connection.request("double", 2, as: Int.self) == 4)
  }

  @Test("12.1 A request's outcome is that nobody handles it", arguments: Place.allCases)
  func noHandler(_ place: Place) async throws {
    let connection = try service(place)
    await #expect(throws: RequestError.noHandler(name: "triple")) {
      try await connection.request("triple", 1, as: Int.self)
    }
    // A name of a message's is not one of a request's.
    await #expect(throws: RequestError.noHandler(name: "fall")) { try await connection.request("fall", bytes: []) }
  }

  @Test("12.1 A handler that was removed handles nothing, and one that replaces another handles what comes then")
  func replacedHandler() async throws {
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    server.onRequest("a", of: Int.self) { _, _ in 1 }
    #expect(try await client.request("a", 0, as: Int.self) == 1)
    server.onRequest("a", of: Int.self) { _, _ in 2 }
    #expect(try await client.request("a", 0, as: Int.self) == 2)
    server.onRequest("b") { context in context.name }
    #expect(try await client.request("b", as: String.self) == "b")
    server.removeRequestHandler("a")
    await #expect(throws: RequestError.noHandler(name: "a")) { try await client.request("a", 0, as: Int.self) }
  }

  @Test("12.1 A request that cannot be posted throws, and its ports stay", arguments: Place.allCases)
  func refusedPost(_ place: Place) async throws {
    let connection = try service(place, options: ChannelOptions(messageLimitBytes: 1000))
    let channel = try MessageChannel()
    let tooLarge = await #expect(throws: PortError.self) {
      try await connection.request("echo", bytes: [UInt8](repeating: 0, count: 1000), transfer: [channel.port1])
    }
    #expect(tooLarge?.code == .messageTooLarge && !channel.port1.isDetached)
    let badName = await #expect(throws: PortError.self) {
      try await connection.request(String(repeating: "n", count: 1025), bytes: [], transfer: [channel.port1])
    }
    #expect(badName?.code == .invalidOption && !channel.port1.isDetached)
    let badList = await #expect(throws: PortError.self) {
      try await connection.request("echo", bytes: [], transfer: [channel.port1, channel.port1])
    }
    #expect(badList?.code == .invalidTransfer && !channel.port1.isDetached)
    #expect(try await connection.request("echo", bytes: [1]).bytes == [1])
    #expect(connection.requests.state.withLock { $0.asked.isEmpty })
  }

  @Test("12.1 A reply that cannot be sent is an error for the asker", arguments: Place.allCases)
  func refusedReply(_ place: Place) async throws {
    let connection = try service(place, options: ChannelOptions(messageLimitBytes: 1000))
    let tooLarge = await #expect(throws: RemoteError.self) {
      try await connection.request("large", 1000, as: [UInt8].self)
    }
    #expect(tooLarge?.description.contains("messageTooLarge") == true)
    let bad = await #expect(throws: RemoteError.self) { try await connection.request("bad ports", 0, as: Int.self) }
    #expect(bad?.description.contains("isListedTwice") == true)
    // So much that not even the reason fits.
    let small = try service(place, options: ChannelOptions(messageLimitBytes: 40))
    let nothing = await #expect(throws: RemoteError.self) { try await small.request("large", 100, as: [UInt8].self) }
    #expect(nothing?.description == "")
  }

  @Test("12.1 Each request that waits is told the reason when the connection ends, and so are later ones")
  func closedReasons() async throws {
    let worker = try PeerProcess.spawn("serve")
    let connection = worker.connection
    let begun = Collected<Int>()
    connection.on("begun", of: Int.self) { number, _ in begun.append(number) }
    let outcomes = await withTaskGroup(of: PortError.Code?.self) { group in
      for number in 0..<100 {
        group.addTask {
          do { _ = try await connection.request("hang", number, as: Int.self) } catch {
            guard case .peerClosed(.peerExited(.signalled(SIGKILL))) = error as? PortError else { return nil }
            return .peerClosed
          }
          return nil
        }
      }
      _ = try? await begun.wait(for: 100)
      worker.kill()
      return await group.reduce(into: []) { $0.append($1) }
    }
    #expect(outcomes == Array(repeating: .peerClosed, count: 100))
    let later = await #expect(throws: PortError.self) { try await connection.request("double", 1, as: Int.self) }
    #expect(later?.code == .peerClosed)
  }

  @Test("12.1 A request of one who closes, or whose peer does, ends at once", arguments: Place.allCases)
  func closed(_ place: Place) async throws {
    let connection = try service(place)
    let begun = Collected<Int>()
    connection.on("begun", of: Int.self) { number, _ in begun.append(number) }
    async let hanging = outcome { try await connection.request("hang", 1, as: Int.self) }
    try await begun.wait(for: 1)
    connection.close()
    #expect(await hanging == .closed)
    #expect(await outcome { try await connection.request("double", 1, as: Int.self) } == .closed)

    let other = try service(place)
    async let waiting = outcome { try await other.request("hang quietly", 1, as: Int.self) }
    try other.postMessage("close")
    #expect(await waiting == .peerClosed)
    #expect(await outcome { try await other.request("double", 1, as: Int.self) } == .peerClosed)
  }

  @Test("12.1 Replies that were posted before a death are outcomes", arguments: [1, 50])
  func repliesBeforeDeath(_ count: Int) async throws {
    let worker = try PeerProcess.spawn("serve")
    let connection = worker.connection
    let replies = await withTaskGroup(of: Bool.self) { group in
      for number in 0..<count {
        group.addTask { (try? await connection.request("double", number, as: Int.self)) == number * 2 }
      }
      // Behind the requests, on the same lane.
      try? await eventually("requests") { connection.requests.state.withLock { $0.asked.unansweredCount } <= count }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(replies == count)
    try connection.postMessage("fall")
    #expect(await outcome { try await connection.request("double", 1, as: Int.self) } == .peerClosed)
  }

  @Test(
    "12.1 When reply, cancellation, time-out and close race, each request has one outcome", arguments: Place.allCases)
  func races(_ place: Place) async throws {
    for round in 0..<60 {
      let connection = try service(place)
      let kinds = try await withThrowingTaskGroup(of: String.self) { group in
        for number in 0..<20 {
          group.addTask {
            let task = Task {
              try await connection.request(
                number % 3 == 0 ? "sleep" : "double", number % 2, as: Int.self,
                timeout: number % 4 == 0 ? .microseconds(number * 50) : nil)
            }
            if number % 5 == 0 { task.cancel() }
            switch await task.result {
            case .success: return "reply"
            case .failure(let error as PortError): return "\(error.code)"
            case .failure(let error): return "\(error)"
            }
          }
        }
        if round % 2 == 0 {
          group.addTask {
            connection.close()
            return "closed"
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(Set(kinds).isSubset(of: ["reply", "cancelled", "timedOut", "closed"]), "\(kinds)")
      guard round % 2 == 1 else { continue }
      // The answers to what was given up come as well, and then nothing is left.
      try await eventually("all answers") { connection.requests.state.withLock { $0.asked.isEmpty } }
      connection.close()
    }
  }
}

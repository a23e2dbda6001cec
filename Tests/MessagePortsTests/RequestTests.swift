import Glibc
@testable import MessagePorts
import TestSupport
import Testing

/// Questions with one answer each.
@Suite("Requests", .serialized, .timeLimit(.minutes(5)))
struct RequestTests {
  /// A connection whose other end answers as a ``RequestService`` does.
  private func service(_ place: Place, options: ChannelOptions = ChannelOptions()) throws -> Connection {
    Connection(over: try place.open(.serve, options: options))
  }

  // MARK: 12.1

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

  // MARK: 12.2

  @Test("12.2 Requests and messages begin in the order of sending", arguments: Place.allCases)
  func order(_ place: Place) async throws {
    let connection = try service(place)
    try await withThrowingTaskGroup { group in
      for number in 0..<300 {
        if number % 3 == 0 {
          try connection.postMessage("note", number)
        } else {
          // Posted before this returns.
          group.addImmediateTask { _ = try await connection.request("note", number, as: Int.self) }
        }
      }
      try await group.waitForAll()
    }
    #expect(try await connection.request("notes", 0, as: [Int].self) == Array(0..<300))
  }

  @Test("12.2, 12.4 Replies come in any order: none of many requests waits for another", arguments: Place.allCases)
  func anyOrder(_ place: Place) async throws {
    let connection = try service(place)
    let count = 2000
    let answers = try await withThrowingTaskGroup { group in
      for _ in 0..<count { group.addTask { try await connection.request("meet", count, as: Int.self) } }
      return try await group.reduce(0) { $0 + $1 / count }
    }
    #expect(answers == count)
  }

  // MARK: 12.3

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

  // MARK: 12.4

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

  // MARK: Where handlers run

  actor Till {
    private var total = 0
    func add(_ amount: Int) -> Int {
      preconditionIsolated()
      total += amount
      return total
    }
    func serve(_ connection: Connection) {
      connection.onRequest("add", of: Int.self) { [self] amount, _ in await add(amount) }
    }
  }

  @Test("12.2 A handler that is an actor's method runs on the actor, in order", arguments: Place.allCases)
  func actors(_ place: Place) async throws {
    let till = Till()
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    await till.serve(server)
    #expect(try await client.request("add", 2, as: Int.self) == 2)
    #expect(try await client.request("add", 3, as: Int.self) == 5)
    server.onRequest("main", of: Int.self) { @MainActor number, _ in
      MainActor.preconditionIsolated()
      return number
    }
    #expect(try await client.request("main", 3, as: Int.self) == 3)
    let connection = try service(place)
    #expect(try await connection.request("add", 3, as: Int.self) == 3)
    // Asked from an actor, whose executor is left for as long as it takes.
    #expect(try await Asker().ask(connection) == 10)
  }

  actor Asker {
    func ask(_ connection: Connection) async throws -> Int {
      let answer = try await connection.request("double", 5, as: Int.self)
      preconditionIsolated()
      return answer
    }
  }

  @Test("12.2 A handler that does not suspend is answered on the loop, before it does anything else")
  func immediate() async throws {
    let loop = EventLoop(name: "requests")
    defer { loop.stop() }
    let channel = try MessageChannel(loop: loop)
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    server.onRequest("where", of: Int.self) { _, _ in loop.isCurrent }
    #expect(try await client.request("where", 0, as: Bool.self))
  }

  // MARK: Ports, receiving by hand, lifetime

  @Test("6.1, 12.1 Ports travel with questions and replies", arguments: Place.allCases)
  func ports(_ place: Place) async throws {
    let connection = try service(place)
    let channel = try MessageChannel()
    let echo = try await connection.request("echo", bytes: [1], transfer: [channel.port2])
    #expect(channel.port2.isDetached && echo.ports.count == 1)
    try #require(echo.ports.first).postMessage(bitwise: 3 as UInt64)
    try await onThread { try channel.port1.expect(3) }
    let event = try await connection.request("ports", 3)
    #expect(try event.decode(Int.self) == 3)
    for port in event.ports { try await onThread { try port.expect(5) } }
    #expect(event.ports.count == 3)
  }

  @Test(
    "11.1, 12.1 Descriptors travel with questions and replies, or stay with who was refused", arguments: Place.allCases)
  func descriptors(_ place: Place) async throws {
    let connection = try service(place)
    let pipe = try TestPipe()
    let echo = try await connection.request("echo", bytes: [1], descriptors: [pipe.reader, pipe.writer])
    #expect(throws: DescriptorError.self) { try pipe.reader.target() }
    #expect(try echo.descriptors.map { try $0.target() } == [pipe.name, pipe.name])
    try echo.descriptors[1].write(17)
    #expect(try echo.descriptors[0].readNumber() == 17)

    let other = try TestPipe()
    let refused = await #expect(throws: PortError.self) {
      try await connection.request(String(repeating: "n", count: 1025), bytes: [], descriptors: [other.writer])
    }
    #expect(refused?.code == .invalidOption)
    #expect(try other.writer.target() == other.name)
    // A handler that takes none, or is not there, has them closed.
    await #expect(throws: RequestError.noHandler(name: "nobody")) {
      try await connection.request("nobody", bytes: [], descriptors: [other.writer])
    }
    try await other.expectWritersClosed()
  }

  @Test("8.2 Whoever receives by hand serves and hears requests as well")
  func byHand() async throws {
    let channel = try MessageChannel()
    let (client, server) = (Connection(over: channel.port1), Connection(over: channel.port2))
    let reply = Task { try await client.request("nothing", bytes: []) }
    try client.postMessage("message")
    let event = try await onThread { try server.receive(timeout: patience) }
    #expect(event.name == "message")
    let reading = Task { for try await _ in server.messages {} }
    await #expect(throws: RequestError.noHandler(name: "nothing")) { try await reply.value }
    server.onRequest("double", of: Int.self) { number, _ in number * 2 }
    #expect(try await client.request("double", 1, as: Int.self) == 2)
    client.close()
    try await reading.value
  }

  @Test("7.2 A connection that only asks closes with its last reference, and lives while a request waits")
  func lifetime() async throws {
    let channel = try MessageChannel()
    let server = Connection(over: channel.port2)
    let closes = Collected<CloseReason>()
    let begun = Collected<Void>()
    let gate = Gate()
    server.onClose = { closes.append($0) }
    server.onRequest("a", of: Int.self) { number, _ in
      begun.append(())
      await gate.pass()
      return number
    }
    let task: Task<Int, any Error>
    do {
      let client = Connection(over: channel.port1)
      task = Task { [client] in try await client.request("a", 1, as: Int.self) }
    }
    try await begun.wait(for: 1)
    #expect(closes.all.isEmpty)
    gate.open(1)
    #expect(try await task.value == 1)
    // The channel holds the port that the connection was made of.
    channel.port1.close()
    try await closes.wait(for: 1)
  }

  @Test("7.2, 9.1 A connection to another process that only asks is gone with its last reference")
  func lifetimeAcross() async throws {
    let listener = try Listener(path: freshPath())
    weak var weakClient: Connection?
    let server: Connection
    let closes = Collected<CloseReason>()
    do {
      let client = try await Connection.connect(path: listener.path, timeout: patience)
      weakClient = client
      server = try await listener.next()
      server.onClose = { closes.append($0) }
      RequestService.serve(server)
      #expect(try await client.request("double", 1, as: Int.self) == 2)
    }
    try await closes.wait(for: 1)
    #expect(weakClient == nil)
  }
}

/// How a request has ended, if with an error of a port's.
func outcome<Result>(_ body: () async throws -> Result) async -> PortError.Code? {
  do {
    _ = try await body()
    return nil
  } catch { return (error as? PortError)?.code }
}

/// Lets so many pass.
final class Gate: Sendable {
  private let state = Lock<(free: Int, waiters: [CheckedContinuation<Void, Never>])>((0, []))

  func pass() async {
    await withCheckedContinuation { continuation in
      let passes = state.withLock { state in
        if state.free > 0 {
          state.free -= 1
          return true
        }
        state.waiters.append(continuation)
        return false
      }
      if passes { continuation.resume() }
    }
  }

  func open(_ count: Int) {
    let passing = state.withLock { state in
      let passing = state.waiters.prefix(count)
      state.waiters.removeFirst(passing.count)
      state.free += count - passing.count
      return Array(passing)
    }
    for continuation in passing { continuation.resume() }
  }
}

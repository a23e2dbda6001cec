@testable import MessagePorts
import TestSupport
import Testing

/// Peers that ask and answer as no correct peer does. They post at a bare port what a connection would.
@Suite("Hostile requests", .serialized, .timeLimit(.minutes(5)))
struct HostileRequestTests {
  /// A victim, and the port at which its peer writes envelopes by hand.
  private struct Pair {
    let victim: Connection
    let peer: MessagePort
    let errors = Collected<String>()
    let events = Collected<NamedEnvelope>()

    init(options: ChannelOptions = ChannelOptions()) throws {
      let channel = try MessageChannel(options: options)
      (victim, peer) = (Connection(over: channel.port2), channel.port1)
      victim.onMessageError = { [errors] in errors.append("\($0)") }
    }

    func say(
      _ kind: NamedEnvelope.Kind, _ number: UInt64, name: String = "", _ bytes: [UInt8] = [],
      _ ports: [MessagePort] = []
    ) throws {
      let envelope = unsafe NamedEnvelope.make(kind, number, name: name, bytes.span.bytes)!
      try peer.postMessage(bytes: envelope, transfer: ports)
    }

    /// Takes what the victim says.
    func listen() { peer.onMessage = { [events] in events.append(NamedEnvelope.open($0)!) } }

    /// The victim still answers, and asks.
    func check() async throws {
      victim.onRequest("check", of: Int.self) { number, _ in number + 1 }
      listen()
      let before = events.count
      let question = try MessageCoders.current.encode(4)
      try say(.request, .max, name: "check", question)
      let answers = try await events.wait(for: before + 1)
      #expect(answers.contains { $0.kind == .reply && $0.number == .max && (try? $0.body.decode(Int.self)) == 5 })
    }
  }

  @Test(
    "9.5 An envelope of no kind, or with parts that its kind does not have, is an error, and the connection goes on",
    arguments: [
      [0, 0x50], [0, 0x50, 1, 0, 0, 0, 0, 0, 0, 0], [0, 0xf0, 1, 0, 0, 0, 0, 0, 0, 0],
      [0, 0x10], [0, 0x10, 1, 0, 0, 0, 0, 0, 0], [1, 0x10, 1, 0, 0, 0, 0, 0, 0, 0],
      [1, 0x20, 1, 0, 0, 0, 0, 0, 0, 0, 65], [1, 0x30, 1, 0, 0, 0, 0, 0, 0, 0, 65],
      [0, 0x40, 1, 0, 0, 0, 0, 0, 0, 0, 1], [2, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0xc3, 0x28],
      [1, 0x14, 1, 0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 65, count: 1025),
    ] as [[UInt8]])
  func malformed(_ bytes: [UInt8]) async throws {
    let pair = try Pair()
    try pair.peer.postMessage(bytes: bytes)
    pair.victim.start()
    try await pair.errors.wait(for: 1)
    try await pair.check()
    #expect(pair.errors.count == 1 && !pair.victim.isPeerClosed)
  }

  @Test("9.5, 12.1 Answers to what was not asked, or was answered, change no outcome")
  func strayAnswers() async throws {
    let pair = try Pair()
    pair.victim.start()
    // Guessed: the numbers that will be used next.
    for number in 0..<5 as Range<UInt64> { try pair.say(.reply, number, [1]) }
    try await pair.errors.wait(for: 5)
    pair.listen()
    let outcome = Task { try await pair.victim.request("a", bytes: []).bytes }
    let number = try await pair.events.wait(for: 1)[0].number
    try pair.say(.reply, number &+ 1, [7])
    try pair.say(.failure, number &- 1, [7])
    try pair.say(.reply, number, [2])
    try pair.say(.reply, number, [3])
    try pair.say(.failure, number)
    try pair.say(.cancel, number)
    #expect(try await outcome.value == [2])
    try await pair.errors.wait(for: 9)
    #expect(pair.victim.requests.state.withLock { $0.asked.isEmpty })
    try await pair.check()
  }

  @Test(
    "9.5, 12.1 A failure that says nothing, or nonsense, is one of which nothing is known",
    arguments: [[], [1, 2], [0xff]] as [[UInt8]])
  func nonsenseFailure(_ bytes: [UInt8]) async throws {
    let pair = try Pair()
    pair.listen()
    let outcome = Task { try await pair.victim.request("a", bytes: []) }
    try pair.say(.failure, try await pair.events.wait(for: 1)[0].number, bytes)
    await #expect(throws: RemoteError(typeName: "", description: "")) { try await outcome.value }
  }

  @Test("9.5, 12.1 What a peer says of an error is cut")
  func endlessDescription() async throws {
    let pair = try Pair()
    pair.listen()
    let outcome = Task { try await pair.victim.request("a", bytes: []) }
    var failure = RequestFailure(thrown: PortError.closed)
    failure.name = String(repeating: "n", count: 1 << 20)
    failure.description = String(repeating: "d", count: 1 << 20)
    try pair.peer.postMessage(bytes: failure.envelope(try await pair.events.wait(for: 1)[0].number))
    let error = await #expect(throws: RemoteError.self) { try await outcome.value }
    #expect(error?.description.utf8.count == 1024 && error?.typeName.utf8.count == 1024)
  }

  @Test("9.5, 12.1 A failure cannot make an error of a type that is not registered, or is another")
  func forgedFailure() async throws {
    RequestService.register()
    let pair = try Pair()
    pair.listen()
    for (index, name) in ["MessagePorts.PortError", "Swift.String", "typed"].enumerated() {
      var failure = RequestFailure(thrown: PortError.closed)
      failure.name = name
      failure.encoded = [0xff, 1, 2]
      let outcome = Task { try await pair.victim.request("a", bytes: []) }
      let envelope = failure.envelope(try await pair.events.wait(for: index + 1)[index].number)
      try pair.peer.postMessage(bytes: envelope)
      await #expect(throws: RemoteError.self) { try await outcome.value }
    }
  }

  @Test("9.5, 12.1 A number that is in use is no request's; a cancellation of nothing is nothing")
  func reusedNumbers() async throws {
    let pair = try Pair()
    let begun = Collected<Void>()
    pair.victim.onRequest("hang") { _ in
      begun.append(())
      await untilCancelled()
      return 1
    }
    pair.listen()
    for number in [7, 7, 7] as [UInt64] { try pair.say(.request, number, name: "hang") }
    try pair.say(.request, 7, name: "nobody")
    for number in [0, 8, .max] as [UInt64] { try pair.say(.cancel, number) }
    try await pair.errors.wait(for: 3)
    #expect(begun.count == 1 && pair.events.all.isEmpty)
    try pair.say(.cancel, 7)
    try pair.say(.cancel, 7)
    #expect(try await pair.events.wait(for: 1).map(\.number) == [7])
    // It is free again.
    try pair.say(.request, 7, name: "hang")
    try await begun.wait(for: 2)
    try pair.say(.cancel, 7)
    try await pair.events.wait(for: 2)
    try await pair.check()
    #expect(pair.errors.count == 3)
  }

  @Test("9.5, 12.4 A flood of requests takes no more than a window of them, and holds up nothing else")
  func flood() async throws {
    let pair = try Pair()
    pair.victim.maximumConcurrentRequests = 4
    let messages = Collected<Void>()
    pair.victim.handle {
      $0.on("message") { _ in messages.append(()) }
      $0.onRequest("hang") { _ in
        await untilCancelled()
        return 1
      }
    }
    let extra = 1000
    for number in 0..<UInt64(RequestWindow.maximumCount + extra) { try pair.say(.request, number, name: "hang") }
    try pair.peer.postMessage(bytes: [7, 0] + Array("message".utf8))
    try await messages.wait(for: 1)
    #expect(pair.errors.count == extra)
    let (count, running) = pair.victim.requests.state.withLock { ($0.served.count, $0.served.runningCount) }
    #expect(count == RequestWindow.maximumCount && running == 4)
    // Its own question goes there and back all the same.
    pair.listen()
    let outcome = Task { try await pair.victim.request("a", bytes: []).bytes }
    try pair.say(.reply, try await pair.events.wait(for: 1)[0].number, [2])
    #expect(try await outcome.value == [2])
    pair.victim.close()
    #expect(pair.victim.requests.state.withLock { $0.served.count } == 0)
  }

  @Test("9.5, 12.4 Questions of more bytes than a window has are not kept")
  func byteFlood() throws {
    var table = ServingTable()
    table.limit = 1
    let connection = Connection(over: try MessageChannel().port1)
    let zeros = [UInt8](repeating: 1, count: 64 << 20)
    let bytes = unsafe MessagePayload(copying: zeros.span.bytes)!
    var arrivals: [Bool] = []
    for number in 0..<6 as Range<UInt64> {
      let envelope = NamedEnvelope(
        kind: .request, number: number, name: "a", body: MessageEvent(payload: bytes, cargo: nil))
      let arrival = table.arrive(RequestContext(envelope, over: connection)) { _ in [] }
      if case .violation = arrival { arrivals.append(false) } else { arrivals.append(true) }
    }
    #expect(arrivals == [true, true, true, true, false, false])
  }

  @Test("9.5, 12.1 Replies for which a peer leaves no room wait, and none is lost")
  func noRoomForReplies() async throws {
    let pair = try Pair(options: ChannelOptions(queueLimitBytes: 1024))
    pair.victim.onRequest("double", of: Int.self) { number, _ in number * 2 }
    let count = 300
    for number in 0..<count {
      let question = try MessageCoders.current.encode(number)
      // Whoever asks waits for room; nobody reads the answers meanwhile.
      let envelope = unsafe NamedEnvelope.make(.request, UInt64(number), name: "double", question.span.bytes)!
      try await pair.peer.postPatiently(envelope)
    }
    for number in count..<count + 50 {
      let envelope = NamedEnvelope.make(.request, UInt64(number), name: "nobody", RawSpan())!
      try await pair.peer.postPatiently(envelope)
    }
    try await eventually("requests") { pair.victim.requests.state.withLock { $0.served.count } > count }
    pair.listen()
    let answers = try await pair.events.wait(for: count + 50)
    #expect(Set(answers.map(\.number)).count == count + 50)
    for answer in answers where answer.number < count {
      #expect(try answer.body.decode(Int.self) == 2 * Int(answer.number))
    }
    try await eventually("the end") { pair.victim.requests.state.withLock { $0.served.count } == 0 }
  }

  @Test("9.5, 12.6 A stream is written only to a port with the limit of a stream's")
  func streamPorts() async throws {
    let pair = try Pair()
    let begun = Collected<Void>()
    pair.victim.onStream("pour", of: Int.self) { _, writer in
      begun.append(())
      while true { try await writer.send([UInt8](repeating: 0, count: 1000)) }
    }
    pair.listen()
    let question = try MessageCoders.current.encode(0)
    try pair.say(.request, 1, name: "pour", question)
    var kept: [MessagePort] = []
    for (number, limit) in [(2, nil), (3, StreamRecord.windowBytes + 1), (4, 0)] as [(UInt64, Int?)] {
      let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: limit))
      kept.append(channel.port1)
      try pair.say(.request, number, name: "pour", question, [channel.port2])
    }
    let answers = try await pair.events.wait(for: 4)
    #expect(answers.allSatisfy { $0.kind == .failure })
    // The last one's limit is none too large, and nothing can be written to it.
    #expect(begun.count == 1)
    try await pair.check()
  }

  @Test(
    "9.5, 12.5 A stream with a record that no writer sends fails",
    arguments: [
      [], [5], [255], [3, 0], [1], [1, 0, 0, 0], [2, 0, 0], [4], [4, 1, 2], [0], [0, 0xff],
    ] as [[UInt8]])
  func badRecords(_ record: [UInt8]) async throws {
    let pair = try Pair()
    pair.listen()
    let outcome = Task { () -> Int in
      var count = 0
      for try await _ in pair.victim.stream("numbers", of: Int.self) { count += 1 }
      return count
    }
    let port = try #require(try await pair.events.wait(for: 1)[0].body.ports.first)
    let element = try MessageCoders.current.encode(7)
    try port.postMessage(bytes: [0] + element)
    try port.postMessage(bytes: record)
    await #expect(throws: (any Error).self) { try await outcome.value }
    // The request is cancelled.
    let last = try await pair.events.wait(for: 2)[1]
    #expect(last.kind == .cancel)
  }

  @Test("9.5, 12.5 Parts of elements that never come to an end are kept up to a limit")
  func endlessParts() {
    var parts = StreamParts(limitBytes: 1000)
    func add(_ element: UInt32, _ count: Int) -> Bool {
      let zeros = [UInt8](repeating: 1, count: count)
      let record = unsafe StreamRecord.make(.part, element: element, zeros.span.bytes)
      guard let payload = unsafe MessagePayload(copying: record.span.bytes),
        let opened = StreamRecord.open(MessageEvent(payload: payload, cargo: nil))
      else { return false }
      return parts.add(opened)
    }
    #expect(add(1, 600) && add(2, 400) && !add(2, 1))
    #expect(parts.take(1).count == 600)
    #expect(add(1, 600))
    // Elements without bytes count as well.
    for element in 10..<72 as Range<UInt32> { #expect(add(element, 0)) }
    #expect(!add(1000, 0))
  }
}

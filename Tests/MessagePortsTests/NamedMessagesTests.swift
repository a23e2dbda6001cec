import TestSupport
import Testing

@testable import MessagePorts

/// Asking for a connection's messages by name.
@Suite("Messages by name", .serialized, .timeLimit(.minutes(3)))
struct NamedMessagesTests {
  private func code(_ body: () throws -> Void) -> PortError.Code? {
    do {
      try body()
      return nil
    } catch { return (error as? PortError)?.code }
  }

  private func numbers(_ messages: NamedMessages) async throws -> [Int] {
    var numbers: [Int] = []
    for try await event in messages { numbers.append(try event.decode(Int.self)) }
    return numbers
  }

  @Test("8.3, 8.6 Messages wait under their names, in order, whenever somebody asks, and then the sequence ends")
  func sequences() async throws {
    let (client, server) = try await connectHere()
    let (even, odd) = server.handle { ($0.messages(named: "even"), $0.messages(named: "odd")) }
    for number in 0..<200 { try client.postMessage(number % 2 == 0 ? "even" : "odd", number) }
    client.close()
    #expect(try await numbers(odd) == Array(stride(from: 1, to: 200, by: 2)))
    #expect(try await numbers(even) == Array(stride(from: 0, to: 200, by: 2)))
    #expect(try await numbers(even) == [])
    #expect(code { _ = try odd.tryReceive() } == .peerClosed)
    #expect(code { _ = try odd.receive(timeout: patience) } == .peerClosed)
    // Asked for afterwards.
    #expect(try await numbers(server.messages(named: "even")) == [])
  }

  @Test("8.6 What comes between setting up and asking is kept; other names are unhandled, as with any handler")
  func setUpFirst() async throws {
    let (client, server) = try await connectHere()
    for number in 0..<3 { try client.postMessage("number", number) }
    let messages = server.messages(named: "number")
    let unhandled = Collected<String>()
    server.onUnhandled = { unhandled.append($0.name) }
    for number in 3..<6 { try client.postMessage("number", number) }
    try client.postMessage("other")
    try await unhandled.wait(for: 1)
    var iterator = messages.makeAsyncIterator()
    for number in 0..<6 { #expect(try await iterator.next()?.decode(Int.self) == number) }
    #expect(try messages.tryReceive() == nil)
  }

  @Test("3.4, 3.8, 8.6 A thread receives what comes, with ports; empty, timed out and closed are told apart")
  func byHand() async throws {
    let (client, server) = try await connectHere()
    let messages = server.messages(named: "port")
    #expect(messages.name == "port")
    #expect(try messages.tryReceive() == nil)
    #expect(code { _ = try messages.receive(timeout: .milliseconds(10)) } == .timedOut)
    let channel = try MessageChannel()
    let received = Promise<ConnectionEvent>()
    startThread { if let event = try? messages.receive(timeout: patience) { received.fulfil(event) } }
    try settle()
    try client.postMessage("port", 7, transfer: [channel.port2])
    let event = try await onThread { try received.wait() }
    #expect(event.name == "port" && event.connection === server)
    #expect(try event.decode(Int.self) == 7)
    try event.ports.first?.postMessage(bitwise: UInt64(9))
    try await onThread { try channel.port1.expect(9) }
    // On the loop, nobody could put anything here.
    let onLoop = Promise<PortError.Code?>()
    server.eventLoop.run { onLoop.fulfil(code { _ = try messages.receive() }) }
    #expect(try await onThread { try onLoop.wait() } == .notWaitable)
    server.close()
    #expect(code { _ = try messages.tryReceive() } == .closed)
    #expect(code { _ = try messages.receive() } == .closed)
    withExtendedLifetime(client) {}
  }

  @Test("8.2, 8.6 A worker is sent ports by name, and takes each when it wants it")
  func worker() async throws {
    let worker = try PeerProcess.spawn("receiveNamed")
    let (first, second) = (try MessageChannel(), try MessageChannel())
    try worker.connection.postMessage("second", transfer: [second.port2])
    try worker.connection.postMessage("first", transfer: [first.port2])
    try await onThread {
      try first.port1.expect(1)
      try second.port1.expect(2)
    }
  }

  @Test("8.6, 13.7 A task that waits is resumed by the next message, ends when it is cancelled, and nothing is lost")
  func waits() async throws {
    let (client, server) = try await connectHere()
    let messages = server.messages(named: "number")
    let got = Collected<Int>()
    let task = Task { for try await event in messages { got.append(try event.decode(Int.self)) } }
    for number in 0..<20 {
      try client.postMessage("number", number)
      try await got.wait(for: number + 1)
    }
    task.cancel()
    try await task.value
    let cancelled = Task {
      var iterator = messages.makeAsyncIterator()
      return try await iterator.next() == nil
    }
    cancelled.cancel()
    #expect(try await cancelled.value)
    try client.postMessage("number", 20)
    #expect(try await onThread { try messages.receive(timeout: patience) }.decode(Int.self) == 20)
    #expect(got.all == Array(0..<20))
  }

  enum End: String, CaseIterable, Sendable { case ownClose, peerClose, otherHandler, removal, transfer }

  @Test("4.2, 8.6 Those that wait hear the end, of whatever kind", arguments: End.allCases)
  func ends(_ end: End) async throws {
    let (client, server) = try await connectHere()
    let messages = server.messages(named: "name")
    let asleep = Flag()
    let (task, thread) = (Promise<Bool>(), Promise<PortError.Code?>())
    Task {
      var iterator = messages.makeAsyncIterator()
      task.fulfil(try await iterator.next() == nil)
    }
    startThread {
      asleep.set()
      thread.fulfil(code { _ = try messages.receive() })
    }
    try await eventually("the thread") { asleep.isSet }
    try settle()
    switch end {
    case .ownClose: server.close()
    case .peerClose: client.close()
    case .otherHandler: server.on("name") { _ in }
    case .removal: server.removeHandler("name")
    case .transfer: try MessageChannel().port1.postMessage(transfer: [server.port])
    }
    let expected: PortError.Code =
      switch end {
      case .peerClose: .peerClosed
      case .transfer: .detached
      default: .closed
      }
    let (ended, reason) = try await onThread { (try task.wait(), try thread.wait()) }
    #expect(ended && reason == expected)
    withExtendedLifetime(client) {}
  }

  @Test("4.2, 8.6 Closing discards what waits, and ports in it close")
  func discarded() async throws {
    let (client, server) = try await connectHere()
    let messages = server.messages(named: "name")
    let (channel, seen) = (try MessageChannel(), Collected<String>())
    server.on("seen") { seen.append($0.name) }
    try client.postMessage("name", transfer: [channel.port2])
    try client.postMessage("seen")
    try await seen.wait(for: 1)
    server.close()
    #expect(code { _ = try messages.tryReceive() } == .closed)
    try await onThread { try channel.port1.expectEnd() }
    // So it is for whoever asks only then.
    #expect(code { _ = try server.messages(named: "name").tryReceive() } == .closed)
  }

  @Test("3.6, 8.6 With another handler, or nobody to ask, the messages go where they go then; what waits is not lost")
  func replaced() async throws {
    let (client, server) = try await connectHere()
    let handled = Collected<Int>()
    let unhandled = Collected<Int>()
    server.onUnhandled = { event in unhandled.append((try? event.decode(Int.self)) ?? -1) }
    do {
      let messages = server.messages(named: "number")
      try client.postMessage("number", 0)
      try client.postMessage("other", 1)
      try await unhandled.wait(for: 1)
      server.on("number") { event in handled.append((try? event.decode(Int.self)) ?? -1) }
      try client.postMessage("number", 2)
      #expect(try await handled.wait(for: 1) == [2])
      #expect(try await numbers(messages) == [0])
      // It has nothing to do with the name any more.
    }
    try client.postMessage("number", 3)
    #expect(try await handled.wait(for: 2) == [2, 3])
    do {
      let messages = server.messages(named: "number")
      try client.postMessage("number", 4)
      #expect(try await onThread { try messages.receive(timeout: patience) }.decode(Int.self) == 4)
    }
    // The thread lets go of it when it ends.
    try await eventually("its end") { server.namedHandlers?.table.withLock { $0.named["number"] == nil } == true }
    try client.postMessage("number", 5)
    #expect(try await unhandled.wait(for: 2) == [1, 5])
  }

  @Test("2.4, 8.6 Once too much waits, the connection does, and goes on as it is taken; several names may be full")
  func heldUp() async throws {
    let (client, server) = try await connectHere()
    let limit = 10_000
    let (a, b) = (server.messages(named: "a", limitBytes: limit), server.messages(named: "b", limitBytes: limit))
    let seen = Collected<Int>()
    server.on("seen") { event in seen.append((try? event.decode(Int.self)) ?? -1) }
    let kilobyte = [UInt8](repeating: 1, count: 1000)
    for number in 0..<20 {
      try client.postMessage("a", bytes: kilobyte)
      try client.postMessage("b", bytes: kilobyte)
      try client.postMessage("seen", number)
    }
    // Eight fit, the ninth is more than enough.
    try await eventually("it is full") { server.queuedByteCount > 0 && !seen.all.isEmpty }
    try await eventually("it rests") { server.port.core.withReceiver { $0.handlers.onMessage == nil } }
    #expect(seen.count < 10)
    let taken = Collected<String>()
    for messages in [b, a] {
      Task { for try await event in messages { taken.append(event.name) } }
    }
    #expect(try await seen.wait(for: 20) == Array(0..<20))
    #expect(try await taken.wait(for: 40).count { $0 == "a" } == 20)
    // Whoever lets go of what is full lets the others go on.
    var full: NamedMessages? = server.messages(named: "full", limitBytes: limit)
    for _ in 0..<12 { try client.postMessage("full", bytes: kilobyte) }
    try client.postMessage("seen", 20)
    try await eventually("it rests") { server.port.core.withReceiver { $0.handlers.onMessage == nil } }
    #expect(full != nil && seen.count == 20)
    full = nil
    try await seen.wait(for: 21)
  }

  @Test("4.4, 8.6 The end of a connection that is held up comes after all that was sent, and leaves nothing")
  func endWhileHeldUp() async throws {
    weak var connection: Connection?
    do {
      let (client, server) = try await connectHere()
      connection = server
      let messages = server.messages(named: "a", limitBytes: 5000)
      for _ in 0..<20 { try client.postMessage("a", bytes: [UInt8](repeating: 1, count: 1000)) }
      client.close()
      try await eventually("it rests") { server.port.core.withReceiver { $0.handlers.onMessage == nil } }
      var count = 0
      for try await _ in messages { count += 1 }
      #expect(count == 20)
    }
    try await eventually("the connection to go") { connection == nil }
  }
}

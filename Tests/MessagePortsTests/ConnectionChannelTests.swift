import Glibc
import MessagePorts
import TestSupport
import Testing

/// Messages with names.
@Suite("Named channels", .serialized, .timeLimit(.minutes(5)))
struct ConnectionChannelTests {
  /// How two processes, or two parts of one, got their connection.
  enum Kind: String, CaseIterable, CustomStringConvertible {
    case here = "to a listener in this process"
    case server = "to a server process"
    case worker = "to a worker"
    var description: String { rawValue }
  }

  /// A connection whose other end sends back everything: name, value and ports.
  final class Echo: Sendable {
    let connection: Connection
    let held: [any Sendable]
    let worker: WorkerProcess?
    private let path = freshPath()

    /// A server process that is killed leaves its name behind.
    deinit { unsafe unlink(path) }

    init(_ kind: Kind) async throws {
      switch kind {
      case .here:
        let listener = try Listener(path: path)
        connection = try await Connection.connect(path: listener.path, timeout: patience)
        let server = try await listener.next()
        server.onUnhandled = { event in
          try? event.connection.postMessage(event.name, bytes: event.bytes, transfer: event.ports)
        }
        held = [listener, server]
        worker = nil
      case .server:
        let process = try PeerProcess.spawn("listen", [path])
        #expect(try await process.connection.nextName() == "listening")
        connection = try await Connection.connect(path: path, timeout: patience)
        held = [process]
        worker = process
      case .worker:
        let listener = try Listener(path: path)
        let process = try PeerProcess.spawn("connect", [listener.path])
        connection = try await listener.next()
        held = [listener, process]
        worker = process
      }
    }
  }

  /// Both ends of a connection, in this process.
  private func makePair(
    options: ChannelOptions = ChannelOptions()
  ) async throws -> (client: Connection, server: Connection) {
    let listener = try Listener(path: freshPath())
    let client = try await Connection.connect(path: listener.path, timeout: patience, options: options)
    return (client, try await listener.next())
  }

  // MARK: 8.2

  @Test(
    "8.2 A message has a name, a value and ports, and the receiver can answer on the connection it came from",
    arguments: Kind.allCases)
  func nameValueAndPorts(_ kind: Kind) async throws {
    let echo = try await Echo(kind)
    let channel = try MessageChannel()
    try channel.port1.postMessage(bitwise: 5 as UInt64)
    let events = Collected<ConnectionEvent>()
    echo.connection.on("näme") { events.append($0) }
    try echo.connection.postMessage("näme", bytes: [1, 2, 3], transfer: [channel.port2])
    #expect(channel.port2.isDetached)
    let event = try await events.wait(for: 1)[0]
    #expect(event.name == "näme" && event.bytes == [1, 2, 3] && event.byteCount == 3)
    #expect(event.connection === echo.connection)
    let port = try #require(event.ports.first)
    try await onThread { try port.expect(5) }
    // What is posted on the event's connection goes to where the event came from.
    try event.connection.postMessage("näme", bytes: [])
    #expect(try await events.wait(for: 2)[1].ports.isEmpty)
    echo.connection.close()
  }

  @Test("8.2 A server with several clients answers each on its own connection")
  func answersGoToTheAsker() async throws {
    let listener = try Listener(path: freshPath())
    let answers = Collected<String>()
    var ends: [Connection] = []
    for number in 0..<3 as Range<UInt64> {
      let client = try await Connection.connect(path: listener.path, timeout: patience)
      let server = try await listener.next()
      server.on("question") { event in try? event.connection.postMessage("answer", bytes: event.bytes) }
      client.on("answer") { answers.append("\(number): \((try? $0.load(as: UInt64.self)) ?? .max)") }
      ends += [client, server]
    }
    for (index, client) in [ends[0], ends[2], ends[4]].enumerated() {
      try client.postMessage("question", bitwise: UInt64(index))
    }
    #expect(try await Set(answers.wait(for: 3)) == ["0: 0", "1: 1", "2: 2"])
  }

  @Test("8.2 Codable values travel under a name, and one that does not decode goes to the error handler")
  func codableValues() async throws {
    struct Point: Codable, Equatable { var x: Int, y: String }
    let (client, server) = try await makePair()
    let points = Collected<Point>()
    let errors = Collected<MessageError>()
    server.onMessageError = { errors.append($0) }
    server.on("point", of: Point.self) { point, _ in points.append(point) }
    try client.postMessage("point", Point(x: 1, y: "a"))
    try client.postMessage("point", bytes: [0xff])
    try client.postMessage("point", Point(x: 2, y: "b"))
    #expect(try await points.wait(for: 2) == [Point(x: 1, y: "a"), Point(x: 2, y: "b")])
    #expect(errors.count == 1)
  }

  @Test("8.2 A connection's posts obey a port's rules: limits, bad lists, closed ends")
  func rulesOfAPort() async throws {
    let (client, server) = try await makePair(options: ChannelOptions(queueLimitBytes: 256, messageLimitBytes: 200))
    func expectError(_ body: () throws -> Void, _ isExpected: (PortError) -> Bool) {
      #expect(performing: body, throws: { ($0 as? PortError).map(isExpected) ?? false })
    }
    let channel = try MessageChannel()
    expectError {
      try client.postMessage("a", bytes: [UInt8](repeating: 0, count: 201), transfer: [channel.port1])
    } _: {
      if case .messageTooLarge = $0 { true } else { false }
    }
    // The side that accepted has the same limits.
    expectError {
      try server.postMessage("a", bytes: [UInt8](repeating: 0, count: 201))
    } _: {
      if case .messageTooLarge = $0 { true } else { false }
    }
    try client.postMessage("a", bytes: [UInt8](repeating: 0, count: 180))
    expectError {
      try client.postMessage("a", bytes: [UInt8](repeating: 0, count: 180), transfer: [channel.port1])
    } _: {
      if case .queueFull = $0 { true } else { false }
    }
    let closed = try MessageChannel()
    closed.port1.close()
    expectError {
      try client.postMessage("a", transfer: [channel.port1, closed.port1])
    } _: {
      if case .invalidTransfer(index: 1, .isClosed) = $0 { true } else { false }
    }
    try await expectUsable([channel])
    server.close()
    try await eventually("the end") { client.isPeerClosed }
    try client.postMessage("a", bytes: [], transfer: [channel.port1])
    try await onThread { try channel.port2.expectEnd() }
    client.close()
    #expect(client.isClosed)
    expectError {
      try client.postMessage("a")
    } _: {
      if case .closed = $0 { true } else { false }
    }
  }

  @Test("8.2 A name has up to 1024 bytes, and can be empty")
  func names() async throws {
    let (client, server) = try await makePair()
    let names = Collected<String>()
    server.onUnhandled = { names.append($0.name) }
    let longest = String(repeating: "ü", count: 512)
    try client.postMessage("")
    try client.postMessage(longest)
    #expect {
      try client.postMessage(longest + "x")
    } throws: { if case .invalidOption? = $0 as? PortError { true } else { false } }
    try client.postMessage("last")
    #expect(try await names.wait(for: 3) == ["", longest, "last"])
  }

  // MARK: 8.3

  @Test(
    "8.3 Messages of one connection come in the order of their posts, whatever their names", arguments: Kind.allCases)
  func orderOverNames(_ kind: Kind) async throws {
    let echo = try await Echo(kind)
    let count: UInt64 = 2000
    let numbers = Collected<UInt64>()
    for name in 0..<7 {
      echo.connection.on("name \(name)") { event in
        let number = (try? event.load(as: UInt64.self)) ?? .max
        numbers.append(event.name == "name \(number % 7)" ? number : .max)
      }
    }
    for number in 0..<count { try echo.connection.postMessage("name \(number % 7)", bitwise: number) }
    #expect(try await numbers.wait(for: Int(count)) == Array(0..<count))
  }

  @Test("8.3 A handler that is replaced, or was only for one message, gives way to the next")
  func replacingHandlers() async throws {
    let (client, server) = try await makePair()
    let heard = Collected<String>()
    server.onUnhandled = { heard.append("unhandled \($0.name)") }
    server.once("a") { _ in heard.append("once a") }
    server.on("b") { _ in
      heard.append("first b")
      server.on("b") { _ in
        heard.append("second b")
        server.removeHandler("b")
      }
    }
    for _ in 0..<3 { for name in ["a", "b"] { try client.postMessage(name) } }
    #expect(
      try await heard.wait(for: 6) == ["once a", "first b", "unhandled a", "second b", "unhandled a", "unhandled b"])
  }

  @Test("8.3 A handler for one message can be set again from within itself")
  func onceAgain() async throws {
    let (client, server) = try await makePair()
    let heard = Collected<Int>()
    @Sendable func again(_ number: Int) {
      server.once("a") { _ in
        heard.append(number)
        if number < 2 { again(number + 1) }
      }
    }
    again(0)
    server.on("last") { _ in heard.append(-1) }
    for _ in 0..<5 { try client.postMessage("a") }
    try client.postMessage("last")
    #expect(try await heard.wait(for: 4) == [0, 1, 2, -1])
  }

  // MARK: 8.4

  @Test("8.4 Messages wait for the first handler, and then come in order")
  func queueUntilFirstHandler() async throws {
    let (client, server) = try await makePair()
    let heard = Collected<String>()
    let closes = Collected<CloseReason>()
    // A close handler is no reason to start.
    server.onClose = { closes.append($0) }
    for name in ["a", "b", "a"] { try client.postMessage(name) }
    try await Task.sleep(for: .milliseconds(50))
    server.onUnhandled = { heard.append("unhandled \($0.name)") }
    #expect(try await heard.wait(for: 3) == ["unhandled a", "unhandled b", "unhandled a"])
    #expect(closes.all.isEmpty)
  }

  @Test("8.4 Once started, messages whose name has no handler are dropped, and their ports close")
  func unhandledAreDropped() async throws {
    let (client, server) = try await makePair()
    let channels = try (0..<3).map { _ in try MessageChannel() }
    try client.postMessage("nobody's", transfer: [channels[0].port2])
    try await Task.sleep(for: .milliseconds(20))
    #expect(!channels[0].port1.isPeerClosed)
    server.start()
    try await onThread { try channels[0].port1.expectEnd() }
    let heard = Collected<String>()
    server.on("a") { heard.append($0.name) }
    try client.postMessage("nobody's", transfer: [channels[1].port2])
    try client.postMessage("a", transfer: [channels[2].port2])
    #expect(try await heard.wait(for: 1) == ["a"])
    try await onThread {
      try channels[1].port1.expectEnd()
      try channels[2].port1.expectEnd()  // The handler did not keep it.
    }
  }

  @Test("8.4 The hook for unhandled messages gets them whole, with their ports")
  func unhandledHook() async throws {
    let (client, server) = try await makePair()
    let channel = try MessageChannel()
    let events = Collected<ConnectionEvent>()
    server.on("a") { _ in }
    server.onUnhandled = { events.append($0) }
    try client.postMessage("b", bytes: [7], transfer: [channel.port2])
    let event = try await events.wait(for: 1)[0]
    #expect(event.name == "b" && event.bytes == [7] && event.ports.count == 1)
    try channel.port1.postMessage(bitwise: 3 as UInt64)
    try await onThread { try event.ports[0].expect(3) }
    server.close()
  }

  // MARK: 8.5

  @Test(
    "8.5 When the other process ends, however it does, its messages come first, and then its end, once",
    arguments: ["exit", "close", "kill"])
  func disconnectIsLast(_ ending: String) async throws {
    let worker = try PeerProcess.spawn("postAndExit", ["500", ending])
    let events = Collected<String>()
    worker.connection.onClose = { _ in events.append("close") }
    worker.connection.onUnhandled = { events.append("\((try? $0.load(as: UInt64.self)) ?? .max)") }
    #expect(try await events.wait(for: 501) == (0..<500).map { "\($0)" } + ["close"])
    if ending == "close" { worker.kill() }
    _ = await worker.exitStatus
    try await Task.sleep(for: .milliseconds(50))
    #expect(events.count == 501)
  }

  @Test("8.5 Ports that came over a connection do not depend on it", arguments: Kind.allCases)
  func portsSurvive(_ kind: Kind) async throws {
    let echo = try await Echo(kind)
    let channel = try MessageChannel()
    let ports = Collected<MessagePort>()
    echo.connection.on("port") { for port in $0.ports { ports.append(port) } }
    try echo.connection.postMessage("port", transfer: [channel.port2])
    let port = try await ports.wait(for: 1)[0]
    echo.connection.close()
    if let worker = echo.worker {
      worker.kill()
      _ = await worker.exitStatus
    }
    try channel.port1.postMessage(bitwise: 1 as UInt64)
    try await onThread {
      try port.expect(1)
      try port.postMessage(bitwise: 2 as UInt64)
      try channel.port1.expect(2)
    }
    #expect(!port.isPeerClosed)
  }

  @Test("8.5 A close handler that is set after the other side has gone is still called, once, after the messages")
  func lateCloseHandler() async throws {
    let (client, server) = try await makePair()
    try client.postMessage("a")
    client.close()
    try await eventually("the end") { server.isPeerClosed }
    let events = Collected<String>()
    server.onClose = { _ in events.append("close") }
    try await Task.sleep(for: .milliseconds(20))
    #expect(events.all.isEmpty)
    server.on("a") { events.append($0.name) }
    #expect(try await events.wait(for: 2) == ["a", "close"])
  }

  @Test("7.1 A connection with a handler lives without a reference, and is released after its end")
  func lifetime() async throws {
    weak var weakServer: Connection?
    let heard = Collected<String>()
    let client: Connection
    do {
      let pair = try await makePair()
      client = pair.client
      weakServer = pair.server
      pair.server.on("a") { heard.append($0.name) }
    }
    try client.postMessage("a")
    try await heard.wait(for: 1)
    #expect(weakServer != nil)
    client.close()
    try await eventually("the release") { weakServer == nil }
  }

  @Test(
    "4.9 Handlers that hold their own connection are released after its end, and set later keep nothing",
    arguments: [true, false])
  func handlersAreReleased(_ isClosedHere: Bool) async throws {
    weak var weakServer: Connection?
    weak var late: Collected<String>?
    let client: Connection
    let heard = Collected<String>()
    do {
      let pair = try await makePair()
      let server = pair.server
      client = pair.client
      weakServer = server
      server.on("a") { event in heard.append("\(event.name) \(server.isClosed)") }
      server.once("never") { _ in _ = server }
      server.onUnhandled = { _ in server.close() }
      try client.postMessage("a")
      try await heard.wait(for: 1)
      (isClosedHere ? server : client).close()
      try await eventually("the close") { isClosedHere ? client.isPeerClosed : server.isPeerClosed }
      try await eventually("the release") { server.onUnhandled == nil }
      let unused = Collected<String>()
      late = unused
      server.on("b") { _ in unused.append("\(server.isClosed)") }
      server.onUnhandled = { _ in unused.append("") }
    }
    try await eventually("the release") { weakServer == nil && late == nil }
  }

  @Test("7.2 A connection without a handler closes with its last reference")
  func closesWithLastReference() async throws {
    let client: Connection
    do { client = try await makePair().client }
    try await eventually("the end") { client.isPeerClosed }
  }
}

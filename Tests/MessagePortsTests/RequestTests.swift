import Glibc
@testable import MessagePorts
import TestSupport
import Testing

/// Questions with one answer each.
@Suite("Requests", .serialized, .timeLimit(.minutes(5)))
struct RequestTests {
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

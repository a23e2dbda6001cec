import MessagePorts
import MessagePortsFoundation
import TestSupport
import Testing

/// Ports and connections let values write and read themselves, if they can, and nobody else notices.
@Suite("Values that write themselves", .ownThread, .timeLimit(.minutes(3)))
struct MessageValueTests {
  /// What goes by `Codable`.
  private struct Fields: Codable, Equatable {
    var id: Int
    var name: String
    var note: String?

    static let example = Fields(id: 1 << 40, name: "kettle", note: nil)
  }

  /// What a value throws is not taken for an error of the port that it is posted on, even if it might be one.
  private static let wrongWay = PortError.timedOut

  /// The same fields; they go only the direct way.
  private struct Direct: MessageValue, Equatable {
    var fields: Fields

    static let example = Direct(fields: .example)

    init(fields: Fields) { self.fields = fields }
    init(from decoder: any Decoder) throws { throw MessageValueTests.wrongWay }
    func encode(to encoder: any Encoder) throws { throw MessageValueTests.wrongWay }

    func write(to writer: inout ValueWriter) {
      writer.writeEntries { entries in
        entries.write(fields.id, forKey: "id")
        entries.write(fields.name, forKey: "name")
        entries.write(fields.note, forKey: "note")
      }
    }

    init(from reader: inout ValueReader) throws {
      fields = try reader.readEntries { entries in
        Fields(
          id: try entries.read(forKey: "id"), name: try entries.read(forKey: "name"),
          note: try entries.read(forKey: "note"))
      }
    }
  }

  /// Posts the fields both ways, and between them what is no value.
  private func postBothWays(_ port: MessagePort) throws {
    try port.postMessage(Direct.example)
    try port.postMessage(bytes: [255])
    try port.postMessage(Fields.example)
  }

  private func postBothWays(_ connection: Connection) throws {
    try connection.postMessage("order", Direct.example)
    try connection.postMessage("order", bytes: [255])
    try connection.postMessage("order", Fields.example)
  }

  // MARK: Ports

  @Test(
    "2.1, 3.8 Taken by hand from a port, a value is the same whichever way it was written and is read",
    arguments: Place.allCases)
  func byHand(_ place: Place) throws {
    let port = try place.open(.echo)
    for _ in 0..<2 { try postBothWays(port) }
    #expect(try port.receive(Direct.self, timeout: patience) == .example)
    #expect(portError { _ = try port.receive(Direct.self, timeout: patience) } == "decodingFailed")
    #expect(try port.receive(Direct.self, timeout: patience) == .example)
    #expect(try port.receive(Fields.self, timeout: patience) == .example)
    #expect(portError { _ = try port.receive(Fields.self, timeout: patience) } == "decodingFailed")
    #expect(try port.receive(Fields.self, timeout: patience) == .example)
    try postBothWays(port)
    for isValue in [true, false, true] {
      let event = try port.receiveSoon()
      guard isValue else {
        #expect(portError { _ = try event.decode(Direct.self) } == "decodingFailed")
        continue
      }
      #expect(try event.decode(Direct.self) == .example)
      #expect(try event.decode(Fields.self) == .example)
    }
  }

  @Test(
    "3.7 So it is to a port's handler, and what is no value is told to the error handler", arguments: Place.allCases)
  func toHandler(_ place: Place) throws {
    let (direct, fields) = (try place.open(.echo), try place.open(.echo))
    let (directs, others, errors) = (Collected<Direct>(), Collected<Fields>(), Collected<MessageError>())
    direct.onMessageError = errors.append
    fields.onMessageError = errors.append
    direct.onMessage(of: Direct.self) { value, _ in directs.append(value) }
    fields.onMessage(of: Fields.self) { value, _ in others.append(value) }
    try postBothWays(direct)
    try postBothWays(fields)
    #expect(try directs.wait(for: 2) == [.example, .example])
    #expect(try others.wait(for: 2) == [.example, .example])
    #expect(errors.count == 2)
  }

  @Test("3.7 So it is in a sequence of a port's values", arguments: Place.allCases)
  func inSequence(_ place: Place) async throws {
    let port = try place.open(.echo)
    let errors = Collected<MessageError>()
    port.onMessageError = errors.append
    for _ in 0..<2 { try postBothWays(port) }
    var directs = port.messages(of: Direct.self).makeAsyncIterator()
    for _ in 0..<2 { #expect(try await directs.next() == .example) }
    var others = port.messages(of: Fields.self).makeAsyncIterator()
    for _ in 0..<2 { #expect(try await others.next() == .example) }
    #expect(errors.count == 2)
  }

  // MARK: Connections

  @Test("2.1, 3.8 So it is from a connection, by hand")
  func fromConnection() async throws {
    let (client, server) = try await connectHere()
    try postBothWays(client)
    try await onThread {
      for isValue in [true, false, true] {
        let event = try patiently("a value") { try server.receive(timeout: $0) }
        guard isValue else {
          #expect(portError { _ = try event.decode(Direct.self) } == "decodingFailed")
          continue
        }
        #expect(try event.decode(Direct.self) == .example)
        #expect(try event.decode(Fields.self) == .example)
      }
    }
  }

  @Test("3.7 So it is to a connection's handlers")
  func toNamedHandler() async throws {
    let (client, server) = try await connectHere()
    let (directs, others, errors) = (Collected<Direct>(), Collected<Fields>(), Collected<MessageError>())
    server.onMessageError = errors.append
    client.onMessageError = errors.append
    server.on("order", of: Direct.self) { value, _ in directs.append(value) }
    client.on("order", of: Fields.self) { value, _ in others.append(value) }
    try postBothWays(client)
    try postBothWays(server)
    #expect(try await directs.wait(for: 2) == [.example, .example])
    #expect(try await others.wait(for: 2) == [.example, .example])
    #expect(errors.count == 2)
  }

  @Test("3.7 So it is to the handlers that are set at once, and of what comes with a buffer or a descriptor")
  func registered() async throws {
    let (client, server) = try await connectHere()
    let (directs, others) = (Collected<Direct>(), Collected<Fields>())
    server.handle { $0.on("order", of: Direct.self) { value, _ in directs.append(value) } }
    client.handle { $0.on("order", of: Fields.self) { value, _ in others.append(value) } }
    for connection in [client, server] {
      let buffer = try FrozenBuffer(copying: BinaryMessageCoder().encode(Direct.example))
      #expect(try buffer.decode(Direct.self) == .example)
      #expect(try buffer.decode(Fields.self) == .example)
      try connection.postMessage("order", Direct.example, buffers: [.frozen(buffer)])
      try connection.postMessage("order", Direct.example, descriptors: [TestPipe().reader])
    }
    #expect(try await directs.wait(for: 2) == [.example, .example])
    #expect(try await others.wait(for: 2) == [.example, .example])
  }

  @Test("12.1 So it is of questions and answers")
  func asked() async throws {
    let (client, server) = try await connectHere()
    server.onRequest("same", of: Direct.self) { value, _ in value }
    server.onRequest("fields", of: Fields.self) { value, _ in value }
    server.onRequest("own") { _ in Direct.example }
    #expect(try await client.request("same", Direct.example, as: Direct.self) == .example)
    #expect(try await client.request("same", Fields.example, as: Fields.self) == .example)
    #expect(try await client.request("fields", Direct.example, as: Direct.self) == .example)
    #expect(try await client.request("own", as: Direct.self) == .example)
    await #expect(throws: RemoteError.self) { _ = try await client.request("same", "a text", as: Direct.self) }
    await #expect { _ = try await client.request("own", as: Int.self) } throws: { error in
      if case .decodingFailed? = error as? PortError { true } else { false }
    }
  }

  @Test("12.4 So it is of the elements of a stream, also of one in parts, and of the question for it")
  func streamed() async throws {
    let (client, server) = try await connectHere()
    let long = Direct(fields: Fields(id: 1, name: String(repeating: "a", count: 200_000), note: "in parts"))
    server.onStream("echo", of: Direct.self) { value, writer in
      try await writer.send(value)
      try await writer.send(value.fields)
    }
    for value in [Direct.example, long] {
      var count = 0
      for try await element in client.stream("echo", value, of: Direct.self) {
        #expect(element == value)
        count += 1
      }
      for try await element in client.stream("echo", value.fields, of: Fields.self) {
        #expect(element == value.fields)
        count += 1
      }
      #expect(count == 4)
    }
  }

  // MARK: What is posted, and with what

  @Test("2.2 A value that exceeds a limit when it writes itself is an error without an effect")
  func refused() throws {
    /// A list, too deep.
    struct Deep: MessageValue {
      var depth: Int
      init(depth: Int) { self.depth = depth }
      init(from reader: inout ValueReader) throws { throw MessageValueTests.wrongWay }
      func write(to writer: inout ValueWriter) {
        writer.writeEntries { if depth > 0 { $0.write(Deep(depth: depth - 1), forKey: "next") } }
      }
    }
    let (channel, listed) = (try MessageChannel(), try MessageChannel())
    let failure = portError { try channel.port1.postMessage(Deep(depth: 100), transfer: [listed.port1]) }
    #expect(failure == "encodingFailed")
    #expect(!listed.port1.isDetached)
    try channel.port1.postMessage(Direct.example, transfer: [listed.port1])
    let event = try channel.port2.receiveSoon()
    #expect(try event.decode(Direct.self) == .example)
    #expect(try event.ports[0].isUsable(with: listed.port2))
    channel.port1.close()
    #expect(portError { try channel.port1.postMessage(Direct.example) } == "closed")
  }

  @Test("With another coder chosen, values go by Codable, both ways; with the default one chosen, they go directly")
  func otherCoder() async throws {
    // A coder is chosen for the whole process.
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let channel = try MessageChannel()
        MessageCoders.current = JSONMessageCoder()
        try channel.port1.postMessage(Textual(name: "tea"))
        try channel.port1.postMessage(Textual(name: "tea"))
        let event = try channel.port2.receiveSoon()
        #expect(String(decoding: event.bytes, as: UTF8.self) == #"{"name":"tea"}"#)
        #expect(try event.decode(Textual.self).name == "tea")
        #expect(try channel.port2.receive(Textual.self, timeout: patience).name == "tea")
        #expect(portError { try channel.port1.postMessage(Direct.example) } == "encodingFailed")

        MessageCoders.current = BinaryMessageCoder()
        try channel.port1.postMessage(Direct.example)
        #expect(try channel.port2.receive(Direct.self, timeout: patience) == .example)
      }
    }
  }

  /// It goes only by `Codable`.
  private struct Textual: MessageValue {
    var name: String

    init(name: String) { self.name = name }
    init(from reader: inout ValueReader) throws { throw MessageValueTests.wrongWay }
    func write(to writer: inout ValueWriter) {}
  }
}

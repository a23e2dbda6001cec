import Glibc
import TestSupport
import Testing

@testable import MessagePorts

/// A connection is a port: what a port's messages can be taken with, a connection's can.
@Suite("Receiving from a connection by hand", .timeLimit(.minutes(3)))
struct ConnectionReceiveTests {
  @Test("3.8, 8.3 Messages are taken in order, whatever their names, with their ports; then the end is told")
  func byHand() async throws {
    let (client, server) = try await connectHere()
    let channel = try MessageChannel()
    #expect(try server.tryReceive() == nil)
    try client.postMessage("first", 5, transfer: [channel.port2])
    try client.postMessage("second")
    client.close()
    try await onThread {
      let first = try server.receive(timeout: patience)
      #expect(first.name == "first")
      #expect(try first.decode(Int.self) == 5)
      try first.ports.first?.postMessage(bitwise: UInt64(7))
      try channel.port1.expect(7)
      let second = try patiently("the second") { try server.receive(timeout: $0) }
      #expect(second.name == "second" && second.byteCount == 0 && second.connection === server)
      let end = Result { try server.receive(timeout: patience) }
      #expect(throws: PortError.self) { _ = try end.get() }
    }
    do throws(PortError) {
      _ = try server.tryReceive()
      Issue.record("something came after the end")
    } catch {
      #expect("\(error)" == "peerClosed(closed by peer)")
    }
  }

  @Test("3.8 Without a message, a receive times out, or finds nothing")
  func nothing() async throws {
    let (client, server) = try await connectHere()
    #expect(try server.tryReceive() == nil)
    try await onThread {
      do throws(PortError) {
        _ = try server.receive(timeout: .milliseconds(10))
        Issue.record("it has received something")
      } catch {
        #expect(error.code == .timedOut)
      }
    }
    withExtendedLifetime(client) {}
  }

  @Test("3.3 As a sequence, messages come in order, and it ends with the connection")
  func sequence() async throws {
    let (client, server) = try await connectHere()
    for number in 0..<20 { try client.postMessage("number", number) }
    client.close()
    var numbers: [Int] = []
    for try await event in server.messages { numbers.append(try event.decode(Int.self)) }
    #expect(numbers == Array(0..<20))
  }

  @Test("3.7 What has no name is an error of its own, and the messages behind it are delivered")
  func nameless() async throws {
    let (client, server) = try await connectHere()
    let errors = Collected<MessageError>()
    server.onMessageError = { errors.append($0) }
    for _ in 0..<2 { try client.port.postMessage(bytes: [255]) }
    try client.postMessage("named")
    let first = try await onThread { Result { try server.receive(timeout: patience) } }
    #expect(throws: PortError.self) { _ = try first.get() }
    var messages = server.messages.makeAsyncIterator()
    #expect(try await messages.next()?.name == "named")
    #expect(errors.count == 1)
  }

  @Test("5.1 A connection's handlers run on the loop that it was given, and what waits can be counted")
  func loop() async throws {
    let (client, server) = try await connectHere()
    let loop = EventLoop(name: "another")
    defer { loop.stop() }
    try client.postMessage("name", bytes: [UInt8](repeating: 0, count: 100))
    try await eventually("the message") { server.queuedByteCount > 100 }
    server.setEventLoop(loop)
    #expect(server.eventLoop === loop)
    let threads = Collected<String>()
    server.on("name") { _ in threads.append(text(of: "/proc/thread-self/comm")) }
    #expect(try await threads.wait(for: 1) == ["another\n"])
  }

  @Test("8.2 A worker receives its first port without a handler")
  func firstPort() async throws {
    let worker = try PeerProcess.spawn("receiveFirst")
    let channel = try MessageChannel()
    try worker.connection.postMessage("take this", transfer: [channel.port2])
    try await onThread { try channel.port1.expect(5) }
  }

  @Test("13.4 A program starts itself, though its file is gone")
  func thisProgram() async throws {
    let copy = freshPath("-TestPeer")
    let copying = try WorkerProcess.spawn("cp", arguments: [PeerProcess.executable, copy])
    #expect(await copying.exitStatus == .exited(0))
    let worker = try WorkerProcess.spawn(copy, arguments: ["spawnThisProgram"])
    unsafe unlink(copy)
    try worker.connection.postMessage("begin")
    #expect(try await worker.connection.nextName() == "exit code 7")
  }

  // MARK: Ports

  @Test("3.4, 3.7 Values of one type are received by hand and as a sequence; what is none is told and passed over")
  func values() async throws {
    let channel = try MessageChannel()
    let errors = Collected<MessageError>()
    channel.port2.onMessageError = { errors.append($0) }
    for text in ["one", "two"] { try channel.port1.postMessage(text) }
    try channel.port1.postMessage(7)
    try channel.port1.postMessage("three")
    try channel.port1.postMessage(8)
    channel.port1.close()
    let first = try await onThread { try channel.port2.receive(String.self, timeout: patience) }
    #expect(first == "one")
    var texts: [String] = []
    for try await text in channel.port2.messages(of: String.self) { texts.append(text) }
    #expect(texts == ["two", "three"])
    #expect(errors.count == 2)
  }

  @Test("3.7 A value of another type is consumed by a receive, and the ports that came with it close")
  func wrongValue() async throws {
    let (channel, carried) = (try MessageChannel(), try MessageChannel())
    try channel.port1.postMessage("text", transfer: [carried.port2])
    try channel.port1.postMessage(5)
    try await onThread {
      do throws(PortError) {
        _ = try channel.port2.receive(Int.self, timeout: patience)
        Issue.record("a text was decoded as a number")
      } catch {
        #expect(error.code == .decodingFailed)
      }
      try carried.port1.expectEnd()
      #expect(try channel.port2.receive(Int.self, timeout: patience) == 5)
    }
  }

  @Test("2.1 A message may have no content but its ports")
  func onlyPorts() async throws {
    let (channel, carried) = (try MessageChannel(), try MessageChannel())
    try channel.port1.postMessage(transfer: [carried.port2])
    let event = try await onThread { try channel.port2.receiveSoon() }
    #expect(event.byteCount == 0 && event.ports.count == 1)
  }

  @Test("Each error of a port has a code of its own")
  func codes() {
    let system = SystemError(call: "call", errno: 1)
    let errors: [PortError] = [
      .closed, .detached, .invalidTransfer(index: 0, .isClosed), .tooManyPorts(count: 2, limit: 1),
      .invalidDescriptor(index: 0, .isClosed), .invalidBuffer(index: 0, .isClosed),
      .tooManyDescriptors(count: 2, limit: 1),
      .messageTooLarge(byteCount: 2, limit: 1), .queueFull(limit: 1), .transferQueueFull(system),
      .encodingFailed(system), .decodingFailed(system), .lockLimitExceeded(byteCount: 2, limit: 1), .system(system),
      .timedOut, .cancelled,
      .peerClosed(.closedByPeer), .invalidOption(""), .halvesDiffer, .notWaitable(.isInSet),
    ]
    #expect(errors.map(\.code) == PortError.Code.allCases)
  }
}

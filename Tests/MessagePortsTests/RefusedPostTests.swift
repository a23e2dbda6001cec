import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("2.2, 2.3 Refused posts", .ownThread, .timeLimit(.minutes(10)))
struct RefusedPostTests {
  /// Something that makes a post fail, on a port with the limits of ``options``.
  struct Refusal: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let error: String
    let post: @Sendable (_ port: MessagePort, _ listed: [MessagePort]) throws -> Void
  }

  static let options = ChannelOptions(queueLimitBytes: 4096, messageLimitBytes: 8192)

  static let refusals = [
    Refusal(testDescription: "value that cannot be encoded", error: "encodingFailed") {
      try $0.postMessage(Unencodable(), transfer: $1)
    },
    Refusal(testDescription: "closure that throws", error: "encodingFailed") { port, listed in
      try port.postMessage(byteCount: 8, transfer: listed) { output in
        output.append(1)
        throw Unwilling()
      }
    },
    Refusal(testDescription: "too large", error: "messageTooLarge") {
      try $0.postMessage(bytes: Payload.make(0, byteCount: 8193), transfer: $1)
    },
    Refusal(testDescription: "too large in place", error: "messageTooLarge") {
      try $0.postMessage(byteCount: 8193, transfer: $1) { _ in }
    },
    Refusal(testDescription: "negative size", error: "messageTooLarge") {
      try $0.postMessage(byteCount: -1, transfer: $1) { _ in }
    },
    Refusal(testDescription: "queue full", error: "queueFull") {
      try $0.postMessage(bytes: Payload.make(0, byteCount: 4090), transfer: $1)
    },
    Refusal(testDescription: "sending port in the list", error: "invalidTransfer.isSendingPort") {
      try $0.postMessage(bytes: [1], transfer: $1 + [$0])
    },
    Refusal(testDescription: "port twice in the list", error: "invalidTransfer.isListedTwice") {
      try $0.postMessage(bytes: [1], transfer: $1 + [$1[0]])
    },
    Refusal(testDescription: "closed port in the list", error: "invalidTransfer.isClosed") { port, listed in
      let closed = try MessageChannel().port1
      closed.close()
      try port.postMessage(bytes: [1], transfer: listed + [closed])
    },
    Refusal(testDescription: "detached port in the list", error: "invalidTransfer.isDetached") { port, listed in
      let moved = try MessageChannel(), carrier = try MessageChannel()
      try carrier.port1.postMessage(bytes: [], transfer: [moved.port1])
      try port.postMessage(bytes: [1], transfer: listed + [moved.port1])
    },
    Refusal(testDescription: "too many ports", error: "tooManyPorts") { port, listed in
      let many = try (0..<300).map { _ in try MessageChannel() }
      try port.postMessage(bytes: [1], transfer: listed + many.map(\.port1))
    },
  ]

  @Test(
    "2.2 A post that throws its typed error has sent nothing and detached nothing; the channel and the ports listed work on",
    arguments: Place.allCases, refusals)
  func noEffect(_ place: Place, _ refusal: Refusal) throws {
    let puppet = try Puppet(place, options: Self.options)
    let idle = try MessageChannel(), started = try MessageChannel(), waiting = try MessageChannel()
    let received = Received(on: started.port1)
    try waiting.port2.post(0..<3)

    try puppet.port.postMessage(bitwise: 1)
    let listed = [idle.port1, started.port1, waiting.port1]
    #expect(portError { try refusal.post(puppet.port, listed) } == refusal.error)
    try puppet.port.postMessage(bitwise: 2)

    #expect(!puppet.port.isClosed && !puppet.port.isDetached)
    #expect(listed.allSatisfy { !$0.isClosed && !$0.isDetached })
    try started.port2.post(0..<10)
    #expect(try received.wait(for: 10) == Array(0..<10))
    #expect(try waiting.port1.receiveNumbers(3) == [0, 1, 2])
    #expect(try idle.port1.isUsable(with: idle.port2))
    #expect(try waiting.port1.isUsable(with: waiting.port2))

    // The two whole posts, and then the end: nothing in between.
    puppet.port.close()
    #expect(try puppet.receive(3) == 2)
    // The ports' ends are still the caller's to close.
    let closed = Promise<CloseReason>()
    idle.port2.onClose = closed.fulfil
    idle.port1.close()
    #expect(try closed.wait() == .closedByPeer)
    started.port2.close()
    try received.waitForClose()
  }

  @Test(
    "2.2 The peer of the sending port cannot be listed either, wherever the channel lies", arguments: Place.allCases)
  func ownPeer(_ place: Place) throws {
    // In the second case both ends come back from another process, so the channel is shared and both are here.
    let channel = try MessageChannel()
    var (near, far) = (channel.port1, channel.port2)
    if place == .anotherProcess {
      let port = try place.open(.echo)
      try port.postMessage(bytes: [], transfer: [near, far])
      let ports = try port.receiveSoon().ports
      (near, far) = (ports[0], ports[1])
    }
    #expect(portError { try near.postMessage(bytes: [1], transfer: [far]) } == "invalidTransfer.isPeerOfSendingPort")
    #expect(try near.isUsable(with: far))
  }

  @Test("2.2 Refused transfers do not disturb what the port is receiving meanwhile")
  func refusedTransferUnderTraffic() throws {
    let channel = try MessageChannel(), closed = try MessageChannel().port1
    closed.close()
    let received = Received(on: channel.port1)
    let rounds = 3000
    let isOver = Flag()
    defer { isOver.set() }
    let refuser = TestThread {
      var refusals = 0
      while received.events.count < rounds, !isOver.isSet {
        if portError({ try closed.postMessage(bytes: [], transfer: [channel.port1]) }) == "closed" { refusals += 1 }
      }
      return refusals
    }
    // One at a time, so that the next message does not make up for a lost turn.
    for number in 0..<rounds {
      try channel.port2.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
    #expect(try refuser.join() > 0)
    #expect(received.numbers == Array(0..<rounds))
  }

  @Test("2.2 A close event that comes while a transfer of the port is being refused is not lost")
  func refusedTransferAndClose() throws {
    let closed = try MessageChannel().port1
    closed.close()
    for _ in 0..<200 {
      let channel = try MessageChannel()
      let event = Promise<CloseReason>()
      channel.port1.onClose = event.fulfil
      let refuser = TestThread {
        for _ in 0..<20 where event.value == nil {
          _ = try? closed.postMessage(bytes: [], transfer: [channel.port1])
        }
      }
      channel.port2.close()
      try refuser.join()
      _ = try event.wait()
    }
  }

  @Test("2.3 When the system has no descriptors left, a post with ports throws its error and everything else goes on")
  func outOfDescriptors() throws {
    let report = try LoneProcess.run("descriptors")
    #expect(report["errno"] == 24, "EMFILE")
    #expect(report["portsKept"] == 1)
    #expect(report["postsAfterwards"] == 1000)
    #expect(report["transferAfterwards"] == 1)
  }

  @Test("2.3 A message that the limit just allows arrives; one byte more is refused", arguments: Place.allCases)
  func messageLimit(_ place: Place) throws {
    let port = try place.open(.echo, options: ChannelOptions(messageLimitBytes: 200_001))
    try port.postMessage(bytes: Payload.make(1, byteCount: 200_001))
    #expect(portError { try port.postMessage(bytes: Payload.make(2, byteCount: 200_002)) } == "messageTooLarge")
    #expect(Payload.matches(try port.receiveSoon().bytes, 1, byteCount: 200_001))
  }
}

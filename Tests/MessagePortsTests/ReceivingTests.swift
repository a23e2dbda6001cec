import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("3 Receiving", .ownThread, .timeLimit(.minutes(10)))
struct ReceivingTests {
  // MARK: 3.1, 3.2

  @Test("3.1 Messages wait until a handler is set, which starts the port", arguments: Place.allCases)
  func handlerStarts(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<50)
    #expect(!puppet.port.isStarted)
    let received = Received(on: puppet.port)
    #expect(puppet.port.isStarted)
    try puppet.post(50..<100)
    #expect(try received.wait(for: 100) == Array(0..<100))
  }

  @Test(
    "3.1 `start()` may be called any number of times, before and after the handler is set", arguments: Place.allCases)
  func startIsIdempotent(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<10)
    puppet.port.start()
    puppet.port.start()
    let received = Received(on: puppet.port)
    puppet.port.start()
    try puppet.post(10..<20)
    puppet.port.start()
    #expect(try received.wait(for: 20) == Array(0..<20))
  }

  @Test("3.1 Setting a close or message-error handler does not start the port", arguments: Place.allCases)
  func otherHandlersDoNotStart(_ place: Place) throws {
    let puppet = try Puppet(place)
    puppet.port.onClose = { _ in }
    puppet.port.onMessageError = { _ in }
    #expect(!puppet.port.isStarted)
    try puppet.post(0..<3)
    #expect(try puppet.port.receiveNumbers(3) == [0, 1, 2])
    #expect(!puppet.port.isStarted)
  }

  @Test("3.2 Without a handler, messages stay queued even if the port was started", arguments: Place.allCases)
  func startedWithoutHandler(_ place: Place) throws {
    let puppet = try Puppet(place)
    puppet.port.start()
    try puppet.post(0..<10)
    try settle(place)
    // They are all still there to take.
    #expect(try puppet.port.receiveNumbers(10) == Array(0..<10))
  }

  @Test(
    "3.2 Removing the handler pauses delivery; a new one goes on where the old one stopped", arguments: Place.allCases)
  func removalPauses(_ place: Place) throws {
    let puppet = try Puppet(place)
    let received = Received(on: puppet.port)
    try puppet.post(0..<10)
    try received.wait(for: 10)
    puppet.port.onMessage = nil
    try puppet.post(10..<20)
    try settle(place)
    #expect(received.numbers.count == 10)
    #expect(puppet.port.isStarted)
    puppet.port.onMessage = received.messageHandler
    #expect(try received.wait(for: 20) == Array(0..<20))
  }

  @Test("3.2 A handler that removes itself has had its last message; the others wait", arguments: Place.allCases)
  func removalFromWithin(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<10)
    let received = Received()
    let port = puppet.port
    port.onMessage = { event in
      received.messageHandler(event)
      if received.events.count == 4 { port.onMessage = nil }
    }
    try received.wait(for: 4)
    try settle(place)
    #expect(received.numbers == [0, 1, 2, 3])
    #expect(try port.receiveNumbers(6) == Array(4..<10))
  }

  // MARK: 3.3

  @Test("3.3 Messages of all sizes arrive once, in order and unchanged, by handler", arguments: Place.allCases)
  func sizesToHandler(_ place: Place) throws {
    let seed = testSeed()
    print("seed \(seed)")
    let port = try place.open(.pourSizes, [seed])
    let messages = Collected<[UInt8]>()
    let closed = Promise<CloseReason>()
    port.onClose = closed.fulfil
    port.onMessage = { messages.append($0.bytes) }
    #expect(try closed.wait() == .closedByPeer)
    var all = messages.all[...]
    #expect(all.count == Payload.sizes(seed: seed).count)
    #expect(try FarRole.countRightSizes(seed: seed) { all.popFirst() ?? [] } == Payload.sizes(seed: seed).count)
  }

  @Test("3.3 So they do by blocking receive", arguments: Place.allCases)
  func sizesToReceive(_ place: Place) throws {
    let seed = testSeed()
    print("seed \(seed)")
    let port = try place.open(.pourSizes, [seed])
    let right = try FarRole.countRightSizes(seed: seed) { try port.receiveSoon().bytes }
    #expect(right == Payload.sizes(seed: seed).count)
    #expect(portError { _ = try port.receiveSoon() } == "peerClosed.closed by peer")
  }

  @Test(
    "3.3 So they do at the far end, whatever the size of the ring", arguments: Place.allCases,
    [0, 10_000, 200_000, 4 << 20])
  func sizesToFarEnd(_ place: Place, _ laneCapacityBytes: Int) throws {
    let seed = testSeed()
    print("seed \(seed)")
    let port = try place.open(.checkSizes, [seed], options: ChannelOptions(laneCapacityBytes: laneCapacityBytes))
    FarRole.postSizes(port, seed: seed)
    #expect(try port.receiveNumber() == Payload.sizes(seed: seed).count)
  }

  @Test("3.3 So they do when all wait before the first is read", arguments: Place.allCases)
  func sizesAllWaiting(_ place: Place) throws {
    let seed = testSeed()
    print("seed \(seed)")
    let channel = try MessageChannel()
    FarRole.postSizes(channel.port1, seed: seed)
    try place.place(channel.port2, .checkSizes, [seed])
    #expect(try channel.port1.receiveNumber() == Payload.sizes(seed: seed).count)
  }

  // MARK: 3.4

  @Test(
    "3.4 An event has the value and the ports in transfer order, new objects, open and not started",
    arguments: Place.allCases)
  func eventHasPorts(_ place: Place) throws {
    let puppet = try Puppet(place)
    let events = Collected<MessageEvent>()
    puppet.port.onMessage = events.append
    try puppet.postPorts(20)
    let ports = try events.wait(for: 1)[0].ports
    #expect(ports.count == 20)
    #expect(ports.allSatisfy { !$0.isStarted && !$0.isClosed && !$0.isDetached && !$0.isPeerClosed })
    for (index, port) in ports.enumerated() { #expect(try port.receiveNumber() == index) }
  }

  @Test("3.4 Ports come back as new objects; the old ones are detached and stay so", arguments: Place.allCases)
  func portsAreNewObjects(_ place: Place) throws {
    let port = try place.open(.echo), moved = try MessageChannel()
    try port.postMessage(bytes: [1], transfer: [moved.port1])
    let event = try port.receiveSoon()
    #expect(event.bytes == [1] && event.ports.count == 1)
    #expect(event.ports[0] !== moved.port1 && moved.port1.isDetached)
    #expect(try event.ports[0].isUsable(with: moved.port2))
  }

  @Test("3.4 Without ports, the list is empty; a message may be nothing but its ports", arguments: Place.allCases)
  func emptyList(_ place: Place) throws {
    let port = try place.open(.echo)
    try port.postMessage(bytes: [1, 2, 3])
    #expect(try port.receiveSoon().ports.isEmpty)
    try port.postMessage(bytes: [], transfer: [try MessageChannel().port1])
    let event = try port.receiveSoon()
    #expect(event.byteCount == 0 && event.bytes.isEmpty && event.ports.count == 1)
  }

  @Test(
    "3.4 An event's content can be had as bytes, as a plain value and decoded, any number of times",
    arguments: Place.allCases)
  func content(_ place: Place) throws {
    let port = try place.open(.echo)
    try port.postMessage(["one": [1, 2], "two": []])
    let event = try port.receiveSoon()
    for _ in 0..<2 { #expect(try event.decode([String: [Int]].self) == ["one": [1, 2], "two": []]) }
    #expect(event.withBytes { $0.byteCount } == event.byteCount && event.bytes.count == event.byteCount)
    try port.postMessage(bitwise: Int32(7))
    let plain = try port.receiveSoon()
    #expect(try plain.load(as: Int32.self) == 7)
    #expect(portError { _ = try plain.load(as: Int64.self) } == "decodingFailed")
  }

  // MARK: 3.7

  @Test(
    "3.7 A message that cannot be decoded goes to the message-error handler; those behind it are delivered",
    arguments: Place.allCases)
  func undecodable(_ place: Place) throws {
    let port = try place.open(.echo)
    let events = Collected<String>()
    let carried = try MessageChannel()
    let carriedClosed = Promise<CloseReason>()
    carried.port1.onClose = carriedClosed.fulfil
    port.onMessageError = { error in
      if case .undecodable(PortError.decodingFailed) = error {
        events.append("error")
      } else {
        events.append("\(error)")
      }
    }
    port.onMessage(of: [String].self) { value, event in events.append(value.joined()) }
    try port.postMessage(["a", "b"])
    try port.postMessage(bytes: [0xff, 0xff, 0xff, 0xff], transfer: [carried.port2])
    try port.postMessage(["c"])
    try port.postMessage(bytes: [])
    try port.postMessage(["d"])
    #expect(try events.wait(for: 5) == ["ab", "error", "c", "error", "d"])
    // Its ports are closed, and this one is not.
    _ = try carriedClosed.wait()
    #expect(!port.isClosed && !port.isPeerClosed)
  }

  @Test(
    "3.7 Without a message-error handler, such a message is dropped, its ports close, and the rest goes on",
    arguments: Place.allCases)
  func undecodableWithoutHandler(_ place: Place) throws {
    let port = try place.open(.echo)
    let carried = try MessageChannel()
    let carriedClosed = Promise<CloseReason>()
    carried.port1.onClose = carriedClosed.fulfil
    let values = Collected<[Int]>()
    port.onMessage(of: [Int].self) { value, _ in values.append(value) }
    try port.postMessage(bytes: [0xff, 0xff, 0xff], transfer: [carried.port2])
    try port.postMessage([1, 2, 3])
    #expect(try values.wait(for: 1) == [[1, 2, 3]])
    _ = try carriedClosed.wait()
  }

  @Test("3.7 A handler that fails to decode by itself gets the error, and the port goes on", arguments: Place.allCases)
  func decodingByHand(_ place: Place) throws {
    let port = try place.open(.echo)
    try port.postMessage(bytes: [0xff, 0xff, 0xff])
    try port.postMessage(bitwise: Int8(1))
    let first = try port.receiveSoon()
    #expect(portError { _ = try first.decode([String: Int].self) } == "decodingFailed")
    #expect(first.bytes == [0xff, 0xff, 0xff])
    let second = try port.receiveSoon()
    #expect { try second.load(as: Int.self) } throws: { error in
      guard case PortError.decodingFailed(let cause) = error else { return false }
      guard let mismatch = cause as? BitwiseSizeMismatch else { return false }
      return mismatch.expectedByteCount == 8 && mismatch.actualByteCount == 1
    }
  }

  @Test("3.3, 11.3 Messages whose ports cannot be had for want of descriptors are delivered once they can, in order")
  func waitingPorts() throws {
    let report = try LoneProcess.run("waitingPorts")
    #expect(report["beforeToHandler"] == 1)
    #expect(report["messagesToHandler"] == 7)
    #expect(report["errorsToHandler"] == 0)
    #expect(report["beforeByHand"] == 1)
    #expect(report["refusals"] == 3)
    #expect(report["messagesByHand"] == 7)
    #expect(report["errorsByHand"] == 0)
    #expect(report["beforeToTask"] == 1)
    #expect(report["messagesToTask"] == 7)
    #expect(report["errorsToTask"] == 0)
  }

  // MARK: 3.9

  @Test("3.9 Ports do not wait for each other: what was posted last may be received first", arguments: Place.allCases)
  func noOrderBetweenPorts(_ place: Place) throws {
    let puppets = try (0..<8).map { _ in try Puppet(place) }
    for number in 0..<20 {
      for puppet in puppets { try puppet.post(number..<number + 1) }
    }
    // The other way round, and each still in its own order.
    for puppet in puppets.reversed() {
      #expect(try Received(on: puppet.port).wait(for: 20) == Array(0..<20))
    }
  }
}

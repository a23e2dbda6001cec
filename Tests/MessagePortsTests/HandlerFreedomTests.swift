import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("5.1, 5.2 What a handler may do", .ownThread, .timeLimit(.minutes(10)))
struct HandlerFreedomTests {
  @Test("5.1 A handler may post, on its own port and on others", arguments: Place.allCases)
  func post(_ place: Place) throws {
    let puppet = try Puppet(place)
    let other = try MessageChannel()
    let port = puppet.port
    port.onMessage = { event in
      try? port.postMessage(bytes: event.bytes)
      try? other.port1.postMessage(bytes: event.bytes)
    }
    try puppet.post(0..<500)
    #expect(try other.port2.receiveNumbers(500) == Array(0..<500))
    #expect(try puppet.receive(500) == 500)
  }

  @Test(
    "5.1 A handler may create channels and hand out their ports, and set handlers on them", arguments: Place.allCases)
  func create(_ place: Place) throws {
    let port = try place.open(.echo)
    let results = Collected<Int>()
    port.onMessage = { event in
      // What comes back is a port on which the number waits.
      if let first = event.ports.first {
        first.onMessage = { inner in
          results.append((try? inner.load(as: Int.self)) ?? -1); withExtendedLifetime(first) {}
        }
        return
      }
      guard let channel = try? MessageChannel() else { return }
      try? channel.port1.postMessage(bytes: event.bytes)
      try? port.postMessage(bytes: [], transfer: [channel.port2])
      Kept.keep(channel.port1)
    }
    try port.post(0..<20)
    #expect(try results.wait(for: 20).sorted() == Array(0..<20))
  }

  @Test("5.1 A handler may let go of the last reference to its own port", arguments: Place.allCases)
  func drop(_ place: Place) throws {
    let holder = Mutex<MessagePort?>(try place.open(.pour, [1000]))
    let received = Received()
    let closed = Promise<Void>()
    weak let weakPort = holder.withLock { $0 }
    weakPort?.onClose = { _ in closed.fulfil() }
    weakPort?.onMessage = { event in
      received.messageHandler(event)
      // The library keeps a started port that has a handler, so this changes nothing.
      holder.withLock { $0 = nil }
    }
    try closed.wait()
    #expect(received.numbers == Array(0..<1000))
    try waitUntil("the port to be released") { weakPort == nil }
  }

  @Test("5.1 A handler may set and remove handlers of its port, its close handler too", arguments: Place.allCases)
  func setHandlers(_ place: Place) throws {
    let puppet = try Puppet(place)
    let received = Received()
    let port = puppet.port
    try puppet.post(0..<10)
    port.onMessage = { event in
      received.messageHandler(event)
      port.onClose = { reason in
        // Whatever is set within the last event is not called any more.
        port.onClose = { _ in received.events.append(.message(-1)) }
        port.onMessage = { _ in received.events.append(.message(-2)) }
        received.closeHandler(reason)
      }
      port.onMessageError = nil
    }
    try received.wait(for: 10)
    try puppet.close()
    let events = try received.waitForClose()
    try settle()
    #expect(events == (0..<10).map { .message($0) } + [.close(.closedByPeer)] && received.events.count == 11)
  }

  @Test("5.1 A close handler may close, drop or try to use its port", arguments: Place.allCases)
  func insideClose(_ place: Place) throws {
    let puppet = try Puppet(place)
    let results = Collected<String>()
    let port = puppet.port
    port.onClose = { _ in
      results.append(portError { try port.postMessage(bitwise: 1) })
      results.append(port.isPeerClosed ? "peer closed" : "peer open")
      port.close()
      results.append(portError { try port.postMessage(bitwise: 1) })
    }
    try puppet.close()
    #expect(try results.wait(for: 3) == ["none", "peer closed", "closed"])
  }

  @Test("5.1 A message-error handler may close its port: nothing is called afterwards", arguments: Place.allCases)
  func closeInsideError(_ place: Place) throws {
    let port = try place.open(.echo)
    let calls = Collected<String>()
    port.onMessageError = { _ in
      calls.append("error")
      port.close()
    }
    for message in [["a"], nil, ["b"], nil] {
      if let message { try port.postMessage(message) } else { try port.postMessage(bytes: [0xff, 0xff, 0xff]) }
    }
    port.onMessage(of: [String].self) { value, _ in calls.append(value.joined()) }
    try calls.wait(for: 2)
    try settle(place)
    #expect(calls.all == ["a", "error"])
  }

  @Test("5.1 A handler may close other ports, and both ends of its own channel", arguments: Place.allCases)
  func closeOthers(_ place: Place) throws {
    let channel = try MessageChannel(), other = try Puppet(place)
    let received = Received(), otherReceived = Received(on: other.port)
    channel.port1.onClose = received.closeHandler
    channel.port1.onMessage = { event in
      received.messageHandler(event)
      guard received.events.count == 3 else { return }
      channel.port2.close()
      other.port.close()
    }
    try channel.port2.post(0..<3)
    #expect(try received.waitForClose() == (0..<3).map { .message($0) } + [.close(.closedByPeer)])
    #expect(try other.awaitClose() == 0)
    try settle()
    #expect(otherReceived.events.count == 0)
  }

  @Test(
    "5.2 If a handler transfers its port, what is still queued goes to the new owner", arguments: Place.allCases,
    [0, 1, 30])
  func transferInHandler(_ place: Place, _ countBefore: Int) throws {
    let channel = try MessageChannel()
    try channel.port2.post(0..<50)
    let received = Received()
    let carrier = try place.open(.echo)
    let port = channel.port1
    port.onClose = received.closeHandler
    port.onMessage = { event in
      received.messageHandler(event)
      if received.events.count == countBefore + 1 { try? carrier.postMessage(bytes: [], transfer: [port]) }
    }
    let moved = try carrier.receiveSoon().ports[0]
    try channel.port2.post(50..<60)
    // The message may be here before the handler's post has returned.
    try waitUntil("the old object to be detached") { port.isDetached }
    #expect(try moved.receiveNumbers(60 - countBefore - 1) == Array(countBefore + 1..<60))
    #expect(received.events.all == (0...countBefore).map { .message($0) })
    channel.port2.close()
    let end = Received(on: moved)
    #expect(try end.waitForClose() == [.close(.closedByPeer)])
    #expect(received.closeCount == 0)
  }
}

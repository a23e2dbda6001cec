import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("4 Closing", .ownThread, .timeLimit(.minutes(10)))
struct ClosingTests {
  // MARK: 4.1, 4.3

  /// Ways in which the far end of a channel comes to its end.
  enum Way: String, CaseIterable { case close, release, destroyedUnread, destroyedUnreadInUnread }

  @Test(
    "4.1, 4.3 However an end closes, the other receives one close event, and the closing one none",
    arguments: Place.allCases, Way.allCases)
  func waysToClose(_ place: Place, _ way: Way) throws {
    let channel = try MessageChannel()
    let received = Received(on: channel.port1)
    switch way {
    case .close:
      channel.port2.onClose = { _ in received.events.append(.message(-1)) }
      try place.place(channel.port2, .close)
    case .release: try place.place(channel.port2, .drop)
    case .destroyedUnread:
      // The far end holds a port in whose queue it waits, and closes that.
      let carrier = try MessageChannel()
      let puppet = try Puppet(place, taking: carrier.port2, near: carrier.port1)
      try carrier.port1.postMessage(bytes: [], transfer: [channel.port2])
      try puppet.close()
    case .destroyedUnreadInUnread:
      let carrier = try MessageChannel(), inner = try MessageChannel()
      let puppet = try Puppet(place, taking: carrier.port2, near: carrier.port1)
      try inner.port1.postMessage(bytes: [], transfer: [channel.port2])
      try carrier.port1.postMessage(bytes: [], transfer: [inner.port2])
      try puppet.release()
    }
    try received.waitForClose()
    try settle(place)
    #expect(received.closeCount == 1 && received.numbers == [])
    #expect(channel.port1.isPeerClosed && !channel.port1.isClosed)
  }

  @Test("4.1 An end closes when its owner's process exits, and when it is killed", arguments: ["exit", "kill"])
  func processEnds(_ how: String) throws {
    let process = FarProcess()
    let puppet = try Puppet(in: process)
    let received = Received(on: puppet.port)
    try puppet.post(0..<100)
    try received.wait(for: 100)
    if how == "exit" { try puppet.exit(0) } else { try process.kill() }
    let events = try received.waitForClose()
    guard case .close(.peerExited)? = events.last else { Issue.record("\(events.suffix(1))"); return }
    try settle()
    #expect(received.closeCount == 1)
  }

  @Test("4.3 The reason tells an owner who closed from one who vanished", arguments: Place.allCases)
  func reasons(_ place: Place) throws {
    let puppet = try Puppet(place)
    let received = Received(on: puppet.port)
    try puppet.close()
    #expect(try received.waitForClose() == [.close(.closedByPeer)])
  }

  @Test("4.3 When both ends close at once, neither is told, or one is, and nobody twice", arguments: Place.allCases)
  func bothClose(_ place: Place) throws {
    for _ in 0..<100 {
      let channel = try MessageChannel()
      let (port1, port2) = place == .thisProcess ? (channel.port1, channel.port2) : try share(channel)
      let first = Received(), second = Received()
      port1.onClose = first.closeHandler
      port2.onClose = second.closeHandler
      try onThreads(2) { ($0 == 0 ? port1 : port2).close() }
      try settle()
      #expect(first.closeCount + second.closeCount <= 1)
    }
  }

  // MARK: 4.2

  @Test("4.2 `close()` may be called again, by any number of threads", arguments: Place.allCases)
  func closeIsIdempotent(_ place: Place) throws {
    let channel = try MessageChannel()
    try place.place(channel.port2, .hold)
    let port = try place.open(.echo)
    try onThreads(4) { _ in for _ in 0..<100 { port.close() } }
    #expect(port.isClosed)
    port.close()
    #expect(portError { try channel.port1.postMessage(bytes: [], transfer: [port]) } == "invalidTransfer.isClosed")
  }

  @Test("4.2 A closed port cannot be transferred, and its handlers and messages are gone", arguments: Place.allCases)
  func closedPort(_ place: Place) throws {
    let puppet = try Puppet(place)
    let received = Received()
    puppet.port.onClose = received.closeHandler
    try puppet.post(0..<10)
    puppet.port.close()
    puppet.port.onMessage = received.messageHandler
    try puppet.post(10..<20)
    try puppet.close()
    try settle(place)
    #expect(received.events.count == 0)
    #expect(portError { _ = try puppet.port.tryReceive() } == "closed")
    let carrier = try place.open(.echo)
    #expect(portError { try carrier.postMessage(bytes: [], transfer: [puppet.port]) } == "invalidTransfer.isClosed")
  }

  @Test(
    "4.2 Closing from within the handler, in the middle of many messages: it is not called again",
    arguments: Place.allCases)
  func closeInHandler(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<100)
    let received = Received()
    let port = puppet.port
    port.onClose = received.closeHandler
    port.onMessage = { event in
      received.messageHandler(event)
      if received.events.count == 10 { port.close() }
    }
    #expect(try puppet.awaitClose() == 0)
    try settle(place)
    #expect(received.numbers == Array(0..<10) && received.closeCount == 0)
  }

  @Test(
    "4.2 Closing from another thread: no call begins after `close()` has returned, except one that was on its way",
    arguments: Place.allCases)
  func closeFromOtherThread(_ place: Place) throws {
    for _ in 0..<50 {
      let port = try place.open(.pour, [500])
      let isClosed = Mutex(false)
      let calls = Collected<Void>(), late = Mutex(0)
      port.onMessage = { _ in
        if isClosed.withLock({ $0 }) { late.withLock { $0 += 1 } }
        calls.append(())
      }
      try calls.wait(for: 1)
      port.close()
      isClosed.withLock { $0 = true }
      try settle()
      // The loop may have taken a message for the handler just before; that call and `close()` are simultaneous.
      #expect(late.withLock { $0 } <= 1)
    }
  }

  @Test("4.2 Unread messages are discarded at one's own close, and the ports in them close", arguments: Place.allCases)
  func unreadAtOwnClose(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<10)
    try puppet.postPorts(3)
    // A port of ours that comes back and is not read.
    let echo = try place.open(.echo), carried = try MessageChannel(), marker = try MessageChannel()
    try marker.port2.postMessage(bitwise: 1)
    let closed = Collected<CloseReason>()
    carried.port1.onClose = closed.append
    try echo.postMessage(bytes: [], transfer: [carried.port2])
    try waitUntil("the message to come back") { echo.queuedByteCount > 0 }
    echo.close()
    puppet.port.close()
    try closed.wait(for: 1)
    #expect(carried.port1.isPeerClosed)
  }

  @Test("4.2 Ports nested in unread messages close, however deep the nesting")
  func deeplyNested() throws {
    // Each port waits in a message that waits at the next.
    let innermost = try MessageChannel()
    let closed = Promise<CloseReason>()
    innermost.port1.onClose = closed.fulfil
    var port = innermost.port2
    for _ in 0..<20_000 {
      let channel = try MessageChannel()
      try channel.port1.postMessage(bytes: [], transfer: [port])
      port = channel.port2
    }
    port.close()
    _ = try closed.wait()
  }

  // MARK: 4.4

  @Test(
    "4.4 All messages posted before the end closed come first, and `close` is the last event", arguments: Place.allCases
  )
  func messagesBeforeClose(_ place: Place) throws {
    for count in [0, 1, 63, 64, 65, 5000] {
      let received = Received(on: try place.open(.pour, [count]))
      let events = try received.waitForClose()
      #expect(events == (0..<count).map { .message($0) } + [.close(.closedByPeer)])
    }
  }

  @Test(
    "4.4 This also holds when the process that posted them has exited, however large they were",
    arguments: [0, 8, 1 << 20, 5 << 20])
  func messagesOfExitedProcess(_ byteCount: Int) throws {
    let process = FarProcess()
    let puppet = try Puppet(in: process)
    try puppet.post(0..<1000)
    try puppet.post(byteCount: byteCount)
    try puppet.post(0..<10)
    try puppet.exit(0)
    try waitUntil("the process to end") { !process.worker.isRunning }
    #expect(puppet.port.isPeerClosed)
    #expect(try puppet.port.receiveNumbers(1000) == Array(0..<1000))
    #expect(try puppet.port.receiveSoon().bytes == patternBytes(count: byteCount, seed: 0))
    let received = Received(on: puppet.port)
    let events = try received.waitForClose()
    #expect(events.dropLast() == (0..<10).map { .message($0) }[...])
    #expect(received.closeCount == 1)
  }

  // MARK: 4.5, 4.6

  @Test("4.5 If nothing is queued, `close` comes without `start()`", arguments: Place.allCases)
  func closeWithoutStart(_ place: Place) throws {
    let puppet = try Puppet(place)
    let received = Received()
    puppet.port.onClose = received.closeHandler
    try puppet.close()
    try received.waitForClose()
    #expect(!puppet.port.isStarted)
  }

  @Test(
    "4.5 If messages wait, `close` comes after they have been consumed, by handler or by hand",
    arguments: Place.allCases, ["handler", "tryReceive", "receive"])
  func closeWaits(_ place: Place, _ consumer: String) throws {
    let puppet = try Puppet(place)
    let received = Received()
    puppet.port.onClose = received.closeHandler
    try puppet.post(0..<3)
    try puppet.close()
    try settle(place)
    #expect(received.closeCount == 0 && puppet.port.isPeerClosed)
    switch consumer {
    case "handler": puppet.port.onMessage = received.messageHandler
    case "receive": _ = try puppet.port.receiveNumbers(3)
    default:
      for number in 0..<3 {
        #expect(received.closeCount == 0)
        guard case .message(let event) = try puppet.port.tryReceive() else { Issue.record("message lost"); return }
        #expect(try event.load(as: Int.self) == number)
      }
    }
    let events = try received.waitForClose()
    #expect(events == (consumer == "handler" ? (0..<3).map { .message($0) } : []) + [.close(.closedByPeer)])
  }

  @Test(
    "4.5 A started port whose handler was removed gets `close` only when its messages are taken",
    arguments: Place.allCases)
  func closeWaitsForHandler(_ place: Place) throws {
    let puppet = try Puppet(place)
    let received = Received(on: puppet.port)
    try puppet.post(0..<1)
    try received.wait(for: 1)
    puppet.port.onMessage = nil
    try puppet.post(1..<3)
    try puppet.close()
    try settle(place)
    #expect(received.events.all == [.message(0)])
    puppet.port.onMessage = received.messageHandler
    #expect(try received.waitForClose() == [.message(0), .message(1), .message(2), .close(.closedByPeer)])
  }

  @Test("4.6 A close handler set after the fact is called, once", arguments: Place.allCases)
  func lateHandler(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.close()
    try settle(place)
    let received = Received(), second = Received()
    puppet.port.onClose = received.closeHandler
    try received.waitForClose()
    // Whoever comes later is not told again.
    puppet.port.onClose = second.closeHandler
    puppet.port.start()
    try settle()
    #expect(received.closeCount == 1 && second.closeCount == 0)
  }

  @Test("4.6 So is one set after all messages and the end have been seen by other means", arguments: Place.allCases)
  func lateHandlerAfterMessages(_ place: Place) throws {
    let port = try place.open(.pour, [100])
    let received = Received()
    port.onMessage = received.messageHandler
    try received.wait(for: 100)
    try waitUntil("the peer to be closed") { port.isPeerClosed }
    try settle(place)
    #expect(portError { _ = try port.receiveSoon() } == "peerClosed.closed by peer")
    port.onClose = received.closeHandler
    #expect(try received.waitForClose().last == .close(.closedByPeer))
  }

  @Test("4.6 A close handler that is replaced before the end is not called; the new one is", arguments: Place.allCases)
  func replacedHandler(_ place: Place) throws {
    let puppet = try Puppet(place)
    let old = Received(), new = Received()
    puppet.port.onClose = old.closeHandler
    puppet.port.onClose = new.closeHandler
    try puppet.close()
    try new.waitForClose()
    #expect(old.closeCount == 0)
  }

  @Test("4.2, 4.5 `isPeerClosed` tells at once, with messages waiting or without", arguments: Place.allCases)
  func peerClosedAtOnce(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<3)
    #expect(!puppet.port.isPeerClosed)
    try puppet.close()
    #expect(puppet.port.isPeerClosed)
    #expect(try puppet.port.receiveNumbers(3) == [0, 1, 2])
    #expect(puppet.port.isPeerClosed)
  }

  // MARK: 4.9

  @Test("4.9 After the last event the handlers are released", arguments: Place.allCases, [true, false])
  func handlersAreReleased(_ place: Place, _ hasCloseHandler: Bool) throws {
    let puppet = try Puppet(place)
    weak var token: Token?
    do {
      let strong = Token()
      token = strong
      puppet.port.onMessage = { _ in withExtendedLifetime(strong) {} }
      puppet.port.onMessageError = { _ in withExtendedLifetime(strong) {} }
      if hasCloseHandler { puppet.port.onClose = { _ in withExtendedLifetime(strong) {} } }
    }
    try puppet.post(0..<10)
    #expect(token != nil)
    try puppet.close()
    try waitUntil("the handlers to be released") { token == nil }
  }

  @Test(
    "4.9 They are released by one's own close as well, and by a transfer", arguments: Place.allCases,
    ["close", "transfer"])
  func handlersAreReleasedAtOwnClose(_ place: Place, _ way: String) throws {
    let port = try place.open(.echo)
    weak var token: Token?
    do {
      let strong = Token()
      token = strong
      port.onMessage = { _ in withExtendedLifetime(strong) {} }
      port.onMessageError = { _ in withExtendedLifetime(strong) {} }
      port.onClose = { _ in withExtendedLifetime(strong) {} }
    }
    #expect(token != nil)
    if way == "close" { port.close() } else { try place.place(port, .hold) }
    try waitUntil("the handlers to be released") { token == nil }
  }
}

final class Token: Sendable {}

/// Lets a channel lie in shared memory with both ends here: they go to another process and come back.
func share(_ channel: MessageChannel) throws -> (MessagePort, MessagePort) {
  let echo = try Place.anotherProcess.open(.echo)
  try echo.postMessage(bytes: [], transfer: [channel.port1, channel.port2])
  let ports = try echo.receiveSoon().ports
  return (ports[0], ports[1])
}

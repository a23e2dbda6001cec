import Glibc
import TestSupport
import Testing

@testable import MessagePorts

/// What ports may be in a set, who hears of them, and how long.
@Suite("Ports of a set", .timeLimit(.minutes(3)))
struct PortSetMemberTests: PortSetWaiting {
  // MARK: 14.6

  @Test("14.6 A port is in one set, and has no message handler when it comes into one; nothing has changed otherwise")
  func refusals() throws {
    let channel = try MessageChannel(), other = try MessageChannel()
    let set = try PortSet([channel.port1])
    for victim in [set, PortSet()] {
      #expect(portError { try victim.add(channel.port1) } == "notWaitable.isInSet")
    }
    #expect(portError { _ = try PortSet([other.port1, channel.port1]) } == "notWaitable.isInSet")
    #expect(portError { _ = try MessagePort.firstReady(of: [other.port1, other.port1]) } == "notWaitable.isInSet")
    other.port1.onMessage = { _ in }
    #expect(portError { try set.add(other.port1) } == "notWaitable.hasMessageHandler")
    other.port1.onMessage = nil
    #expect(set.count == 1)
    try set.add(other.port1)
    #expect(set.count == 2)
    let closed = try MessageChannel().port1, detached = try MessageChannel().port1
    closed.close()
    try other.port2.postMessage(transfer: [detached])
    #expect(portError { try set.add(closed) } == "closed")
    #expect(portError { try set.add(detached) } == "detached")
    #expect(set.count == 2)
    #expect(portError { _ = try MessagePort.firstReady(of: []) } == "invalidOption")
  }

  @Test(
    "14.6 A handler that is set later takes the messages, and so does a task; the set hears of what comes once it is gone",
    arguments: Place.allCases)
  func handlerFirst(_ place: Place) async throws {
    let port = try place.open(.echo)
    let set = try PortSet([port])
    let received = Received()
    port.onMessage = received.messageHandler
    try port.postMessage(bitwise: 1)
    try received.wait(for: 1)
    #expect(try set.nextReady() == nil)
    port.onMessage = nil
    try port.postMessage(bitwise: 2)
    #expect(try await first(set, .blocking) === port)
    #expect(try port.receiveNumber() == 2)
    #expect(try set.nextReady() == nil)
    let next = Task {
      var messages = port.messages.makeAsyncIterator()
      return try await messages.next()?.load(as: Int.self)
    }
    try await Task.sleep(for: .milliseconds(20))
    try port.postMessage(bitwise: 3)
    #expect(try await next.value == 3)
    #expect(try set.nextReady() == nil)
    try port.postMessage(bitwise: 4)
    #expect(try await first(set, .task) === port)
  }

  @Test("14.6 While a handler has the messages, the set tells of nothing but the end", arguments: Place.allCases)
  func endBehindHandler(_ place: Place) async throws {
    let far: FarProcess? = place == .anotherProcess ? FarProcess() : nil
    let channel = try MessageChannel()
    let port = try far?.open(.echo) ?? channel.port1
    let set = try PortSet([port])
    let received = Received()
    port.onMessage = received.messageHandler
    try (far == nil ? channel.port2 : port).postMessage(bitwise: 1)
    try received.wait(for: 1)
    #expect(try set.nextReady() == nil)
    if let far { try far.kill() } else { channel.port2.close() }
    #expect(try await first(set, .blocking) === port)
    guard case .closed = try port.tryReceive() else {
      Issue.record("not closed")
      return
    }
  }

  @Test("14.6 A message that a handler has not had yet is its own, and none of the set's")
  func behindHandler() throws {
    let loop = EventLoop(name: "held"), channel = try MessageChannel()
    channel.port1.setEventLoop(loop)
    let set = try PortSet([channel.port1])
    try channel.port2.postMessage(bitwise: 1)
    let isHeld = Promise<Void>(), goesOn = Promise<Void>()
    loop.run {
      isHeld.fulfil()
      try? goesOn.wait()
    }
    try isHeld.wait()
    let received = Received()
    channel.port1.onMessage = received.messageHandler
    #expect(try set.nextReady() == nil)
    goesOn.fulfil()
    #expect(try received.wait(for: 1) == [1])
    #expect(try set.nextReady() == nil)
    loop.stop()
  }

  // MARK: 14.7

  @Test("14.7 A wait ends when its time is over, or its task is cancelled; several may wait, and each is told")
  func ends() async throws {
    let channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    #expect(portError { _ = try set.firstReady(timeout: .zero) } == "timedOut")
    #expect(try await onThread { portError { _ = try set.firstReady(timeout: .milliseconds(20)) } } == "timedOut")
    #expect(
      try await onThread { portError { _ = try MessagePort.firstReady(of: [channel.port2], timeout: .zero) } }
        == "timedOut")
    func code(_ waiting: Task<MessagePort?, any Error>) async -> PortError.Code? {
      do {
        _ = try await waiting.value
        return nil
      } catch {
        return (error as? PortError)?.code
      }
    }
    let before = Task {
      unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
      return port(try await set.firstReady())
    }
    #expect(await code(before) == .cancelled)
    let meanwhile = Task { port(try await set.firstReady()) }
    try await Task.sleep(for: .milliseconds(20))
    meanwhile.cancel()
    #expect(await code(meanwhile) == .cancelled)
    let told = (0..<3).map { index in
      Task { try await first(set, index == 0 ? .task : .blocking) }
    }
    try await Task.sleep(for: .milliseconds(20))
    try channel.port2.postMessage(bitwise: 1)
    for task in told { #expect(try await task.value === channel.port1) }
  }

  @Test(
    "14.7 A list of ports is waited for without making a set, and they are free afterwards", arguments: Place.allCases)
  func list(_ place: Place) async throws {
    let ports = try (0..<3).map { _ in try place.open(.echo) }
    for number in 0..<6 {
      let port = ports[number % 3]
      try port.postMessage(bitwise: number)
      let ready =
        number % 2 == 0
        ? try await onThread { try patiently("a port") { try MessagePort.firstReady(of: ports, timeout: $0) } }
        : try await soon("a port") { try await MessagePort.firstReady(of: ports) }
      #expect(ready === port)
      #expect(try port.receiveNumber() == number)
    }
    for port in ports { port.onMessage = { _ in } }
  }

  // MARK: 14.8

  @Test(
    "14.8 A set keeps its ports; once it is released they are free, and have what they had", arguments: Place.allCases)
  func keeps(_ place: Place) async throws {
    var port: MessagePort? = try place.open(.echo)
    weak let seen = port
    var set: PortSet? = try PortSet([port!])
    try port!.postMessage(bitwise: 1)
    port = nil
    #expect(seen != nil)
    port = try await first(set!, .blocking)
    set = nil
    #expect(try PortSet([port!]).nextReady() != nil)
    let received = Received(on: port!)
    #expect(try received.wait(for: 1) == [1])
    port = nil
    // Kept by its handler, as any.
    #expect(seen != nil)
    seen?.close()
    try await eventually("the release of the port") { seen == nil }
  }

  @Test("14.8 Ports that nobody else has close with their set, and a set that was waited for leaves nothing behind")
  func closesWithSet() async throws {
    let channel = try MessageChannel(), peer: MessagePort
    do {
      let lost = try MessageChannel()
      peer = lost.port2
      let set = try PortSet([channel.port1, lost.port1])
      let waiting = Task { try await set.firstReady() }
      try await Task.sleep(for: .milliseconds(10))
      waiting.cancel()
      _ = await waiting.result
    }
    try await eventually("the close of the port that only the set had") { peer.isPeerClosed }
    channel.port1.onMessage = { _ in }
    #expect(!channel.port2.isPeerClosed)
  }

  @Test("14.8 A port that is taken out is told of no more, whatever it has")
  func remove() async throws {
    let port = try Place.anotherProcess.open(.echo), other = try MessageChannel()
    let set = try PortSet([port, other.port1])
    try port.postMessage(bitwise: 1)
    #expect(try await first(set, .blocking) === port)
    #expect(set.remove(port) && !set.remove(port))
    #expect(try set.nextReady() == nil)
    try PortSet([port]).add(other.port2)
    #expect(try await onThread { try port.receiveNumber() } == 1)
    // Places are used again.
    for _ in 0..<100 {
      try set.add(port)
      set.remove(port)
    }
    try port.postMessage(bitwise: 2)
    try set.add(port)
    #expect(try await first(set, .blocking) === port)
  }
}

import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("5.3, 5.4 Fairness and cost", .ownThread, .timeLimit(.minutes(10)))
struct FairnessTests {
  @Test("5.3 A port with unlimited traffic does not starve the other ports of its loop", arguments: Place.allCases)
  func otherPorts(_ place: Place) throws {
    let loop = EventLoop(name: "flooded")
    defer { loop.stop() }
    let flood = try Flood(on: loop)
    defer { flood.stop() }
    let port = try place.open(.echo)
    port.setEventLoop(loop)
    let received = Received(on: port)
    for number in 0..<50 {
      try port.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
    #expect(flood.isGoingOn)
  }

  @Test("5.3 Nor does a peer that posts faster than its messages are handled")
  func floodingPeer() throws {
    let process = FarProcess()
    let confirmations = try MessageChannel()
    let flooded = try process.open(.pourForEver, extra: [confirmations.port2])
    let count = Mutex(0)
    confirmations.port1.onMessage = { _ in }
    flooded.onMessage = { _ in
      let number = count.withLock {
        $0 += 1; return $0
      }
      if number % 64 == 0 { try? confirmations.port1.postMessage(bitwise: number) }
    }
    try waitUntil("the flood to begin") { count.withLock { $0 } > 1000 }
    let port = try Place.anotherProcess.open(.echo)
    let received = Received(on: port)
    for number in 0..<100 {
      try port.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
    let before = count.withLock { $0 }
    try waitUntil("the flood to go on") { count.withLock { $0 } > before }
    try process.kill()
  }

  @Test("5.3 Nor tasks and timers on the same executor, nor does work there starve ports")
  func tasks() async throws {
    let loop = EventLoop(name: "flooded")
    defer { loop.stop() }
    let flood = try Flood(on: loop), isOver = Flag()
    defer { flood.stop() }
    let steps = Collected<Int>()
    Task(executorPreference: loop) {
      for step in 0..<50 {
        steps.append(step)
        await Task.yield()
      }
      try await Task.sleep(for: .milliseconds(1))
      steps.append(50)
    }
    try await steps.wait(for: 51)
    #expect(flood.isGoingOn)
    flood.stop()
    // The other way round: a task that never lets go of the executor for long.
    let task = Task(executorPreference: loop) { while !isOver.isSet { await Task.yield() } }
    defer { isOver.set() }
    let channel = try MessageChannel(loop: loop)
    let received = Received(on: channel.port1)
    for number in 0..<50 {
      try channel.port2.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
    isOver.set()
    await task.value
  }

  @Test("5.3 The death of a peer is noticed while another port is flooded")
  func deathDuringFlood() throws {
    let loop = EventLoop(name: "flooded")
    defer { loop.stop() }
    let flood = try Flood(on: loop)
    defer { flood.stop() }
    let process = FarProcess()
    let port = try process.open(.hold)
    port.setEventLoop(loop)
    let received = Received(on: port)
    try process.kill()
    try received.waitForClose()
    #expect(flood.isGoingOn)
  }

  @Test("5.3 A message that causes another message does not deepen the stack")
  func stack() throws {
    let report = try LoneProcess.run("pingPong")
    #expect(try #require(report["stackBytes"]) < 4096)
  }

  @Test("5.4 Waiting costs no processor time, with two thousand started ports")
  func idle() throws {
    let report = try LoneProcess.run("idle")
    // Of a second. Reading the clock and sleeping take some.
    #expect(try #require(report["microseconds"]) < 10_000)
  }

  @Test("5.4 The number of threads does not grow with the number of ports")
  func threads() throws {
    let report = try LoneProcess.run("threads")
    #expect(report["more"] == 0)
  }
}

/// Two ports of a loop that keep answering each other with several messages, so that the loop is never idle.
private final class Flood: Sendable {
  private let channel: MessageChannel
  private let count = Mutex(0)

  init(on loop: EventLoop) throws {
    channel = try MessageChannel(loop: loop)
    for (port, peer) in [(channel.port1, channel.port2), (channel.port2, channel.port1)] {
      port.onMessage = { [weak self, weak port] event in
        self?.count.withLock { $0 += 1 }
        try? port?.postMessage(bytes: event.bytes)
      }
      // More are under way all the time than a port is given in one turn.
      for number in 0..<150 { try peer.postMessage(bitwise: number) }
    }
    try waitUntil("the flood to begin") { count.withLock { $0 } > 1000 }
  }

  var isGoingOn: Bool {
    let before = count.withLock { $0 }
    return (try? waitUntil("the flood to go on") { count.withLock { $0 } > before }) != nil
  }

  func stop() {
    channel.port1.close()
    channel.port2.close()
  }
}

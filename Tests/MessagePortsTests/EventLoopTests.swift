import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("5.3 Event loops of one's own", .ownThread, .timeLimit(.minutes(10)))
struct EventLoopTests {
  @Test(
    "Handlers of a port run on the loop that its channel was made with, or that it was moved to",
    arguments: Place.allCases)
  func handlersRunOnTheirLoop(_ place: Place) throws {
    let loop = EventLoop(name: "own")
    defer { loop.stop() }
    let puppet = try Puppet(place)
    #expect(puppet.port.eventLoop === EventLoop.default)
    puppet.port.setEventLoop(loop)
    #expect(puppet.port.eventLoop === loop)
    let places = Collected<Bool>()
    puppet.port.onClose = { _ in places.append(loop.isCurrent && !EventLoop.default.isCurrent) }
    puppet.port.onMessage = { _ in places.append(loop.isCurrent && !EventLoop.default.isCurrent) }
    try puppet.post(0..<100)
    try puppet.close()
    #expect(try places.wait(for: 101) == Array(repeating: true, count: 101))
    #expect(!loop.isCurrent)
  }

  @Test("A channel may be made with a loop; ports that it receives are served by it too")
  func channelWithLoop() throws {
    let loop = EventLoop(name: "own")
    defer { loop.stop() }
    let channel = try MessageChannel(loop: loop), carried = try MessageChannel(loop: loop)
    #expect(channel.port1.eventLoop === loop && channel.port2.eventLoop === loop)
    try channel.port1.postMessage(bytes: [], transfer: [carried.port1])
    #expect(try channel.port2.receiveSoon().ports[0].eventLoop === loop)
  }

  @Test("A slow handler delays the ports of its own loop only", arguments: Place.allCases)
  func slowHandler(_ place: Place) throws {
    let slow = EventLoop(name: "slow")
    defer { slow.stop() }
    let isBlocked = Promise<Void>(), mayGoOn = Promise<Void>()
    let blocked = try Puppet(place), victim = try Puppet(place), free = try Puppet(place)
    blocked.port.setEventLoop(slow)
    victim.port.setEventLoop(slow)
    blocked.port.onMessage = { _ in
      isBlocked.fulfil()
      _ = try? mayGoOn.wait()
    }
    let victimReceived = Received(on: victim.port), freeReceived = Received(on: free.port)
    try blocked.post(0..<1)
    try isBlocked.wait()
    try victim.post(0..<3)
    try free.post(0..<3)
    try freeReceived.wait(for: 3)
    #expect(victimReceived.events.count == 0)
    mayGoOn.fulfil()
    #expect(try victimReceived.wait(for: 3) == [0, 1, 2])
  }

  @Test(
    "A port that is moved to another loop runs its handlers there from the next event on", arguments: Place.allCases)
  func moveFromHandler(_ place: Place) throws {
    let loops = [EventLoop(name: "first"), EventLoop(name: "second")]
    defer { loops.forEach { $0.stop() } }
    let puppet = try Puppet(place)
    let port = puppet.port
    port.setEventLoop(loops[0])
    try puppet.post(0..<200)
    let places = Collected<Bool>()
    let current = Mutex(0)
    port.onMessage = { _ in
      let index = current.withLock { $0 }
      places.append(loops[index].isCurrent)
      if places.count % 10 == 0 {
        current.withLock { $0 = 1 - index }
        port.setEventLoop(loops[1 - index])
      }
    }
    #expect(try places.wait(for: 200) == Array(repeating: true, count: 200))
    port.close()
  }

  @Test(
    "A port that is moved away from a loop that is busy in its handler is not called on both", arguments: Place.allCases
  )
  func moveWhileBusy(_ place: Place) async throws {
    let loops = [EventLoop(name: "first"), EventLoop(name: "second")]
    defer { loops.forEach { $0.stop() } }
    let puppet = try Puppet(place, options: ChannelOptions(queueLimitBytes: 1 << 20))
    let port = puppet.port
    port.setEventLoop(loops[0])
    let overlap = OverlapDetector(), received = Received()
    let isInside = Promise<Void>(), mayGoOn = Promise<Void>()
    port.onMessage = { event in
      overlap.during {
        isInside.fulfil()
        _ = try? mayGoOn.wait()
        received.messageHandler(event)
      }
    }
    try puppet.post(0..<3)
    try isInside.wait()
    port.setEventLoop(loops[1])
    // Everything that might give the port a turn on its new loop.
    port.start()
    port.onClose = { _ in }
    try puppet.post(3..<6)
    try await port.waitForSpace(byteCount: 8)
    _ = try? await Task(executorPreference: loops[1]) { try await port.waitForSpace(byteCount: 8) }.value
    try settle(place)
    try settle(loops[1])
    mayGoOn.fulfil()
    #expect(try received.wait(for: 6) == Array(0..<6))
    #expect(overlap.violations == 0)
  }

  @Test("A port can be moved away from a loop that was stopped, with what waits in it", arguments: Place.allCases)
  func moveFromStopped(_ place: Place) throws {
    let stopped = EventLoop(name: "stopped")
    let puppet = try Puppet(place)
    puppet.port.setEventLoop(stopped)
    let received = Received(on: puppet.port)
    try puppet.post(0..<10)
    try received.wait(for: 10)
    stopped.stop()
    try puppet.post(10..<20)
    try settle(place)
    puppet.port.setEventLoop(.default)
    try puppet.post(20..<30)
    #expect(try received.wait(for: 30) == Array(0..<30))
    try puppet.close()
    try received.waitForClose()
  }

  @Test("6.7 Ports that only a stopped loop had kept close", arguments: Place.allCases, [false, true])
  func stoppedLoopLetsGo(_ place: Place, _ isStoppedFirst: Bool) throws {
    let loop = EventLoop(name: "stopped")
    let puppet: Puppet
    weak var port: MessagePort?
    do {
      let channel = try MessageChannel()
      puppet = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      channel.port1.setEventLoop(loop)
      port = channel.port1
      if isStoppedFirst { loop.stop() }
      let received = Received(on: channel.port1)
      if !isStoppedFirst {
        try puppet.post(0..<10)
        try received.wait(for: 10)
      }
    }
    #expect((port == nil) == isStoppedFirst)
    loop.stop()
    try waitUntil("the port to be released") { port == nil }
    #expect(try puppet.awaitClose() == 0)
  }

  @Test("7.1 A port is kept for its handlers by the loop that it was moved to", arguments: Place.allCases)
  func keptByNextLoop(_ place: Place) async throws {
    let loops = [EventLoop(name: "first"), EventLoop(name: "second")]
    let control: Puppet
    let received: Received
    weak var port: MessagePort?
    do {
      let channel = try MessageChannel()
      control = try Puppet(place, taking: channel.port2, near: try MessageChannel().port1)
      channel.port1.setEventLoop(loops[0])
      received = Received(on: channel.port1)
      port = channel.port1
      loops[0].stop()
      await loops[0].waitUntilIdle()
      channel.port1.setEventLoop(loops[1])
    }
    try control.post(0..<10)
    #expect(try received.wait(for: 10) == Array(0..<10))
    #expect(port != nil)
    loops[1].stop()
    try waitUntil("the port to be released") { port == nil }
    #expect(try control.awaitClose() == 0)
  }

  @Test("Both drivers serve ports alike", arguments: EventLoop.Driver.allCases, Place.allCases)
  func drivers(_ driver: EventLoop.Driver, _ place: Place) throws {
    let loop = EventLoop(name: "driver", driver: driver)
    defer { loop.stop() }
    let port = try place.open(.echo)
    port.setEventLoop(loop)
    let received = Received(on: port)
    // One at a time, so that the loop sleeps in between, and then many.
    for number in 0..<200 {
      try port.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
    try port.post(200..<2000)
    #expect(try received.wait(for: 2000) == Array(0..<2000))
  }

  @Test("A loop that gets no ring when it starts serves its ports all the same")
  func noRing() throws {
    let report = try LoneProcess.run("noRing")
    #expect(report["received"] == 100)
    #expect(report["receivedFromPeer"] == 100)
    #expect(report["closed"] == 1)
  }

  @Test("A task may prefer a loop; handlers and the task then share one thread")
  func taskExecutor() async throws {
    let loop = EventLoop(name: "executor")
    defer { loop.stop() }
    let channel = try MessageChannel(loop: loop)
    let handled = Promise<UInt64>()
    channel.port1.onMessage = { _ in handled.fulfil(threadID()) }
    let taskThread = try await Task(executorPreference: loop) {
      try channel.port2.postMessage(bitwise: 1)
      let before = threadID()
      await Task.yield()
      return loop.isCurrent && before == threadID() ? before : 0
    }.value
    #expect(try handled.wait() == taskThread)
  }

  @Test("A loop may be an actor's executor; the actor's methods and handlers then share one thread, and never overlap")
  func actorExecutor() async throws {
    let loop = EventLoop(name: "actor")
    defer { loop.stop() }
    let channel = try MessageChannel(loop: loop)
    let counter = Counter(loop)
    let done = Promise<Int>()
    channel.port1.onMessage = { event in
      // On the actor's own executor: no hop.
      counter.assumeIsolated { counter in
        counter.count += 1
        if counter.count == 1000 { done.fulfil(counter.count) }
      }
    }
    try channel.port2.post(0..<500)
    for _ in 0..<500 {
      #expect(await counter.increment(done) == threadIDOf(loop))
    }
    #expect(try done.wait() == 1000)
  }

  @Test("5.5 A program may wait until no started port is left")
  func waitUntilIdle() async throws {
    let loop = EventLoop(name: "idle")
    defer { loop.stop() }
    await loop.waitUntilIdle()
    let puppet = try Puppet(.anotherProcess)
    puppet.port.setEventLoop(loop)
    let local = try MessageChannel(loop: loop)
    let received = Received(on: puppet.port)
    local.port1.onMessage = { _ in }
    let isIdle = Promise<Void>()
    Task {
      await loop.waitUntilIdle()
      isIdle.fulfil()
    }
    try puppet.close()
    try received.waitForClose()
    try settle(loop)
    #expect(isIdle.value == nil)
    local.port1.onMessage = nil
    try isIdle.wait()
  }
}

private actor Counter {
  var count = 0
  private let loop: EventLoop
  init(_ loop: EventLoop) { self.loop = loop }
  nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

  func increment(_ done: Promise<Int>) -> UInt64 {
    count += 1
    if count == 1000 { done.fulfil(count) }
    return threadID()
  }
}

private func threadIDOf(_ loop: EventLoop) async -> UInt64 { await Task(executorPreference: loop) { threadID() }.value }

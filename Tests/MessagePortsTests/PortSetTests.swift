import Glibc
import Synchronization
import TestSupport
import Testing

@testable import MessagePorts

/// Sets of ports, whose far ends are here or in another process.
@Suite("Waiting for many ports", .timeLimit(.minutes(3)))
struct PortSetTests {
  /// The ways to wait for a set.
  enum Wait: String, CaseIterable, Sendable { case blocking, task, descriptor }

  /// What comes first.
  private func first(_ set: PortSet, _ wait: Wait) async throws -> MessagePort {
    let member: PortSet.Member
    switch wait {
    case .blocking: member = try await onThread { try patiently("something") { try set.firstReady(timeout: $0) } }
    case .task: member = try await soon("something") { try await set.firstReady() }
    case .descriptor:
      let descriptor = try set.descriptor
      member = try await onThread {
        try patiently("something") { limit in
          let end = ContinuousClock.now + limit
          while ContinuousClock.now < end {
            try Self.waitUntilReadable(descriptor, limit)
            if let member = try set.nextReady() { return member }
          }
          throw DeadlineExceeded(what: "something")
        }
      }
    }
    guard case .port(let port) = member else { throw DeadlineExceeded(what: "a port") }
    return port
  }

  private static func waitUntilReadable(_ descriptor: CInt, _ limit: Duration) throws {
    var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard unsafe poll(&entry, 1, CInt(limit.inSeconds * 1000)) == 1 else { throw DeadlineExceeded(what: "readable") }
  }

  private func isReadable(_ set: PortSet) throws -> Bool {
    var entry = pollfd(fd: try set.descriptor, events: Int16(POLLIN), revents: 0)
    return unsafe poll(&entry, 1, 0) == 1
  }

  /// A wait of a task's, which fails if it takes too long.
  private func soon<Result: Sendable>(
    _ what: String, _ body: @escaping @Sendable () async throws -> Result
  ) async throws -> Result {
    let waiting = Task { try await body() }
    let ended = Flag()
    let guardian = Task {
      try await Task.sleep(for: patience)
      ended.set()
      waiting.cancel()
    }
    defer { guardian.cancel() }
    let result = await waiting.result
    if ended.isSet { throw DeadlineExceeded(what: what) }
    return try result.get()
  }

  private func port(_ member: PortSet.Member?) -> MessagePort? {
    if case .port(let port) = member { port } else { nil }
  }

  // MARK: 14.1

  @Test(
    "14.1 A port that has messages is told of until they were taken, and again when the next one comes",
    arguments: Place.allCases, Wait.allCases)
  func untilTaken(_ place: Place, _ wait: Wait) async throws {
    let port = try place.open(.echo), idle = try place.open(.echo)
    let set = try PortSet([idle, port])
    #expect(try set.nextReady() == nil)
    for round in 0..<3 {
      for number in 0..<3 { try port.postMessage(bitwise: 3 * round + number) }
      for number in 0..<3 {
        for _ in 0..<3 { #expect(try await first(set, wait) === port) }
        #expect(try await onThread { try port.receiveNumber() } == 3 * round + number)
      }
      #expect(try set.nextReady() == nil)
    }
    #expect(!port.isStarted && set.count == 2)
  }

  @Test("14.1 What waits already when a port comes into the set is told of", arguments: Place.allCases)
  func waitsAlready(_ place: Place) async throws {
    let port = try place.open(.echo)
    try port.postMessage(bitwise: 1)
    try await eventually("the echo") { port.queuedByteCount > 0 }
    let set = PortSet()
    try set.add(port)
    #expect(self.port(try set.nextReady()) === port)
  }

  @Test("14.1 A wait that has begun hears of ports that come into the set later", arguments: [Wait.blocking, .task])
  func comesLater(_ wait: Wait) async throws {
    let set = PortSet()
    let told = Task { try await first(set, wait) }
    try await Task.sleep(for: .milliseconds(20))
    let channel = try MessageChannel()
    try set.add(channel.port1)
    try await Task.sleep(for: .milliseconds(20))
    try channel.port2.postMessage(bitwise: 1)
    #expect(try await told.value === channel.port1)
  }

  @Test(
    "14.1 A message that another thread receives is not told of; it does not keep that thread waiting, either",
    arguments: [EventLoop.Driver.uring, .epoll])
  func otherReceiver(_ driver: EventLoop.Driver) async throws {
    let loop = EventLoop(name: "other", driver: driver)
    defer { loop.stop() }
    let port = try Place.anotherProcess.open(.echo)
    port.setEventLoop(loop)
    let set = try PortSet([port])
    for number in 0..<20 {
      let receiving = TestThread { try port.receiveNumber() }
      if number % 2 == 0 { try await Task.sleep(for: .milliseconds(5)) }
      try port.postMessage(bitwise: number)
      #expect(try await onThread { try receiving.join() } == number)
      #expect(try set.nextReady() == nil)
    }
  }

  @Test("14.1 A channel that becomes shared stays in its set", arguments: Wait.allCases)
  func becomesShared(_ wait: Wait) async throws {
    let channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    try Place.anotherProcess.place(channel.port2, .echo)
    for number in 0..<3 {
      try channel.port1.postMessage(bitwise: number)
      #expect(try await first(set, wait) === channel.port1)
      #expect(try channel.port1.receiveNumber() == number)
    }
  }

  @Test("14.1 A port that is given to another loop is told of by that one")
  func otherLoop() async throws {
    let loop = EventLoop(name: "other")
    let stopped = EventLoop(name: "stopped")
    let port = try Place.anotherProcess.open(.echo)
    port.setEventLoop(stopped)
    let set = try PortSet([port])
    stopped.stop()
    port.setEventLoop(loop)
    try port.postMessage(bitwise: 5)
    #expect(try await first(set, .blocking) === port)
    loop.stop()
  }

  @Test("14.1 A transfer that is refused leaves the port in its set, which hears of what comes later")
  func refusedTransfer() async throws {
    let port = try Place.anotherProcess.open(.echo), carrier = try Place.anotherProcess.open(.sink)
    let set = try PortSet([port])
    let error = try await Refusal.during([Refusal(.sendmsg, ENOMEM)]) {
      portError { try carrier.postMessage(transfer: [port]) }
    }
    #expect(error == "system.\(ENOMEM)")
    try port.postMessage(bitwise: 5)
    #expect(try await first(set, .blocking) === port)
    #expect(set.count == 1)
  }

  @Test("14.1, 8.2 A connection is told of as a port is")
  func connection() async throws {
    let channel = try MessageChannel()
    let near = Connection(over: channel.port1), far = Connection(over: channel.port2)
    let set = PortSet()
    try set.add(near)
    #expect(throws: PortError.self) { try set.add(near) }
    try far.postMessage("number", 7)
    guard case .connection(let ready) = try set.firstReady(timeout: patience) else {
      Issue.record("no connection")
      return
    }
    #expect(ready === near)
    #expect(try near.tryReceive()?.decode(Int.self) == 7)
    #expect(set.remove(near) && !set.remove(near) && set.count == 0)
  }

  // MARK: 14.2

  @Test(
    "14.2 A port whose other end is gone is told of once, after its last message, and is in no set then",
    arguments: Place.allCases, Wait.allCases)
  func closedOnce(_ place: Place, _ wait: Wait) async throws {
    let port = try place.open(.pour, [3])
    let set = try PortSet([port])
    for number in 0..<3 {
      #expect(try await first(set, wait) === port)
      #expect(try port.receiveNumber() == number)
    }
    #expect(try await first(set, wait) === port)
    guard case .closed(.closedByPeer) = try port.tryReceive() else {
      Issue.record("not closed")
      return
    }
    #expect(try set.nextReady() == nil && set.count == 0)
    #expect(try !isReadable(set))
    // It may be put into one again, which tells of it again.
    let other = try PortSet([port])
    #expect(self.port(try other.nextReady()) === port)
    #expect(try other.nextReady() == nil)
  }

  @Test("14.2 A close handler hears of the end as well", arguments: Place.allCases)
  func closeHandler(_ place: Place) async throws {
    let port = try place.open(.close)
    let told = Collected<CloseReason>()
    let set = try PortSet([port])
    port.onClose = { told.append($0) }
    #expect(try await first(set, .blocking) === port)
    #expect(try await told.wait(for: 1) == [.closedByPeer])
    #expect(try set.nextReady() == nil)
  }

  @Test("14.2, 4.7 The death of the other process is told of", arguments: Wait.allCases)
  func death(_ wait: Wait) async throws {
    let far = FarProcess()
    let port = try far.open(.hold)
    let set = try PortSet([port])
    let told = Task { try await first(set, wait) }
    try await Task.sleep(for: .milliseconds(20))
    try far.kill()
    #expect(try await told.value === port)
    guard case .closed = try port.tryReceive() else {
      Issue.record("not closed")
      return
    }
  }

  enum Leaving: String, CaseIterable, Sendable { case closing, transfer, transferAway, splitting }

  @Test(
    "14.2 A port that leaves here is told of once, and is in the set no more", arguments: Leaving.allCases,
    Wait.allCases)
  func leaves(_ leaving: Leaving, _ wait: Wait) async throws {
    let channel = try MessageChannel()
    let port = channel.port1
    let set = try PortSet([port])
    #expect(try set.nextReady() == nil)
    let told = Task { try await first(set, wait) }
    try await Task.sleep(for: .milliseconds(20))
    let other = try MessageChannel()
    switch leaving {
    case .closing: port.close()
    case .transfer: try other.port1.postMessage(transfer: [port])
    case .transferAway: try Place.anotherProcess.open(.hold).postMessage(transfer: [port])
    case .splitting: _ = try port.split()
    }
    #expect(try await told.value === port)
    #expect(portError { _ = try port.tryReceive() } == (leaving == .closing ? "closed" : "detached"))
    #expect(try set.nextReady() == nil && set.count == 0)
    #expect(try !isReadable(set))
    withExtendedLifetime(channel) {}
  }

  @Test("14.2 The new owner of a port puts it into a set of its own")
  func newOwner() throws {
    let carrier = try MessageChannel(), channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    try carrier.port1.postMessage(transfer: [channel.port1])
    let moved = try #require(try carrier.port2.receiveSoon().ports.first)
    let other = try PortSet([moved])
    try channel.port2.postMessage(bitwise: 3)
    #expect(self.port(try other.nextReady()) === moved)
    #expect(self.port(try set.nextReady()) === channel.port1)
    #expect(try moved.receiveNumber() == 3)
    #expect(try other.nextReady() == nil)
  }

  // MARK: 14.3, 14.4

  @Test("14.3 Ports that always have something are told of in turn", arguments: Place.allCases)
  func fairness(_ place: Place) async throws {
    let ports = try (0..<5).map { _ in try place.open(.echo) }
    for port in ports { for number in 0..<20 { try port.postMessage(bitwise: number) } }
    for port in ports { try await eventually("echoes") { port.queuedByteCount == 20 * 16 } }
    let set = try PortSet(ports)
    for number in 0..<20 {
      for port in ports {
        #expect(self.port(try set.nextReady()) === port)
        #expect(try port.receiveNumber() == number)
      }
    }
    #expect(try set.nextReady() == nil)
  }

  @Test("14.4 Of 10,000 ports, only those are looked at for which something has come")
  func noScan() async throws {
    let channels = try (0..<10_000).map { _ in try MessageChannel() }
    let set = try PortSet(channels.map(\.port1))
    let before = try set.readiness().lookCount
    for _ in 0..<100 { #expect(try set.nextReady() == nil) }
    #expect(try set.readiness().lookCount == before)
    for round in 0..<100 {
      let channel = channels[(round * 7919) % channels.count]
      try channel.port2.postMessage(bitwise: round)
      #expect(self.port(try set.firstReady(timeout: patience)) === channel.port1)
      #expect(try channel.port1.receiveNumber() == round)
    }
    #expect(try set.nextReady() == nil)
    // One when it was told of, and one after it was taken.
    #expect(try set.readiness().lookCount - before == 200)
    #expect(portError { _ = try set.firstReady(timeout: .milliseconds(1)) } == "timedOut")
    #expect(try set.readiness().lookCount - before == 200)
  }

  @Test("14.4 The same of ports whose other ends are in another process")
  func noScanOfShared() async throws {
    let ports = try (0..<200).map { _ in try Place.anotherProcess.open(.echo) }
    let set = try PortSet(ports)
    let before = try set.readiness().lookCount
    for round in 0..<50 {
      let port = ports[(round * 79) % ports.count]
      try port.postMessage(bitwise: round)
      #expect(try await first(set, .blocking) === port)
      #expect(try port.receiveNumber() == round)
      #expect(try set.nextReady() == nil)
    }
    #expect(try set.readiness().lookCount - before == 100)
  }

  // MARK: 14.5

  @Test("14.5 The descriptor is readable as long as there is something, and not afterwards", arguments: Place.allCases)
  func descriptor(_ place: Place) async throws {
    let port = try place.open(.echo)
    let set = try PortSet([port])
    #expect(try !isReadable(set))
    for _ in 0..<3 {
      try port.postMessage(bitwise: 1)
      try await onThread { try Self.waitUntilReadable(try set.descriptor, patience) }
      for _ in 0..<3 {
        #expect(try isReadable(set))
        #expect(self.port(try set.nextReady()) === port)
      }
      #expect(try port.receiveNumber() == 1)
      // The port's loop may be about to tell of the message that was taken.
      try await eventually("nothing to tell") { try set.nextReady() == nil && !isReadable(set) }
    }
    try port.postMessage(bitwise: 1)
    try await onThread { try Self.waitUntilReadable(try set.descriptor, patience) }
    set.remove(port)
    #expect(try !isReadable(set))
  }

  @Test(
    "14.5 A descriptor that is asked for late says what there is; a loop may read it, if it takes all there is then")
  func lateDescriptor() throws {
    let channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    try channel.port2.postMessage(bitwise: 0)
    #expect(try isReadable(set))
    for number in 0..<3 {
      var count: UInt64 = 0
      #expect(unsafe read(try set.descriptor, &count, 8) == 8)
      #expect(self.port(try set.nextReady()) === channel.port1)
      #expect(try channel.port1.receiveNumber() == number)
      #expect(try set.nextReady() == nil)
      try channel.port2.postMessage(bitwise: number + 1)
      #expect(try isReadable(set))
    }
  }

  @Test("14.5, 9.3 Without a descriptor to be had, that is the error, and the set goes on")
  func noDescriptor() async throws {
    let channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    let error = try await Refusal.during([Refusal(.eventfd2, EMFILE)]) { portError { _ = try set.descriptor } }
    #expect(error == "system.\(EMFILE)")
    try channel.port2.postMessage(bitwise: 1)
    #expect(self.port(try set.nextReady()) === channel.port1)
    #expect(try isReadable(set))
  }

  @Test("14.5, 9.1 The descriptor closes with the set")
  func descriptorCloses() async {
    // Where nobody else takes the number at once.
    await #expect(processExitsWith: .success) {
      await recordErrors {
        var set: PortSet? = PortSet()
        let descriptor = try set!.descriptor
        #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0 && descriptor > 2)
        weak let gone = try set!.readiness()
        set = nil
        #expect(gone == nil && fcntl(descriptor, F_GETFD) < 0)
      }
    }
  }

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

  // MARK: 14.9

  @Test("14.9 On the thread of a loop that listens for one of the ports, a wait is an error")
  func onItsLoop() async throws {
    let port = try Place.anotherProcess.open(.echo), local = try MessageChannel()
    let loop = EventLoop(name: "own")
    port.setEventLoop(loop)
    let set = try PortSet([port, local.port1])
    let error = Promise<String>()
    loop.run { error.fulfil(portError { _ = try set.firstReady(timeout: patience) }) }
    #expect(try await onThread { try error.wait() } == "notWaitable.isOnItsLoop")
    // What there is already is told of there, too; and others may wait there.
    try local.port2.postMessage(bitwise: 1)
    let told = Promise<String>()
    loop.run { told.fulfil(portError { _ = try set.firstReady(timeout: patience) }) }
    #expect(try await onThread { try told.wait() } == "none")
    let task = Task(executorPreference: loop) { try await set.firstReady() }
    #expect(self.port(try await task.value) === local.port1)
    loop.stop()
  }

  @Test("14.9 A wait that has begun on such a thread ends with the error once the loop has to listen")
  func becomesItsLoop() async throws {
    for isMoved in [false, true] {
      let channel = try MessageChannel(), loop = EventLoop(name: "own")
      if !isMoved { channel.port1.setEventLoop(loop) }
      let set = try PortSet([channel.port1])
      if isMoved { try Place.anotherProcess.place(channel.port2, .echo) }
      let begins = Promise<Void>(), error = Promise<String>()
      loop.run {
        begins.fulfil()
        error.fulfil(portError { _ = try set.firstReady(timeout: patience) })
      }
      try await onThread { try begins.wait() }
      try await Task.sleep(for: .milliseconds(20))
      if isMoved { channel.port1.setEventLoop(loop) } else { try Place.anotherProcess.place(channel.port2, .echo) }
      #expect(try await onThread { try error.wait() } == "notWaitable.isOnItsLoop")
      loop.stop()
    }
  }

  /// An executor that uses ports itself when it is given something to do.
  private final class Intruder: TaskExecutor {
    private let thread = OwnThreadExecutor()
    private let carrier: MessagePort

    init(_ carrier: MessagePort) { self.carrier = carrier }
    deinit { thread.stop() }

    func enqueue(_ job: consuming ExecutorJob) {
      if let channel = try? MessageChannel() { try? carrier.postMessage(transfer: [channel.port1]) }
      thread.enqueue(job)
    }
  }

  @Test(
    "5.1 A task that waits for a set goes on without a lock, whatever its executor does then", arguments: Place.allCases
  )
  func foreignExecutor(_ place: Place) async throws {
    let carrier = try MessageChannel(), channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    let told = Task(executorPreference: Intruder(carrier.port1)) { try await set.firstReady() }
    try await Task.sleep(for: .milliseconds(20))
    try await onThread {
      try place.place(channel.port2, .echo)
      try channel.port1.postMessage(bitwise: 1)
    }
    #expect(self.port(try await told.value) === channel.port1)
  }

  @Test("14.1, 11.3, 13.6 What could not be received for lack of descriptors is told of again once there are enough")
  func outOfDescriptors() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let far = FarProcess()
        let port = try far.open(.echo), other = try far.open(.echo)
        let set = try PortSet([port, other])
        let pipe = try TestPipe()
        let copies = try (0..<4).map { _ in try pipe.reader.duplicate() }
        let numbers = try copies.map { try $0.withDescriptor { $0 } }
        // Dispatch ends the process if it has no descriptor left for its first timer.
        try await Task.sleep(for: .milliseconds(1))
        try port.postMessage(bitwise: 1, descriptors: copies)
        try await eventually("that they are gone from here") {
          numbers.allSatisfy { linkTarget("/proc/self/fd/\($0)") != pipe.name }
        }
        leaveDescriptors(2)
        func first() throws -> MessagePort? {
          guard case .port(let port) = try set.firstReady(timeout: patience) else { return nil }
          return port
        }
        #expect(try first() === port)
        #expect(portError { _ = try port.tryReceive() } == "system.\(EMFILE)")
        #expect(portError { _ = try set.firstReady(timeout: .milliseconds(50)) } == "timedOut")
        // Others go on.
        try other.postMessage(bitwise: 2)
        #expect(try first() === other)
        #expect(try other.receiveNumber() == 2)
        #expect(try set.nextReady() == nil)
        setLimit(RLIMIT_NOFILE, nil)
        #expect(try first() === port)
        #expect(try port.receiveSoon().descriptors.count == 4)
        #expect(try set.nextReady() == nil)
      }
    }
  }

  // MARK: All together

  @Test(
    "14.1 Whatever several threads do with a set, each message is received, and each end told of",
    arguments: Place.allCases)
  func storm(_ place: Place) async throws {
    let ports = try (0..<24).map { _ in try place.open(.pour, [200]) }
    let set = try PortSet(ports)
    let counts = Mutex<[ObjectIdentifier: Int]>([:])
    let ended = Mutex(Set<ObjectIdentifier>())
    try await onThread {
      try onThreads(4) { _ in
        while ended.withLock({ $0.count }) < ports.count {
          guard case .port(let port)? = try? set.firstReady(timeout: .milliseconds(20)) else { continue }
          switch try port.tryReceive() {
          case .message: counts.withLock { $0[ObjectIdentifier(port), default: 0] += 1 }
          case .closed: _ = ended.withLock { $0.insert(ObjectIdentifier(port)) }
          case .empty: break
          }
        }
      }
    }
    for port in ports { #expect(counts.withLock { $0[ObjectIdentifier(port)] } == 200) }
    #expect(try set.nextReady() == nil && set.count == 0)
  }
}

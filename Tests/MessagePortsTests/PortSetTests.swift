import Glibc
import Synchronization
import TestSupport
import Testing

@testable import MessagePorts

/// Sets of ports, whose far ends are here or in another process.
@Suite("Waiting for many ports", .timeLimit(.minutes(3)))
struct PortSetTests: PortSetWaiting {
  // MARK: 14.1

  @Test(
    "14.1 A port that has messages is told of until they were taken, and again when the next one comes",
    arguments: Place.allCases, WayToWait.allCases)
  func untilTaken(_ place: Place, _ wait: WayToWait) async throws {
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

  @Test(
    "14.1 A wait that has begun hears of ports that come into the set later", arguments: [WayToWait.blocking, .task])
  func comesLater(_ wait: WayToWait) async throws {
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

  @Test("14.1 A channel that becomes shared stays in its set", arguments: WayToWait.allCases)
  func becomesShared(_ wait: WayToWait) async throws {
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
    arguments: Place.allCases, WayToWait.allCases)
  func closedOnce(_ place: Place, _ wait: WayToWait) async throws {
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

  @Test("14.2, 4.7 The death of the other process is told of", arguments: WayToWait.allCases)
  func death(_ wait: WayToWait) async throws {
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
    WayToWait.allCases)
  func leaves(_ leaving: Leaving, _ wait: WayToWait) async throws {
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
        try await letDispatchOpenItsOwn()
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

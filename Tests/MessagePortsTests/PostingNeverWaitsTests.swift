import MessagePorts
import TestSupport
import Testing

@Suite("2.4 Posting never waits", .ownThread, .timeLimit(.minutes(10)))
struct PostingNeverWaitsTests {
  @Test("2.4 Messages to a receiver that is not started accumulate; none is refused or lost", arguments: Place.allCases)
  func notStarted(_ place: Place) throws {
    let puppet = try Puppet(place)
    for number in 0..<5000 { try puppet.port.postMessage(bytes: Payload.make(number, byteCount: 4096)) }
    for number in 0..<5 { try puppet.port.postMessage(bytes: Payload.make(number, byteCount: 3 << 20)) }
    #expect(try puppet.receive(5005) == 5005)
  }

  @Test("2.4 Messages to a process that is stopped accumulate, and are there when it goes on")
  func stoppedProcess() throws {
    let process = FarProcess()
    let port = try process.open(.echo)
    try port.postMessage(bitwise: -1)
    #expect(try port.receiveNumber() == -1)
    try process.suspend()
    for number in 0..<5000 { try port.postMessage(bytes: Payload.make(number, byteCount: 1000)) }
    try port.postMessage(bytes: Payload.make(7, byteCount: 5 << 20))
    if case .empty = try port.tryReceive() {} else { Issue.record("a stopped process has answered") }
    process.resume()
    for number in 0..<5000 { #expect(Payload.matches(try port.receiveSoon().bytes, number, byteCount: 1000)) }
    #expect(Payload.matches(try port.receiveSoon().bytes, 7, byteCount: 5 << 20))
  }

  @Test("2.4 Both ends may post at once without reading; neither waits for the other", arguments: Place.allCases)
  func bothPostFirst(_ place: Place) throws {
    let puppet = try Puppet(place)
    let poster = TestThread { try puppet.port.post(0..<20_000) }
    try puppet.post(0..<20_000)
    try poster.join()
    #expect(try puppet.receive(20_000) == 20_000)
    #expect(try puppet.port.receiveNumbers(20_000) == Array(0..<20_000))
  }

  @Test("2.4 How much waits unread can be read", arguments: Place.allCases)
  func queuedByteCount(_ place: Place) throws {
    let puppet = try Puppet(place)
    #expect(puppet.port.queuedByteCount == 0)
    try puppet.post(0..<100)
    // A message of eight bytes counts for sixteen; the ring may need some bytes for itself.
    #expect((1600..<1700).contains(puppet.port.queuedByteCount))
    _ = try puppet.port.receiveNumbers(50)
    #expect((800..<900).contains(puppet.port.queuedByteCount))
    _ = try puppet.port.receiveNumbers(50)
    #expect(puppet.port.queuedByteCount == 0)
  }

  // MARK: Limits

  /// Room for ten messages of 92 bytes, which count for 100 rounded up to eight: 104.
  static let limited = ChannelOptions(queueLimitBytes: 1040)
  static let message = Payload.make(0, byteCount: 92)

  private func fill(_ port: MessagePort) throws -> Int {
    var count = 0
    while portError({ try port.postMessage(bytes: Self.message) }) == "none", count < 1000 { count += 1 }
    return count
  }

  @Test(
    "2.4 A limit on unread data has its own error, which goes away as the receiver reads", arguments: Place.allCases)
  func limit(_ place: Place) throws {
    let puppet = try Puppet(place, options: Self.limited)
    #expect(try fill(puppet.port) == 10)
    #expect(portError { try puppet.port.postMessage(bytes: Self.message) } == "queueFull")
    // Smaller ones do not fit either.
    #expect(portError { try puppet.port.postMessage(bytes: [1]) } == "queueFull")
    #expect(try puppet.receive(4) == 4)
    #expect(try fill(puppet.port) == 4)
    #expect(try puppet.receive(10) == 10)
    // In shared memory, what the ring gives up at its end counts as well, until it was passed.
    #expect(try (9...10).contains(fill(puppet.port)))
  }

  @Test("2.4 The limit is one of each direction, and of the port that is received", arguments: Place.allCases)
  func limitOfEachDirection(_ place: Place) throws {
    let puppet = try Puppet(place, options: Self.limited)
    #expect(try fill(puppet.port) == 10)
    for _ in 0..<10 { try puppet.post(byteCount: 92) }
    // The puppet's eleventh is refused where it is: nothing comes.
    #expect { try puppet.post(byteCount: 92) } throws: { "\($0)".contains("queueFull") }
    for _ in 0..<10 { _ = try puppet.port.receiveSoon() }
    if case .empty = try puppet.port.tryReceive() {} else { Issue.record("the far end's limit is not observed") }
  }

  @Test("2.4 Waiting for space ends when the receiver has read enough", arguments: Place.allCases)
  func waitForSpace(_ place: Place) async throws {
    let puppet = try Puppet(place, options: Self.limited)
    #expect(try fill(puppet.port) == 10)
    let port = puppet.port
    let resumed = Promise<String>()
    let waiter = Task { resumed.fulfil(await spaceError(port, byteCount: 3 * 104 - 12)) }
    try settle()
    #expect(try puppet.receive(2) == 2)
    try settle(place)
    #expect(resumed.value == nil, "two messages read leave no room for what three take")
    #expect(try puppet.receive(1) == 1)
    #expect(try resumed.wait() == "none")
    #expect(try fill(puppet.port) == 3)
    await waiter.value
  }

  @Test("2.4 Waiters are served in turn, however many there are", arguments: Place.allCases)
  func waitersInTurn(_ place: Place) async throws {
    let puppet = try Puppet(place, options: Self.limited)
    #expect(try fill(puppet.port) == 10)
    let port = puppet.port
    let done = Collected<String>()
    let tasks = (0..<20).map { _ in
      Task {
        // Another may have been faster.
        while true {
          let error = await spaceError(port, byteCount: 92)
          guard error == "none" else { return done.append(error) }
          if portError({ try port.postMessage(bytes: Self.message) }) == "none" { return done.append("posted") }
        }
      }
    }
    #expect(try puppet.receive(30) == 30)
    #expect(try await done.wait(for: 20) == Array(repeating: "posted", count: 20))
    for task in tasks { await task.value }
  }

  @Test(
    "2.4 Any number of messages of any size flow through a limit, to a handler or to a receive",
    arguments: Place.allCases)
  func flowThroughLimit(_ place: Place) async throws {
    // No more than one of the largest at a time.
    let seed = testSeed()
    print("seed \(seed)")
    let sizes = try place.open(.checkSizes, [seed], options: ChannelOptions(queueLimitBytes: 6 << 20))
    for (index, size) in Payload.sizes(seed: seed).enumerated() {
      try await post(Payload.make(index, byteCount: size), on: sizes)
    }
    #expect(try sizes.receiveNumber() == Payload.sizes(seed: seed).count)

    let numbers = try place.open(.checkThreads, [1, 3000], options: Self.limited)
    for number in 0..<3000 { try await post(Numbered(thread: 0, number: number).bytes, on: numbers) }
    #expect(try numbers.receiveNumber() == 3000)
  }

  private func post(_ bytes: [UInt8], on port: MessagePort) async throws {
    while true {
      do throws(PortError) { return try port.postMessage(bytes: bytes) } catch {
        guard case .queueFull = error else { throw error }
      }
      try await port.waitForSpace(byteCount: bytes.count)
    }
  }

  @Test("2.4 Waiting for space ends when the peer closes: posts are discarded from then on", arguments: Place.allCases)
  func waitForSpaceEndsWithPeer(_ place: Place) async throws {
    let puppet = try Puppet(place, options: Self.limited)
    #expect(try fill(puppet.port) == 10)
    let port = puppet.port
    let resumed = Promise<String>()
    Task { resumed.fulfil(await spaceError(port, byteCount: 92)) }
    try settle()
    try puppet.close()
    #expect(try resumed.wait() == "none")
    try port.postMessage(bytes: Self.message)
    #expect(await spaceError(port, byteCount: 92) == "none")
  }

  @Test("2.4 Waiting for space ends when the peer's process is killed")
  func waitForSpaceEndsWithProcess() async throws {
    let process = FarProcess()
    let port = try process.open(.hold, options: Self.limited)
    #expect(try fill(port) == 10)
    let resumed = Promise<String>()
    Task { resumed.fulfil(await spaceError(port, byteCount: 92)) }
    try settle()
    try process.kill()
    #expect(try resumed.wait() == "none")
  }

  @Test("2.4 A task that waits for space can be cancelled, before and while it waits", arguments: Place.allCases)
  func waitForSpaceCancelled(_ place: Place) async throws {
    let port = try place.open(.hold, options: Self.limited)
    #expect(try fill(port) == 10)
    for settlesFirst in [true, false] {
      let resumed = Promise<String>()
      let task = Task { resumed.fulfil(await spaceError(port, byteCount: 92)) }
      if settlesFirst { try settle() }
      task.cancel()
      #expect(try resumed.wait() == "cancelled")
    }
  }

  @Test("2.4 A task that was cancelled before it waits for space does not wait", arguments: Place.allCases)
  func cancelledBeforeWaitingForSpace(_ place: Place) throws {
    let port = try place.open(.hold, options: Self.limited)
    #expect(try fill(port) == 10)
    let mayGoOn = Promise<Void>(), resumed = Promise<String>()
    let task = Task(executorPreference: port.eventLoop) {
      try mayGoOn.wait()
      resumed.fulfil(await spaceError(port, byteCount: 92))
    }
    task.cancel()
    mayGoOn.fulfil()
    #expect(try resumed.wait() == "cancelled")
  }

  @Test(
    "2.4 Waiting for space on a port that is closed or moved meanwhile ends with its error", arguments: Place.allCases)
  func waitForSpaceOnClosed(_ place: Place) async throws {
    for expected in ["closed", "detached"] {
      let port = try place.open(.hold, options: Self.limited)
      #expect(try fill(port) == 10)
      let resumed = Promise<String>()
      Task { resumed.fulfil(await spaceError(port, byteCount: 92)) }
      try settle()
      if expected == "closed" { port.close() } else { try place.place(port, .hold) }
      #expect(try resumed.wait() == expected)
    }
  }

  @Test(
    "2.4 Waiting for more than can ever be free is refused; without a limit, or with room, there is nothing to wait for",
    arguments: Place.allCases)
  func waitForSpaceAtOnce(_ place: Place) async throws {
    let port = try place.open(.hold, options: Self.limited)
    #expect(await spaceError(port, byteCount: 1032) == "none")
    #expect(await spaceError(port, byteCount: 1033) == "messageTooLarge")
    #expect(await spaceError(port, byteCount: -1) == "messageTooLarge")
    let unlimited = try place.open(.hold)
    for number in 0..<10_000 { try unlimited.postMessage(bitwise: number) }
    #expect(await spaceError(unlimited, byteCount: 1 << 20) == "none")
  }

  @Test("2.4 A channel whose limit is in use moves to another process and keeps its limit")
  func limitMoves() throws {
    let channel = try MessageChannel(options: Self.limited)
    #expect(try fill(channel.port1) == 10)
    let puppet = try Puppet(.anotherProcess, taking: channel.port2, near: channel.port1)
    #expect(portError { try channel.port1.postMessage(bytes: Self.message) } == "queueFull")
    #expect(try puppet.receive(10) == 10)
    #expect(try (9...10).contains(fill(channel.port1)))
  }
}

private func spaceError(_ port: MessagePort, byteCount: Int) async -> String {
  do {
    try await port.waitForSpace(byteCount: byteCount)
    return "none"
  } catch { return error.caseName }
}

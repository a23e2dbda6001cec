import MessagePorts
import TestSupport
import Testing

@Suite("Split ports", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct SplitTests {
  // MARK: - Splitting

  @Test(
    "Messages that wait go to the reader, whether the channel was local or shared, and later ones follow",
    arguments: Place.allCases)
  func queuedMessages(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    for number in 0..<500 { try channel.port1.postMessage(bitwise: number) }
    // Through another process and back, or not at all.
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let back = try #require(try await agent.call(.give, 1).ports.first)
    for number in 500..<1000 { try channel.port1.postMessage(bitwise: number) }
    let halves = try back.split()
    for number in 1000..<1500 { try channel.port1.postMessage(bitwise: number) }
    var reader = halves.takeReader()
    for number in 0..<1500 {
      let found = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
      try #require(found == number)
    }
    let nothing = try reader.tryRead { $0.byteCount }
    #expect(nothing == nil)
  }

  @Test("A split port is detached: it delivers nothing, and every operation says so")
  func detached() throws {
    let channel = try MessageChannel()
    let closes = Collected<CloseReason>()
    channel.port2.onMessage = { _ in Issue.record("a split port delivers nothing") }
    channel.port2.onClose = { closes.append($0) }
    let halves = try channel.port2.split()
    #expect(channel.port2.isDetached && !channel.port2.isClosed && channel.port2.onMessage == nil)
    for body in [
      { try channel.port2.postMessage(bytes: [1]) }, { _ = try channel.port2.tryReceive() },
      { _ = try channel.port2.receiveSoon() }, { _ = try channel.port2.split() },
    ] as [() throws -> Void] {
      #expect(portError(body) == "detached")
    }
    let listed = portError { try MessageChannel().port1.postMessage(bytes: [], transfer: [channel.port2]) }
    #expect(listed == "invalidTransfer.isDetached")
    channel.port2.close()
    try channel.port1.postMessage(bitwise: 5)
    var reader = halves.takeReader()
    let number = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(number == 5 && closes.count == 0)
  }

  @Test("A closed port cannot be split; one whose peer is closed can, and its reader gets the rest and the reason")
  func closed() throws {
    let channel = try MessageChannel()
    channel.port1.close()
    #expect { _ = try channel.port1.split() } throws: { if case PortError.closed = $0 { true } else { false } }

    let other = try MessageChannel()
    try other.port1.postMessage(bitwise: 1)
    other.port1.close()
    var reader = try other.port2.split().takeReader()
    let number = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(number == 1)
    let end = end(of: &reader)
    #expect(end == "closed by peer")
  }

  @Test("A thread that blocks in a receive hears at once that the port was split", arguments: [false, true])
  func splitUnderReceive(_ isShared: Bool) async throws {
    let agent = try Agent(.thisProcess)
    let channel = try MessageChannel()
    var (port, far) = (channel.port2, channel.port1)
    if isShared {
      try await agent.call(.keep, 1, transfer: [port])
      port = try #require(try await agent.call(.give, 1).ports.first)
      // Shared by splitting the other end once.
      far = try joined(far.split())
    }
    let blocked = port
    let outcome = TestThread { () -> String in
      do {
        _ = try blocked.receiveSoon()
        return "message"
      } catch { return "\(error)" }
    }
    try await Task.sleep(for: .milliseconds(50))
    let began = ContinuousClock.now
    let halves = try blocked.split()
    #expect(try outcome.join() == "detached")
    #expect(ContinuousClock.now - began < .seconds(4))
    withExtendedLifetime((halves, far)) {}
  }

  private func joined(_ halves: PortHalves) throws -> MessagePort {
    try MessagePort(joining: halves.takeWriter(), halves.takeReader())
  }

  // MARK: - Joining

  @Test(
    "Order is kept through splitting, joining and transfer, on both ends, any number of times",
    arguments: Place.allCases)
  func order(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    try await agent.call(.keep, 1, transfer: [channel.port2])
    var port = channel.port1
    var (sent, expected) = (0, 0)
    for round in 0..<8 as Range<UInt64> {
      // The agent posts; some of it is read here and there, the rest later.
      try await agent.call(.post, 1, 30 * round, 30)
      for _ in 0..<5 {
        let number = try takeNumber(port)
        try #require(number == expected)
        expected += 1
      }
      try port.postMessage(bitwise: sent)
      let halves = try port.split()
      var writer = halves.takeWriter()
      var reader = halves.takeReader()
      for number in 1...10 {
        let wrote = try writer.tryWrite(bitwise: sent + number)
        try #require(wrote)
      }
      for _ in 0..<20 {
        let number = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
        try #require(number == expected)
        expected += 1
      }
      port = try MessagePort(joining: writer, reader)
      #expect(!port.isStarted && !port.isDetached)
      try port.postMessage(bitwise: sent + 11)
      try await agent.call(.expect, 1, UInt64(sent), 12)
      sent += 12
      if round % 2 == 1 {
        // It can travel, with what waits.
        try await agent.call(.keep, 2, transfer: [port])
        port = try #require(try await agent.call(.give, 2).ports.first)
      }
    }
    for number in expected..<240 { try #require(try takeNumber(port) == number) }
    guard case .empty = try port.tryReceive() else {
      Issue.record("more than was posted")
      return
    }
  }

  @Test("Halves of different ports make no port, and both channels close")
  func halvesDiffer() async throws {
    let first = try MessageChannel()
    let second = try MessageChannel()
    do {
      let (one, two) = (try first.port2.split(), try second.port2.split())
      #expect { _ = try MessagePort(joining: one.takeWriter(), two.takeReader()) } throws: {
        if case PortError.halvesDiffer = $0 { true } else { false }
      }
      // The other halves are still good for nothing but closing.
    }
    for port in [first.port1, second.port1] {
      #expect { _ = try port.receiveSoon() } throws: {
        if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
      }
    }
  }

  @Test("A joined port's handler is given what the reader has left, and the close after it")
  func joinedHandler() async throws {
    let channel = try MessageChannel()
    let halves = try channel.port2.split()
    for number in 0..<20 { try channel.port1.postMessage(bitwise: number) }
    var reader = halves.takeReader()
    let first = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(first == 0)
    let port = try MessagePort(joining: halves.takeWriter(), reader)
    let numbers = Collected<Int>()
    let closes = Collected<CloseReason>()
    port.onClose = { closes.append($0) }
    port.onMessage = { numbers.append((try? $0.load(as: Int.self)) ?? -1) }
    #expect(try await numbers.wait(for: 19) == Array(1..<20))
    try channel.port1.postMessage(bitwise: 20)
    try await numbers.wait(for: 20)
    channel.port1.close()
    #expect(try await closes.wait(for: 1) == [.closedByPeer])
  }

  // MARK: - Closing

  @Test("Dropping one half does not close the channel, dropping both does", arguments: [false, true])
  func dropping(_ writerFirst: Bool) throws {
    let channel = try MessageChannel()
    let halves = try channel.port2.split()
    var writer: PortWriter? = halves.takeWriter()
    var reader: PortReader? = halves.takeReader()
    if writerFirst {
      writer = nil
      try channel.port1.postMessage(bitwise: 3)
      let number = try reader!.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
      #expect(number == 3 && !channel.port1.isPeerClosed)
      reader = nil
    } else {
      reader = nil
      let wrote = try writer!.tryWrite(bitwise: 4)
      #expect(wrote)
      #expect(try takeNumber(channel.port1) == 4 && !channel.port1.isPeerClosed)
      writer = nil
    }
    #expect { _ = try channel.port1.receiveSoon() } throws: {
      if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
    }
  }

  @Test("Both halves are told once the other end is closed, the reader after its last message")
  func peerCloses() async throws {
    var split = try Split()
    try split.port.postMessage(bitwise: 1)
    split.port.close()
    try split.expect(1)
    let end = end(of: &split.reader)
    #expect(end == "closed by peer")
    // Only a full ring makes a writer ask.
    var failure = ""
    do {
      for number in 0..<100_000 where try !split.writer.tryWrite(bitwise: number) {}
    } catch { failure = "\(error)" }
    #expect(failure == "peerClosed(closed by peer)")
  }

  @Test("A process that is killed wakes a blocked reader and a writer that waits for room", arguments: [false, true])
  func killed(_ isReading: Bool) async throws {
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel()
    try await agent.call(.keep, 1, transfer: [channel.port2])
    try await agent.call(.post, 1, 0, 100)
    let halves = try channel.port1.split()
    let outcome = TestThread { () -> String in
      var writer = halves.takeWriter()
      var reader = halves.takeReader()
      writer.capacityBytes > 0 ? () : ()
      do {
        if isReading {
          for number in 0..<1000 {
            let found = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
            if found != number { return "\(found) instead of \(number)" }
          }
        } else {
          while true {
            while try writer.tryWrite(bitwise: 1) {}
            try writer.waitForSpaceSoon(byteCount: 8)
          }
        }
        return "nothing"
      } catch { return "\(error)" }
    }
    try await Task.sleep(for: .milliseconds(100))
    #expect(!outcome.isFinished)
    try await agent.kill()
    #expect(try outcome.join() == "peerClosed(peer exited)")
  }
}

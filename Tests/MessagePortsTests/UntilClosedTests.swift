import Glibc
import MessagePorts
import TestSupport
import Testing

@Suite("Waiting for the end, and handlers that are given their port", .timeLimit(.minutes(3)))
struct UntilClosedTests {
  /// The ends of a channel, perhaps one that another process has had in its hands.
  private func makeChannel(isShared: Bool) async throws -> (near: MessagePort, far: MessagePort) {
    let channel = try MessageChannel()
    guard isShared else { return (channel.port1, channel.port2) }
    let there = try Place.anotherProcess.open(.echo)
    try there.postMessage(bytes: [1], transfer: [channel.port2])
    let event = try await onThread { try there.receive(timeout: patience) }
    return (channel.port1, try #require(event.ports.first))
  }

  @Test("4.2 Whoever waits for the end hears of it after the last message, all who do", arguments: [false, true])
  func afterLastMessage(_ isShared: Bool) async throws {
    let (near, far) = try await makeChannel(isShared: isShared)
    let log = Collected<String>()
    near.onMessage = { log.append("\($0.bytes)") }
    let waiting = (0..<3).map { _ in
      Task {
        let reason = try await near.untilClosed()
        log.append("\(reason)")
      }
    }
    for number in 0..<3 as Range<UInt8> { try far.postMessage(bytes: [number]) }
    far.close()
    for task in waiting { try await task.value }
    #expect(log.all == ["[0]", "[1]", "[2]"] + [String](repeating: "closed by peer", count: 3))
  }

  @Test("4.2 The end is heard once everything was received, also afterwards", arguments: [false, true])
  func peerCloses(_ isShared: Bool) async throws {
    let (near, far) = try await makeChannel(isShared: isShared)
    try far.postMessage(bytes: [7])
    far.close()
    let isTold = Flag()
    let waiting = Task {
      defer { isTold.set() }
      return try await near.untilClosed()
    }
    try await Task.sleep(for: .milliseconds(50))
    #expect(!isTold.isSet, "a message waits that nobody has taken")
    #expect(try await onThread { try near.receive(timeout: patience).bytes } == [7])
    #expect(try await waiting.value == .closedByPeer)
    #expect(try await near.untilClosed() == .closedByPeer)
    let told = Collected<CloseReason>()
    near.onClose = { told.append($0) }
    #expect(try await told.wait(for: 1) == [.closedByPeer], "whoever asks later is told all the same")
  }

  @Test("4.5 A port that somebody waits for to be closed is kept until then")
  func keepsAlive() async throws {
    var near: MessagePort?
    let far: MessagePort
    do {
      let channel = try MessageChannel()
      (near, far) = (channel.port1, channel.port2)
    }
    let waiting = Task { [near] in try await near!.untilClosed() }
    near = nil
    try await Task.sleep(for: .milliseconds(50))
    #expect(!far.isPeerClosed)
    far.close()
    #expect(try await waiting.value == .closedByPeer)
  }

  @Test("13.7 Whoever waits for the end can be cancelled, before and meanwhile; and hears of this end's own")
  func otherEnds() async throws {
    func code(_ waiting: Task<CloseReason, any Error>) async -> PortError.Code? {
      do {
        _ = try await waiting.value
        return nil
      } catch {
        return (error as? PortError)?.code
      }
    }
    let channel = try MessageChannel()
    let before = Task {
      unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
      return try await channel.port1.untilClosed()
    }
    #expect(await code(before) == .cancelled)
    let meanwhile = Task { try await channel.port1.untilClosed() }
    try await Task.sleep(for: .milliseconds(20))
    meanwhile.cancel()
    #expect(await code(meanwhile) == .cancelled)
    let closed = Task { try await channel.port1.untilClosed() }
    try await Task.sleep(for: .milliseconds(20))
    channel.port1.close()
    #expect(await code(closed) == .closed)
    let (one, other) = (try MessageChannel(), try MessageChannel())
    let detached = Task { try await one.port1.untilClosed() }
    try await Task.sleep(for: .milliseconds(20))
    try other.port1.postMessage(transfer: [one.port1])
    #expect(await code(detached) == .detached)
  }

  @Test("8.5 A connection's end is waited for, with the worker's status")
  func worker() async throws {
    let worker = try PeerProcess.spawn("exit", ["6"])
    #expect(try await worker.connection.untilClosed() == .peerExited(.exited(6)))
  }

  // MARK: Handlers

  @Test("5.1 A handler is given its port, and answers there", arguments: Place.allCases)
  func echo(_ place: Place) async throws {
    let near = try place.open(.echo)
    let received = Collected<UInt8>()
    near.on { event, port in
      received.append(event.bytes[0])
      if event.bytes[0] < 5 { try? port.postMessage(bytes: [event.bytes[0] + 1]) }
    }
    try near.postMessage(bytes: [0])
    #expect(try await received.wait(for: 6) == [0, 1, 2, 3, 4, 5])
  }

  @Test("5.1 A handler for one message is called for one; what follows waits", arguments: Place.allCases)
  func once(_ place: Place) async throws {
    let near = try place.open(.echo)
    let received = Collected<UInt8>()
    for number in 0..<3 as Range<UInt8> { try near.postMessage(bytes: [number]) }
    near.once { event, port in received.append(event.bytes[0]) }
    try await received.wait(for: 1)
    #expect(near.onMessage == nil)
    #expect(try await onThread { try near.receive(timeout: patience).bytes } == [1])
    // From within the handler, for the one after it.
    near.once { _, port in port.once { event, _ in received.append(event.bytes[0] + 10) } }
    try near.postMessage(bytes: [3])
    #expect(try await received.wait(for: 2) == [0, 13])
    #expect(near.onMessage == nil)
  }
}

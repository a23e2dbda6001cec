import CSupport
import CTestSupport
import Glibc
import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("Buffers in messages", .serialized, .timeLimit(.minutes(5)))
struct BufferTransferTests {
  private func frozen(_ byteCount: Int, _ seed: UInt64) throws -> FrozenBuffer {
    try FrozenBuffer(copying: patternBytes(count: byteCount, seed: seed))
  }

  /// One of which only the beginning is written, since that takes its time.
  private func large(_ byteCount: Int) throws -> FrozenBuffer {
    var buffer = try SharedBuffer(byteCount: byteCount)
    try buffer.write(patternBytes(count: 100, seed: 1))
    return try buffer.freeze()
  }

  private func shared(_ byteCount: Int) throws -> UntrustedBuffer {
    var buffer = try SharedBuffer(byteCount: byteCount)
    return try buffer.share()
  }

  private func described(_ byteCount: Int, _ seed: UInt64) -> String {
    "frozen \(byteCount) \(checksum(patternBytes(count: byteCount, seed: seed)))"
  }

  @Test(
    "11.1, 11.5, 11.6 Buffers arrive in list order, each what it was, behind ports and descriptors, and are gone from the poster",
    arguments: Place.allCases)
  func roundTrip(_ place: Place) async throws {
    let near = try place.open(.echo)
    let table = try frozen(5000, 1), image = try frozen(100_000, 2), common = try shared(300)
    try common.store(77 as UInt64, at: 100)
    let pipe = try TestPipe(), channel = try MessageChannel()
    try near.postMessage(
      "hello", transfer: [channel.port2], descriptors: [pipe.reader],
      buffers: [.frozen(table), .shared(common), .frozen(image)])
    #expect(!table.isOpen && !common.isOpen && !image.isOpen && !pipe.reader.isOpen)
    #expect(throws: BufferError.gone) { _ = try table.bytes() }
    #expect(throws: BufferError.gone) { _ = try table.copy() }
    #expect(throws: BufferError.gone) { _ = try common.read(0..<1) }
    let event = try await onThread { try near.receiveSoon() }
    #expect(try event.decode(String.self) == "hello")
    #expect(event.ports.count == 1)
    #expect(try event.descriptors.map { try $0.target() } == [pipe.name])
    #expect(event.buffers.map(\.byteCount) == [5000, 300, 100_000])
    let texts = try event.buffers.map { try $0.described() }
    #expect(texts[0] == described(5000, 1) && texts[2] == described(100_000, 2))
    guard case .shared(let received) = event.buffers[1] else { throw Agent.Failure(description: "not shared") }
    #expect(try received.load(as: UInt64.self, at: 100) == 77)
  }

  @Test("11.1 Every way of posting takes buffers along", arguments: Place.allCases)
  func waysOfPosting(_ place: Place) async throws {
    let near = try place.open(.echo)
    let buffers = try (0..<5).map { MessageBuffer.frozen(try frozen(100 + $0, UInt64($0))) }
    try near.postMessage([1, 2], buffers: [buffers[0]])
    try near.postMessage(bytes: [1], buffers: [buffers[1]])
    try near.postMessage(bitwise: 3, buffers: [buffers[2]])
    try near.postMessage(buffers: [buffers[3]])
    let bytes: [UInt8] = [9]
    try unsafe near.postMessage(bytes: bytes.span.bytes, buffers: [buffers[4]])
    for number in 0..<5 {
      let event = try await onThread { try near.receiveSoon() }
      #expect(try event.buffers.map { try $0.described() } == [described(100 + number, UInt64(number))])
    }
    try near.postMessage(bitwise: 4, buffers: [])
    let event = try await onThread { try near.receiveSoon() }
    #expect(event.buffers.isEmpty && event.ports.isEmpty && event.descriptors.isEmpty)
  }

  @Test("8.2, 11.1 So does every way of posting on a connection, and so do questions and replies")
  func connection() async throws {
    let listener = try Listener(path: freshPath(".socket"))
    var connections = listener.connections.makeAsyncIterator()
    let near = try await Connection.connect(path: listener.path)
    let far = try #require(await connections.next())
    let events = Collected<ConnectionEvent>()
    far.handle { handlers in
      handlers.onRequest(bytes: "again") { context in
        context.transfer(buffers: context.buffers)
        return context.bytes
      }
    }
    far.onUnhandled = { events.append($0) }
    let buffers = try (0..<5).map { MessageBuffer.frozen(try frozen(100, UInt64($0))) }
    try near.postMessage("value", [1], buffers: [buffers[0]])
    try near.postMessage("bytes", bytes: [1], buffers: [buffers[1]])
    try near.postMessage("plain", bitwise: 1, buffers: [buffers[2]])
    try near.postMessage("empty", buffers: [buffers[3]])
    let bytes: [UInt8] = [9]
    try unsafe near.postMessage("span", bytes: bytes.span.bytes, buffers: [buffers[4]])
    let all = try await events.wait(for: 5)
    #expect(all.map(\.name) == ["value", "bytes", "plain", "empty", "span"])
    #expect(try all.flatMap(\.buffers).map { try $0.described() } == (0..<5).map { described(100, $0) })
    let question = try frozen(3000, 9)
    let answer = try await near.request("again", bytes: [1], buffers: [.frozen(question)])
    #expect(!question.isOpen)
    #expect(try answer.buffers.map { try $0.described() } == [described(3000, 9)])
    listener.close()
  }

  // MARK: - All or nothing

  @Test(
    "11.1 A list with a buffer that cannot travel is refused, tells which and why, before the value is encoded; all stays",
    arguments: Place.allCases)
  func invalidLists(_ place: Place) async throws {
    let near = try place.open(.echo)
    let good = try frozen(10, 1), closed = try frozen(10, 2), posted = try frozen(10, 3), common = try shared(10)
    let pipe = try TestPipe(), channel = try MessageChannel()
    closed.close()
    try near.postMessage(buffers: [.frozen(posted)])
    _ = try await onThread { try near.receiveSoon() }
    let encodings = Mutex(0)
    struct Counted: Encodable {
      let count: @Sendable () -> Void
      func encode(to encoder: any Encoder) throws {
        count()
        try true.encode(to: encoder)
      }
    }
    let cases: [([MessageBuffer], Int, BufferProblem)] = [
      ([.frozen(closed)], 0, .isClosed), ([.frozen(good), .frozen(posted)], 1, .isPosted),
      ([.frozen(good), .shared(common), .frozen(good)], 2, .isListedTwice),
    ]
    for (list, index, problem) in cases {
      let isRight = { (error: any Error) in
        if case .invalidBuffer(index, problem)? = error as? PortError { true } else { false }
      }
      #expect {
        try near.postMessage(
          Counted { encodings.withLock { $0 += 1 } }, transfer: [channel.port2], descriptors: [pipe.reader],
          buffers: list)
      } throws: { isRight($0) }
      #expect { try near.postMessage(bytes: [1], descriptors: [pipe.reader], buffers: list) } throws: { isRight($0) }
    }
    #expect(encodings.withLock { $0 } == 0)
    // Nor do good buffers go when something else is wrong.
    let detached = try MessageChannel().port1
    detached.close()
    let list = [MessageBuffer.frozen(good), .shared(common)]
    #expect(portError { try near.postMessage(transfer: [detached], buffers: list) } == "invalidTransfer.isClosed")
    #expect(portError { try detached.postMessage(buffers: list) } == "closed")
    let taken = try TestPipe.readable(containing: 1)
    _ = close(try taken.take())
    #expect(portError { try near.postMessage(descriptors: [taken], buffers: list) } == "invalidDescriptor.isTaken")
    #expect(good.isOpen && common.isOpen && pipe.reader.isOpen && !channel.port2.isDetached)
    #expect(try Array(good.bytes()) == patternBytes(count: 10, seed: 1))
    try near.postMessage(bitwise: 1, descriptors: [pipe.reader], buffers: list)
    let event = try await onThread { try near.receiveSoon() }
    #expect(event.buffers.count == 2 && event.descriptors.count == 1)
  }

  @Test("1.4, 11.1 Of posts at once that list the same buffer, one takes it; whoever closes it waits for the outcome")
  func postedTwice() async throws {
    for round in 0..<100 {
      let buffer = try frozen(5000, 1), copy = try buffer.copy()
      let channels = try (0..<2).map { _ in try sharedChannelHere() }
      let outcomes = Collected<String>()
      for (near, _) in channels {
        startThread {
          outcomes.append(portError { try near.postMessage(bytes: [1], buffers: [.frozen(buffer)]) })
        }
      }
      if round % 2 == 0 {
        try await outcomes.wait(for: 2)
        #expect(outcomes.all.sorted() == ["invalidBuffer.isPosted", "none"])
      } else {
        buffer.close()
        try await outcomes.wait(for: 2)
        #expect(outcomes.all.count { $0 == "none" } <= 1, "\(outcomes.all)")
      }
      #expect(!buffer.isOpen && copy.isOpen)
      let arrived = try channels.compactMap { _, far in
        if case .message(let event) = try far.tryReceive() { event } else { nil }
      }
      #expect(arrived.count == outcomes.all.count { $0 == "none" })
      #expect(try arrived.flatMap(\.buffers).allSatisfy { try $0.described() == described(5000, 1) })
    }
  }

  @Test("2.4, 11.1 A post that exceeds a limit on unread data leaves the buffers", arguments: Place.allCases)
  func queueLimit(_ place: Place) async throws {
    let near = try place.open(.hold, options: ChannelOptions(queueLimitBytes: 4096, messageLimitBytes: 8192))
    let buffer = try large(1 << 20)
    let large = [UInt8](repeating: 1, count: 3000)
    try near.postMessage(bytes: large)
    #expect(portError { try near.postMessage(bytes: large, buffers: [.frozen(buffer)]) } == "queueFull")
    let tooLarge = [UInt8](repeating: 1, count: 8193)
    #expect(portError { try near.postMessage(bytes: tooLarge, buffers: [.frozen(buffer)]) } == "messageTooLarge")
    #expect(buffer.isOpen)
    // The buffer's own size counts for nothing.
    try near.postMessage(bytes: [1], buffers: [.frozen(buffer)])
  }

  @Test(
    "2.3, 11.1, 11.6 A message carries as many buffers as the kernel passes descriptors; one more is refused",
    arguments: Place.allCases, [(0, 0, 253), (0, 100, 153), (60, 1, 131)])
  func limit(_ place: Place, _ most: (ports: Int, descriptors: Int, buffers: Int)) async throws {
    let near = try place.open(.echo)
    let channels = try (0..<most.ports).map { _ in try MessageChannel() }
    let pipe = try TestPipe(), original = try frozen(20_000, 4)
    let files = try (0..<most.descriptors).map { _ in try pipe.reader.duplicate() }
    let copies = try (0...most.buffers).map { _ in MessageBuffer.frozen(try original.copy()) }
    do throws(PortError) {
      try near.postMessage(bytes: [1], transfer: channels.map(\.port2), descriptors: files, buffers: copies)
      Issue.record("not refused")
    } catch {
      guard case .tooManyDescriptors(most.descriptors + copies.count, limit: most.descriptors + most.buffers) = error
      else { throw error }
    }
    try near.postMessage(
      bytes: [1], transfer: channels.map(\.port2), descriptors: files, buffers: Array(copies.dropLast()))
    let event = try await onThread { try near.receiveSoon() }
    #expect(event.descriptors.count == most.descriptors && event.buffers.count == most.buffers)
    #expect(try event.buffers.last?.described() == described(20_000, 4))
  }

  // MARK: - Several holders

  @Test("11.6 A frozen buffer goes to any number of processes, and its pages are there once")
  func manyWorkers() async throws {
    let byteCount = (32 << 20) + 4096
    let original = try large(byteCount)
    let text = try MessageBuffer.frozen(original).described()
    let agents = try (0..<3).map { _ in try Agent(.anotherProcess) }
    let links = try agents.map { _ in try MessageChannel() }
    for (agent, link) in zip(agents, links) { try await agent.call(.keep, 0, transfer: [link.port2]) }
    for (agent, link) in zip(agents, links) {
      try link.port1.postMessage(bytes: [1], buffers: [.frozen(try original.copy())])
      #expect(try await agent.call(.holdBuffers, 0).text == text)
    }
    // All of them have this file mapped, whose pages are all there is.
    var facts = csupport_file_facts()
    let fd = try #require(OpenMemory.descriptors(byteCount: byteCount).first)
    try #require(unsafe csupport_file_facts(fd, &facts) == 0)
    #expect(facts.allocated_bytes < 2 * byteCount)
    for agent in agents {
      let process = try #require(agent.worker?.processIdentifier)
      let mapped = lines(of: "/proc/\(process)/maps").filter { $0.contains("memfd:message-buffer") }
      #expect(mapped.count == 1 && mapped[0].contains(" \(facts.inode) "), "\(mapped)")
    }
    #expect(original.isOpen)
  }

  @Test("11.5 Whoever has a shared buffer sees what others have written before they posted", arguments: Place.allCases)
  func sharedByAll(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let common = try shared(1 << 16)
    for number in 1...20 as ClosedRange<UInt64> {
      try link.port1.postMessage(bytes: [1], buffers: [.shared(try common.copy())])
      try await agent.call(.writeBuffer, 0, number * 8, number)
      #expect(try common.load(as: UInt64.self, at: Int(number) * 8) == number)
    }
  }

  @Test("6.6, 11.6 A buffer may be passed on, from process to process, and whoever had it in between may end")
  func passedOn() async throws {
    let first = try Agent(.anotherProcess), second = try Agent(.anotherProcess)
    let a = try MessageChannel(), b = try MessageChannel()
    try await first.call(.keep, 0, transfer: [a.port2])
    try await second.call(.keep, 0, transfer: [b.port2])
    try await first.call(.postBuffers, 0, 2, 100_000)
    let event = try await onThread { try a.port1.receiveSoon() }
    // Not looked at in between.
    try b.port1.postMessage(bytes: [1], buffers: event.buffers)
    try await first.kill()
    let text = try await second.call(.describeBuffers, 0).text
    #expect(text == [described(100_000, 0), described(100_000, 1)].joined(separator: ", "))
  }

  @Test("6.8, 11.1 A message with buffers outlives the exit, and the death, of its sender", arguments: [false, true])
  func outlivesSender(_ isKilled: Bool) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.postBuffers, 0, 3, 5000)
    if isKilled {
      try await agent.kill()
    } else {
      try agent.begin(.exit, 0)
      _ = await agent.worker?.exitStatus
    }
    let event = try await onThread { try link.port1.receiveSoon() }
    #expect(try event.buffers.map { try $0.described() } == (0..<3).map { described(5000, $0) })
    try await onThread { try link.port1.expectEnd() }
  }

  @Test("11.1 Buffers that waited here go along when the channel becomes shared, and so do those in ports that wait")
  func becomesShared() async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel(), inner = try MessageChannel()
    try inner.port1.postMessage(bytes: [1], buffers: [.frozen(try frozen(7000, 5))])
    try link.port1.postMessage(bytes: [1], transfer: [inner.port2], buffers: [.frozen(try frozen(6000, 4))])
    try await agent.call(.keep, 0, transfer: [link.port2])
    #expect(try await agent.call(.describeBuffers, 0).text == described(6000, 4))
    let other = try MessageChannel()
    try other.port1.postMessage(bytes: [1], buffers: [.frozen(try frozen(6000, 4))])
    try await agent.call(.keep, 1, transfer: [other.port2])
    #expect(try await agent.call(.describeBuffers, 1).text == described(6000, 4))
  }

  @Test("11.1 A reader has buffers as it has descriptors: until the next message")
  func reader() async throws {
    let (near, other) = try sharedChannelHere()
    let halves = try other.split()
    for number in 0..<3 as Range<UInt64> {
      try near.postMessage(bytes: [1], buffers: [.frozen(try frozen(5000, number))])
    }
    let texts = [described(5000, 0), described(5000, 2)]
    try await onThread {
      var reader = halves.takeReader()
      _ = try reader.readSoon { $0.byteCount }
      #expect(try reader.takeBuffers().map { try $0.described() } == [texts[0]])
      #expect(reader.takeBuffers().isEmpty)
      _ = try reader.readSoon { $0.byteCount }
      _ = try reader.readSoon { $0.byteCount }
      #expect(try reader.takeBuffers().map { try $0.described() } == [texts[1]])
    }
  }

  // MARK: - The last holder

  enum Ending: String, CaseIterable, Sendable, CustomStringConvertible {
    case unread, dropped, discarded, killed
    var description: String { rawValue }
  }

  @Test(
    "11.7 Memory is freed with the last holder, in whatever process or message, and nothing is left of it",
    arguments: Ending.allCases)
  func lastHolder(_ ending: Ending) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    if ending == .discarded {
      try await agent.call(.release, 0)
      try await eventually("the other end to be gone") { link.port1.isPeerClosed }
    }
    let far = try await agent.call(.descriptors).value
    var watch: CInt = -1
    do {
      // Of a size that no other test has.
      let buffer = try large((1 << 20) + 11)
      _ = try buffer.bytes()
      watch = ctest_watch_memory(try #require(OpenMemory.descriptors(byteCount: (1 << 20) + 11).first))
      try #require(watch >= 0)
      #expect(!ctest_is_freed(watch))
      try link.port1.postMessage(bytes: [0xff], buffers: [.frozen(buffer)])
    }
    defer { close(watch) }
    switch ending {
    case .unread:
      #expect(!ctest_is_freed(watch))
      try await agent.call(.close, 0)
    case .dropped:
      try await agent.call(.holdBuffers, 0)
      #expect(!ctest_is_freed(watch))
      try await agent.call(.dropBuffers)
    case .discarded: break
    case .killed:
      try await agent.call(.holdBuffers, 0)
      #expect(!ctest_is_freed(watch))
      try await agent.kill()
    }
    try await eventually("the memory's end") { ctest_is_freed(watch) }
    #expect(OpenMemory.descriptors(byteCount: (1 << 20) + 11).isEmpty)
    if ending != .killed {
      try await eventually("the agent's") { try agent.callBlocking(.descriptors).value <= far }
    }
  }
}

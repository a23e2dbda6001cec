import Glibc
import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("Descriptors in messages", .serialized, .timeLimit(.minutes(5)))
struct DescriptorTransferTests {
  /// As many pipes, and the reading ends to be posted.
  private func makePipes(_ count: Int) throws -> [TestPipe] { try (0..<count).map { _ in try TestPipe() } }

  private func isInvalid(_ error: any Error, _ index: Int, _ problem: DescriptorProblem) -> Bool {
    if case .invalidDescriptor(index, problem)? = error as? PortError { true } else { false }
  }

  @Test(
    "11.1, 11.2 Descriptors arrive in list order, close-on-exec, with or without ports, and are gone from the poster",
    arguments: Place.allCases, [(0, 1), (0, 3), (1, 1), (3, 5)])
  func roundTrip(_ place: Place, _ count: (ports: Int, descriptors: Int)) async throws {
    let near = try place.open(.echo)
    let pipes = try makePipes(count.descriptors)
    let channels = try (0..<count.ports).map { _ in try MessageChannel() }
    for (index, pipe) in pipes.enumerated() { try pipe.writer.write(UInt64(index)) }
    let own = try pipes.map { try $0.reader.withDescriptor { $0 } }
    try near.postMessage("hello", transfer: channels.map(\.port2), descriptors: pipes.map(\.reader))
    for pipe in pipes { #expect(!pipe.reader.isOpen) }
    #expect(throws: DescriptorError.posted) { try pipes[0].reader.take() }
    let event = try await onThread { try near.receiveSoon() }
    #expect(try event.decode(String.self) == "hello")
    #expect(event.ports.count == count.ports)
    #expect(try event.descriptors.map { try $0.described() } == pipes.map(\.name))
    // Within a process, nothing is done to them.
    if place == .thisProcess { #expect(try event.descriptors.map { try $0.withDescriptor { $0 } } == own) }
    for (index, descriptor) in event.descriptors.enumerated() {
      #expect(try descriptor.readNumber() == UInt64(index))
    }
    for (channel, port) in zip(channels, event.ports) {
      try port.postMessage(bitwise: 7 as UInt64)
      try await onThread { try channel.port1.expect(7) }
    }
  }

  @Test("11.1 Descriptors arrive in the order of the list", arguments: Place.allCases)
  func order(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let pipes = try makePipes(20)
    try link.port1.postMessage(bytes: [1], descriptors: pipes.map(\.reader))
    #expect(try await agent.call(.describeDescriptors, 0).text == pipes.map(\.name).joined(separator: ", "))
    for pipe in pipes { try await pipe.expectReadersClosed() }
  }

  @Test("11.1 Every way of posting takes descriptors along", arguments: Place.allCases)
  func waysOfPosting(_ place: Place) async throws {
    let near = try place.open(.echo)
    let files = try (0..<7).map { try TestPipe.readable(containing: UInt64($0)) }
    try near.postMessage([1, 2], descriptors: [files[0]])
    try near.postMessage(bytes: [1], descriptors: [files[1]])
    try near.postMessage(bitwise: 3, descriptors: [files[2]])
    try unsafe near.postMessage(unsafeBitwise: true, descriptors: [files[3]])
    try near.postMessage(byteCount: 8, descriptors: [files[4]]) { unsafe $0.append(5, as: UInt8.self) }
    try near.postMessage(descriptors: [files[5]])
    let bytes: [UInt8] = [9]
    try unsafe near.postMessage(bytes: bytes.span.bytes, descriptors: [files[6]])
    for number in 0..<7 as Range<UInt64> {
      let event = try await onThread { try near.receiveSoon() }
      #expect(try event.descriptors.map { try $0.readNumber() } == [number])
    }
    // And with nothing in the lists, it is a message like any other.
    try near.postMessage(bitwise: 4, descriptors: [])
    let event = try await onThread { try near.receiveSoon() }
    #expect(event.descriptors.isEmpty && event.ports.isEmpty)
  }

  @Test("8.2, 11.1 So does every way of posting on a connection")
  func connection() async throws {
    let listener = try Listener(path: freshPath(".socket"))
    var connections = listener.connections.makeAsyncIterator()
    let near = try await Connection.connect(path: listener.path)
    let far = try #require(await connections.next())
    let events = Collected<ConnectionEvent>()
    far.onUnhandled = { events.append($0) }
    let files = try (0..<5).map { try TestPipe.readable(containing: UInt64($0)) }
    try near.postMessage("value", [1], descriptors: [files[0]])
    try near.postMessage("bytes", bytes: [1], descriptors: [files[1]])
    try near.postMessage("plain", bitwise: 1, descriptors: [files[2]])
    try near.postMessage("empty", descriptors: [files[3]])
    let bytes: [UInt8] = [9]
    try unsafe near.postMessage("span", bytes: bytes.span.bytes, descriptors: [files[4]])
    let all = try await events.wait(for: 5)
    #expect(all.map(\.name) == ["value", "bytes", "plain", "empty", "span"])
    #expect(try all.flatMap(\.descriptors).map { try $0.readNumber() } == [0, 1, 2, 3, 4])
    // What is wrong with the list is found before the value is encoded.
    let encodings = Mutex(0)
    #expect {
      try near.postMessage("value", Counted { encodings.withLock { $0 += 1 } }, descriptors: [files[0]])
    } throws: { isInvalid($0, 0, .isPosted) }
    #expect(encodings.withLock { $0 } == 0)
    listener.close()
  }

  /// Counts how often it is encoded.
  private struct Counted: Encodable {
    let count: @Sendable () -> Void
    func encode(to encoder: any Encoder) throws {
      count()
      try true.encode(to: encoder)
    }
  }

  // MARK: - All or nothing

  @Test(
    "11.1 A list with a descriptor that cannot travel is refused, tells which and why, before the value is encoded; all stays",
    arguments: Place.allCases)
  func invalidLists(_ place: Place) async throws {
    let near = try place.open(.echo)
    let good = try TestPipe(), channel = try MessageChannel()
    let closed = try TestPipe.readable(containing: 1), taken = try TestPipe.readable(containing: 1)
    let posted = try TestPipe.readable(containing: 1)
    closed.close()
    _ = close(try taken.take())
    try near.postMessage(descriptors: [posted])
    _ = try await onThread { try near.receiveSoon() }
    let encodings = Mutex(0)
    let cases: [([Descriptor], Int, DescriptorProblem)] = [
      ([closed], 0, .isClosed), ([good.reader, taken], 1, .isTaken),
      ([good.reader, good.writer, posted], 2, .isPosted),
      ([good.reader, good.reader], 1, .isListedTwice),
    ]
    for (list, index, problem) in cases {
      #expect {
        try near.postMessage(
          Counted { encodings.withLock { $0 += 1 } }, transfer: [channel.port2], descriptors: list)
      } throws: { isInvalid($0, index, problem) }
      #expect {
        try near.postMessage(byteCount: 8, descriptors: list) { _ in encodings.withLock { $0 += 1 } }
      } throws: { isInvalid($0, index, problem) }
      #expect { try near.postMessage(bytes: [1], descriptors: list) } throws: { isInvalid($0, index, problem) }
    }
    #expect(encodings.withLock { $0 } == 0)
    // Nor do good descriptors go when something else is wrong.
    let detached = try MessageChannel().port1
    detached.close()
    #expect(
      portError { try near.postMessage(transfer: [detached], descriptors: [good.reader]) } == "invalidTransfer.isClosed"
    )
    #expect(portError { try detached.postMessage(descriptors: [good.reader]) } == "closed")
    struct Unencodable: Encodable { func encode(to encoder: any Encoder) throws { throw CancellationError() } }
    #expect(portError { try near.postMessage(Unencodable(), descriptors: [good.reader]) } == "encodingFailed")
    #expect(good.reader.isOpen && good.writer.isOpen && !channel.port2.isDetached)
    try good.writer.write(5)
    #expect(try good.reader.readNumber() == 5)
    // And the port is as usable as before.
    try near.postMessage(bitwise: 1, descriptors: [good.reader])
    let event = try await onThread { try near.receiveSoon() }
    #expect(try event.descriptors.map { try $0.target() } == [good.name])
  }

  @Test("2.4, 11.1 A post that exceeds a limit on unread data leaves the descriptors", arguments: Place.allCases)
  func queueLimit(_ place: Place) async throws {
    let near = try place.open(.hold, options: ChannelOptions(queueLimitBytes: 4096, messageLimitBytes: 8192))
    let pipe = try TestPipe()
    let large = [UInt8](repeating: 1, count: 3000)
    try near.postMessage(bytes: large)
    #expect(portError { try near.postMessage(bytes: large, descriptors: [pipe.reader]) } == "queueFull")
    let tooLarge = [UInt8](repeating: 1, count: 8193)
    #expect(portError { try near.postMessage(bytes: tooLarge, descriptors: [pipe.reader]) } == "messageTooLarge")
    #expect(pipe.reader.isOpen)
    try near.postMessage(bytes: [1], descriptors: [pipe.reader])
  }

  @Test(
    "2.3, 11.1 A message carries as many descriptors as the kernel passes at once, fewer beside ports; one more is refused",
    arguments: Place.allCases, [(0, 253), (1, 250), (60, 132), (125, 2), (126, 0)])
  func limit(_ place: Place, _ most: (ports: Int, descriptors: Int)) async throws {
    #expect(MessagePort.maximumDescriptorsPerMessage == 253)
    let near = try place.open(.echo)
    let channels = try (0..<most.ports).map { _ in try MessageChannel() }
    let pipe = try TestPipe()
    let files = try (0...most.descriptors).map { _ in try pipe.reader.duplicate() }
    let ports = channels.map(\.port2)
    do throws(PortError) {
      try near.postMessage(bytes: [1], transfer: ports, descriptors: files)
      Issue.record("not refused")
    } catch {
      guard case .tooManyDescriptors(files.count, limit: most.descriptors) = error else { throw error }
    }
    #expect(files.allSatisfy(\.isOpen) && ports.allSatisfy { !$0.isDetached })
    try near.postMessage(bytes: [1], transfer: ports, descriptors: Array(files.dropLast()))
    let event = try await onThread { try near.receiveSoon() }
    #expect(event.ports.count == most.ports)
    #expect(try event.descriptors.map { try $0.target() } == [String](repeating: pipe.name, count: most.descriptors))
  }

  @Test("11.1 So many descriptors and ports arrive also if each port has received a part of a message")
  func limitInPart() async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let parts = try (0..<3).map { number in
      let (poster, receiver) = try sharedChannelHere()
      return try PartialMessage(from: poster, to: receiver, byteCount: 140_000 + number * 3001, seed: UInt64(number))
    }
    let pipe = try TestPipe()
    let files = try (0..<246).map { _ in try pipe.reader.duplicate() }
    try link.port1.postMessage(bytes: [1], transfer: parts.map(\.receiver), descriptors: files)
    #expect(try await agent.call(.holdDescriptors, 0).value == 246)
  }

  // MARK: - Nobody receives them

  @Test("2.7, 11.1 A message that is posted to nobody closes its descriptors", arguments: Place.allCases)
  func discarded(_ place: Place) async throws {
    let near = try place.open(.drop)
    let pipe = try TestPipe()
    try await eventually("the other end to be gone") { near.isPeerClosed }
    try near.postMessage(bytes: [1], descriptors: [pipe.reader])
    #expect(!pipe.reader.isOpen)
    try await pipe.expectReadersClosed()
  }

  @Test("6.7, 11.1 A message that its receiver never reads closes its descriptors with it", arguments: Place.allCases)
  func unread(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let pipe = try TestPipe()
    try link.port1.postMessage(bytes: [1], descriptors: [pipe.reader])
    #expect(try !TestPipe.isHungUp(pipe.writer))
    try await agent.call(.close, 0)
    try await pipe.expectReadersClosed()
  }

  @Test("6.7, 11.1 So does one that waits in a port which waits in a message", arguments: Place.allCases)
  func unreadInside(_ place: Place) async throws {
    let agent = try Agent(place)
    let link = try MessageChannel(), inner = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let pipe = try TestPipe()
    try inner.port1.postMessage(bytes: [1], descriptors: [pipe.reader])
    try link.port1.postMessage(bytes: [1], transfer: [inner.port2])
    #expect(try !TestPipe.isHungUp(pipe.writer))
    try await agent.call(.close, 0)
    try await pipe.expectReadersClosed()
  }

  @Test(
    "6.7, 11.1 So does one whose receiver is killed, and so do descriptors that it holds", arguments: [false, true])
  func killed(_ isReceived: Bool) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let pipe = try TestPipe()
    try link.port1.postMessage(bytes: [1], descriptors: [pipe.reader])
    if isReceived { try await agent.call(.holdDescriptors, 0) }
    #expect(try !TestPipe.isHungUp(pipe.writer))
    try await agent.kill()
    try await pipe.expectReadersClosed()
  }

  @Test(
    "6.8, 11.1 A message with descriptors outlives the normal exit, and the death, of its sender",
    arguments: [false, true])
  func outlivesSender(_ isKilled: Bool) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.postDescriptors, 0, 3)
    if isKilled {
      try await agent.kill()
    } else {
      try agent.begin(.exit, 0)
      _ = await agent.worker?.exitStatus
    }
    let event = try await onThread { try link.port1.receiveSoon() }
    #expect(try event.descriptors.map { try $0.readNumber() } == [0, 1, 2])
    try await onThread { try link.port1.expectEnd() }
  }

  // MARK: - Those who receive them

  @Test(
    "11.2 What nobody takes from an event is closed with its last copy; what somebody keeps or takes is not",
    arguments: Place.allCases)
  func lastCopy(_ place: Place) async throws {
    let near = try place.open(.echo)
    let pipes = try makePipes(3)
    try near.postMessage(bytes: [1], descriptors: pipes.map(\.reader))
    var event: MessageEvent? = try await onThread { try near.receiveSoon() }
    var copy = event
    let kept = event?.descriptors[1], taken = try #require(try event?.descriptors[2].take())
    event = nil
    for pipe in pipes { #expect(try !TestPipe.isHungUp(pipe.writer)) }
    _ = copy?.byteCount
    copy = nil
    try await pipes[0].expectReadersClosed()
    #expect(try !TestPipe.isHungUp(pipes[1].writer) && !TestPipe.isHungUp(pipes[2].writer))
    #expect(kept?.isOpen == true)
    kept?.close()
    close(taken)
    for pipe in pipes { try await pipe.expectReadersClosed() }
  }

  @Test("3.7, 11.1 A message that does not decode closes its descriptors", arguments: Place.allCases)
  func undecodable(_ place: Place) async throws {
    let near = try place.open(.echo)
    let pipe = try TestPipe(), errors = Collected<MessageError>(), values = Collected<String>()
    near.onMessageError = { errors.append($0) }
    near.onMessage(of: String.self) { value, _ in values.append(value) }
    try near.postMessage(bytes: [0xff, 0xff, 0xff], descriptors: [pipe.reader])
    try near.postMessage("next")
    try await errors.wait(for: 1)
    #expect(try await values.wait(for: 1) == ["next"])
    try await pipe.expectReadersClosed()
  }

  @Test("11.1 A reader has descriptors as it has ports: until the next message, or the next batch")
  func reader() async throws {
    let (near, other) = try sharedChannelHere()
    let halves = try other.split()
    let pipes = try makePipes(5)
    for pipe in pipes.prefix(3) { try near.postMessage(bytes: [1], descriptors: [pipe.reader]) }
    try await onThread {
      var reader = halves.takeReader()
      _ = try reader.readSoon { $0.byteCount }
      #expect(try reader.takeDescriptors().map { try $0.target() } == [pipes[0].name])
      #expect(reader.takeDescriptors().isEmpty)
      // Nobody takes this one, and it goes with the next.
      _ = try reader.readSoon { $0.byteCount }
      #expect(try !TestPipe.isHungUp(pipes[1].writer))
      _ = try reader.readSoon { $0.byteCount }
      try waitUntil("the close") { try TestPipe.isHungUp(pipes[1].writer) }
      #expect(try reader.takeDescriptors().map { try $0.target() } == [pipes[2].name])
      for pipe in pipes[3...] { try near.postMessage(bytes: [1], descriptors: [pipe.reader]) }
      #expect(try reader.readBatch(upTo: 2) { _ in } == 2)
      #expect(try reader.takeDescriptors().map { try $0.target() } == pipes[3...].map(\.name))
    }
  }

  // MARK: - Sharing

  @Test("6.4, 11.1 Descriptors that wait at a port go with it to another process, with the ports of the same message")
  func waitingAtPort() async throws {
    let agent = try Agent(.anotherProcess)
    let channel = try MessageChannel(), inner = try MessageChannel()
    let pipes = try makePipes(4)
    try channel.port1.postMessage(bytes: [1], descriptors: [pipes[0].reader, pipes[1].reader])
    try inner.port1.postMessage(bytes: [1], descriptors: [pipes[2].reader])
    try channel.port1.postMessage(bytes: [1], transfer: [inner.port2], descriptors: [pipes[3].reader])
    try await agent.call(.keep, 0, transfer: [channel.port2])
    #expect(try await agent.call(.describeDescriptors, 0).text == pipes[..<2].map(\.name).joined(separator: ", "))
    let second = try await agent.call(.describeDescriptors, 0)
    #expect(second.text == pipes[3].name && second.value == 1)
    for pipe in [pipes[0], pipes[1], pipes[3]] { try await pipe.expectReadersClosed() }
    // The port of that message was dropped as well, and what waited there with it.
    try await pipes[2].expectReadersClosed()
  }

  @Test("2.2, 11.1 A channel with a descriptor that the kernel does not pass on cannot leave, and stays as it was")
  func sharingFails() async {
    // In a process of its own, as a number becomes free for a moment that an object still has.
    await #expect(processExitsWith: .success) {
      await recordErrors { try await Self.expectSharingFails() }
    }
  }

  private static func expectSharingFails() async throws {
    let agent = try await settledAgent()
    let channel = try MessageChannel()
    let pipe = try TestPipe()
    // Where no other will be.
    let lost = try pipe.reader.withDescriptor { fcntl($0, F_DUPFD_CLOEXEC, 500) }
    let bad = try Descriptor(owning: lost)
    try channel.port1.postMessage(bitwise: 1 as UInt64, descriptors: [pipe.reader])
    // Somebody else closes the number behind the library's back.
    try channel.port1.postMessage(bitwise: 2 as UInt64, descriptors: [bad])
    close(lost)
    for _ in 0..<2 {
      #expect(portError { try agent.control.postMessage(bytes: [], transfer: [channel.port2]) } == "system.\(EBADF)")
    }
    #expect(!channel.port2.isDetached)
    let event = try await onThread { try channel.port2.receiveSoon() }
    #expect(try event.load(as: UInt64.self) == 1)
    #expect(try event.descriptors.map { try $0.target() } == [pipe.name])
    #expect(try await onThread { try channel.port2.receiveSoon().descriptors.count } == 1)
  }

  // MARK: - The kernel's limits

  @Test(
    "11.1 More descriptors than the system carries are a typed error that changed nothing; once some were taken, more go"
  )
  func tooManyInFlight() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let link = try MessageChannel()
        try await agent.call(.keep, 0, transfer: [link.port2])
        // The limit is one for those without privileges.
        if geteuid() == 0 { try #require(setuid(65534) == 0) }
        setLimit(RLIMIT_NOFILE, 256)
        let pipe = try TestPipe()
        var posted = 0
        while posted < 10_000 {
          let file = try pipe.reader.duplicate()
          do {
            try link.port1.postMessage(bitwise: posted, descriptors: [file])
            posted += 1
          } catch PortError.transferQueueFull {
            #expect(try file.target() == pipe.name)
            break
          }
        }
        #expect(posted > 20 && posted < 10_000)
        try link.port1.postMessage(bitwise: 1)
        for _ in 0..<posted { try await agent.call(.describeDescriptors, 0) }
        try await agent.call(.expect, 0, 1, 1)
        try link.port1.postMessage(bitwise: 0, descriptors: [try pipe.reader.duplicate()])
        #expect(try await agent.call(.describeDescriptors, 0).text == pipe.name)
      }
    }
  }
}

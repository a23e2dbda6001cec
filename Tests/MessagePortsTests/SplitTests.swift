import MessagePorts
import TestSupport
import Testing

@Suite("Split ports", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct SplitTests {
  private static let patience = Duration.seconds(10)

  /// A channel whose second port is split, and whose first one is still a port.
  private struct Split: ~Copyable {
    let port: MessagePort
    var writer: PortWriter
    var reader: PortReader

    init(_ options: ChannelOptions = ChannelOptions()) throws {
      let channel = try MessageChannel(options: options)
      self.init(channel.port1, try Halves(channel.port2))
    }

    private init(_ port: MessagePort, _ halves: Halves) {
      self.port = port
      writer = halves.takeWriter()
      reader = halves.takeReader()
    }

    mutating func expect(_ number: Int, within limit: Duration = SplitTests.patience) throws {
      let found = try reader.read(timeout: limit) { bytes in
        bytes.byteCount == 8 ? unsafe bytes.unsafeLoadUnaligned(as: Int.self) : -bytes.byteCount
      }
      if found != number { throw Agent.Failure(description: "\(found) instead of \(number)") }
    }
  }

  private func takeNumber(_ port: MessagePort) throws -> Int {
    try port.receive(timeout: Self.patience).load(as: Int.self)
  }

  // MARK: - Splitting

  @Test("Messages that wait go to the reader, whether the channel was local or shared, and later ones follow", arguments: Place.allCases)
  func queuedMessages(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    for number in 0..<500 { try channel.port1.postMessage(bitwise: number) }
    // Through another process and back, or not at all.
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let back = try #require(try await agent.call(.give, 1).ports.first)
    for number in 500..<1000 { try channel.port1.postMessage(bitwise: number) }
    let halves = try Halves(back)
    for number in 1000..<1500 { try channel.port1.postMessage(bitwise: number) }
    var reader = halves.takeReader()
    for number in 0..<1500 {
      let found = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
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
    let halves = try Halves(channel.port2)
    #expect(channel.port2.isDetached && !channel.port2.isClosed && channel.port2.onMessage == nil)
    for body in [
      { try channel.port2.postMessage(bytes: [1]) }, { _ = try channel.port2.tryReceive() },
      { _ = try channel.port2.receive(timeout: .seconds(1)) }, { _ = try channel.port2.split() },
      { try MessageChannel().port1.postMessage(bytes: [], transfer: [channel.port2]) },
    ] as [() throws -> Void] {
      #expect(throws: PortError.self) { try body() }
    }
    channel.port2.close()
    try channel.port1.postMessage(bitwise: 5)
    var reader = halves.takeReader()
    let number = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(number == 5 && closes.count == 0)
  }

  @Test("A closed port cannot be split; one whose peer is closed can, and its reader gets the rest and the reason")
  func closed() throws {
    let channel = try MessageChannel()
    channel.port1.close()
    #expect { _ = try Halves(channel.port1) } throws: { if case PortError.closed = $0 { true } else { false } }

    let other = try MessageChannel()
    try other.port1.postMessage(bitwise: 1)
    other.port1.close()
    var reader = try Halves(other.port2).takeReader()
    let number = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(number == 1)
    let end = end(of: &reader)
    #expect(end == "closed by peer")
  }

  /// Why a reader finds nothing more.
  private func end(of reader: inout PortReader) -> String {
    do {
      let count = try reader.read(timeout: Self.patience) { $0.byteCount }
      return "a message of \(count) bytes"
    } catch PortError.peerClosed(let reason) {
      return "\(reason)"
    } catch {
      return "\(error)"
    }
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
      far = try joined(Halves(far))
    }
    let blocked = port
    let outcome = TestThread { () -> String in
      do {
        _ = try blocked.receive(timeout: .seconds(8))
        return "message"
      } catch { return "\(error)" }
    }
    try await Task.sleep(for: .milliseconds(50))
    let began = ContinuousClock.now
    let halves = try Halves(blocked)
    #expect(try outcome.join() == "detached")
    #expect(ContinuousClock.now - began < .seconds(4))
    withExtendedLifetime((halves, far)) {}
  }

  private func joined(_ halves: Halves) throws -> MessagePort {
    try MessagePort(joining: halves.takeWriter(), halves.takeReader())
  }

  // MARK: - Joining

  @Test("Order is kept through splitting, joining and transfer, on both ends, any number of times", arguments: Place.allCases)
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
      let halves = try Halves(port)
      var writer = halves.takeWriter()
      var reader = halves.takeReader()
      for number in 1...10 {
        let wrote = try writer.tryWrite(bitwise: sent + number)
        try #require(wrote)
      }
      for _ in 0..<20 {
        let number = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
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
      let (one, two) = (try Halves(first.port2), try Halves(second.port2))
      #expect { _ = try MessagePort(joining: one.takeWriter(), two.takeReader()) } throws: {
        if case PortError.halvesDiffer = $0 { true } else { false }
      }
      // The other halves are still good for nothing but closing.
    }
    for port in [first.port1, second.port1] {
      #expect { _ = try port.receive(timeout: Self.patience) } throws: {
        if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
      }
    }
  }

  @Test("A joined port's handler is given what the reader has left, and the close after it")
  func joinedHandler() async throws {
    let channel = try MessageChannel()
    let halves = try Halves(channel.port2)
    for number in 0..<20 { try channel.port1.postMessage(bitwise: number) }
    var reader = halves.takeReader()
    let first = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
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
    let halves = try Halves(channel.port2)
    var writer: PortWriter? = halves.takeWriter()
    var reader: PortReader? = halves.takeReader()
    if writerFirst {
      writer = nil
      try channel.port1.postMessage(bitwise: 3)
      let number = try reader!.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
      #expect(number == 3 && !channel.port1.isPeerClosed)
      reader = nil
    } else {
      reader = nil
      let wrote = try writer!.tryWrite(bitwise: 4)
      #expect(wrote)
      #expect(try takeNumber(channel.port1) == 4 && !channel.port1.isPeerClosed)
      writer = nil
    }
    #expect { _ = try channel.port1.receive(timeout: Self.patience) } throws: {
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
    // A full ring is what makes a writer ask.
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
    let halves = try Halves(channel.port1)
    let outcome = TestThread { () -> String in
      var writer = halves.takeWriter()
      var reader = halves.takeReader()
      writer.capacityBytes > 0 ? () : ()
      do {
        if isReading {
          for number in 0..<1000 {
            let found = try reader.read(timeout: .seconds(8)) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
            if found != number { return "\(found) instead of \(number)" }
          }
        } else {
          while true {
            while try writer.tryWrite(bitwise: 1) {}
            try writer.waitForSpace(byteCount: 8, timeout: .seconds(8))
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

  // MARK: - Writing

  @Test("A full ring is a value; what was read makes room for as much", arguments: [0, 8, 100, 376])
  func full(_ size: Int) throws {
    var split = try Split()
    let bytes = [UInt8](repeating: 7, count: size)
    var (written, read) = (0, 0)
    for _ in 0..<200 {
      while try unsafe split.writer.tryWrite(bytes.span.bytes) { written += 1 }
      #expect(written > read)
      let room = try split.writer.tryWrite(bitwise: 1 as UInt8)
      if room { written += 1 }
      while case .message(let event) = try split.port.tryReceive() {
        #expect(event.byteCount == size || event.byteCount == 1)
        read += 1
      }
      #expect(read == written)
    }
    #expect(split.writer.capacityBytes == 1536)
  }

  @Test("A message that never fits is an error with the limit, whatever its size, and changes nothing")
  func tooLarge() throws {
    var split = try Split()
    let limit = split.writer.maximumMessageBytes
    func expectTooLarge(_ size: Int, _ body: (inout PortWriter) throws -> Void, line: Int = #line) {
      do {
        try body(&split.writer)
        Issue.record("\(size) bytes, line \(line)")
      } catch PortError.messageTooLarge(let found, let reported) {
        #expect(found == size && reported == limit)
      } catch {
        Issue.record("\(error)")
      }
    }
    // When the ring is full, nothing but the size decides.
    while try split.writer.tryWrite(bitwise: 0 as UInt64) {}
    for size in [limit + 1, 1536, 1 << 20] {
      let bytes = [UInt8](repeating: 0, count: size)
      expectTooLarge(size) { _ = try unsafe $0.tryWrite(bytes.span.bytes) }
    }
    while case .message = try split.port.tryReceive() {}
    for size in [-1, .min, limit + 1, 1536, 1 << 40, .max - 16, .max - 8, .max - 7, .max] {
      expectTooLarge(size) { writer in
        _ = try writer.tryReserve(byteCount: size) { _ in Issue.record("filled") }
      }
      expectTooLarge(size) { try $0.waitForSpace(byteCount: size, timeout: .zero) }
    }
    let wrote = try split.writer.tryWrite(bitwise: 9)
    #expect(wrote)
    #expect(try takeNumber(split.port) == 9)
  }

  @Test("A reserved message is as long as what was written, and none if writing it failed")
  func reserve() throws {
    var split = try Split()
    let limit = split.writer.maximumMessageBytes
    for (reserved, written) in [(0, 0), (1, 1), (100, 0), (100, 1), (100, 99), (limit, limit), (limit, 3)] {
      let wrote = try split.writer.tryReserve(byteCount: reserved) { output in
        for index in 0..<written { output.append(UInt8(truncatingIfNeeded: index)) }
      }
      #expect(wrote)
      #expect(try split.port.receive(timeout: Self.patience).bytes == (0..<written).map { UInt8(truncatingIfNeeded: $0) })
    }
    var failure: String?
    do {
      _ = try split.writer.tryReserve(byteCount: 100) { (output) throws(PortError) in
        output.append(1)
        throw .cancelled
      }
    } catch { failure = "\(error)" }
    #expect(failure == "cancelled")
    let wrote = try split.writer.tryWrite(bitwise: 5)
    #expect(wrote)
    #expect(try takeNumber(split.port) == 5)
  }

  @Test("A batch is published at its end, also by an error, and if the ring fills up, what fitted is")
  func batch() throws {
    var split = try Split()
    let port = split.port
    func count() throws -> Int {
      var count = 0
      while case .message = try port.tryReceive() { count += 1 }
      return count
    }
    for round in 0..<50 {
      try split.writer.batch { (writer) throws(PortError) in
        for number in 0..<round % 12 {
          let wrote = try writer.tryWrite(bitwise: number)
          #expect(wrote)
        }
        let early = (try? count()) ?? -1
        #expect(early == 0)
      }
      #expect(try count() == round % 12)
    }
    var failed = false
    do {
      try split.writer.batch { (writer) throws(PortError) in
        _ = try writer.tryWrite(bitwise: 1)
        throw .cancelled
      }
    } catch { failed = true }
    #expect(failed)
    #expect(try count() == 1)
    let written = try split.writer.batch { (writer) throws(PortError) in
      var written = 0
      while try writer.tryWrite(bitwise: written) { written += 1 }
      return written
    }
    #expect(written > 50)
    #expect(try count() == written)
    // A sleeper is woken by a batch, too.
    let receiver = TestThread { try port.receive(timeout: Self.patience).load(as: Int.self) }
    usleepBriefly(20_000)
    try split.writer.batch { (writer) throws(PortError) in _ = try writer.tryWrite(bitwise: 77) }
    #expect(try receiver.join() == 77)
  }

  @Test("Waiting for room ends with room, with its time, and with the other end", arguments: [SpinPolicy.never, .adaptive])
  func waitForSpace(_ policy: SpinPolicy) throws {
    var split = try Split(ChannelOptions(spinPolicy: policy))
    let port = split.port
    try split.writer.waitForSpace(byteCount: 100)
    while try split.writer.tryWrite(bitwise: 1) {}
    let began = ContinuousClock.now
    var outcome = ""
    do { try split.writer.waitForSpace(byteCount: 8, timeout: .milliseconds(50)) } catch { outcome = "\(error)" }
    #expect(outcome == "timedOut" && ContinuousClock.now - began >= .milliseconds(50))
    for size in [8, 200, 376] {
      let reader = TestThread {
        usleepBriefly(30_000)
        for _ in 0..<60 { _ = try port.tryReceive() }
      }
      try split.writer.waitForSpace(byteCount: size, timeout: Self.patience)
      try reader.join()
      while try split.writer.tryWrite(bitwise: 1) {}
    }
    let closer = TestThread {
      usleepBriefly(30_000)
      port.close()
    }
    outcome = ""
    do { try split.writer.waitForSpace(byteCount: 376, timeout: Self.patience) } catch { outcome = "\(error)" }
    #expect(outcome == "peerClosed(closed by peer)")
    try closer.join()
  }

  // MARK: - Reading

  @Test("A plain value of another size is consumed, and the error says both sizes")
  func bitwise() throws {
    var split = try Split()
    try split.port.postMessage(bitwise: 1 as UInt32)
    try split.port.postMessage(bitwise: 2 as UInt64)
    var mismatch: BitwiseSizeMismatch?
    do {
      _ = try split.reader.tryRead(bitwise: UInt64.self)
    } catch PortError.decodingFailed(let error) {
      mismatch = error as? BitwiseSizeMismatch
    }
    #expect(mismatch?.expectedByteCount == 8 && mismatch?.actualByteCount == 4)
    let value = try split.reader.tryRead(bitwise: UInt64.self)
    let none = try split.reader.tryRead(bitwise: UInt64.self)
    #expect(value == 2 && none == nil)
  }

  @Test("A batch is read up to its limit, and none is no error")
  func readBatch() throws {
    var split = try Split()
    for number in 0..<100 { try split.port.postMessage(bitwise: number) }
    var numbers: [Int] = []
    var counts: [Int] = []
    for _ in 0..<5 {
      counts.append(try split.reader.readBatch(upTo: 30) { numbers.append(unsafe $0.unsafeLoadUnaligned(as: Int.self)) })
    }
    counts.append(try split.reader.readBatch(upTo: 0) { _ in })
    #expect(counts == [30, 30, 30, 10, 0, 0])
    #expect(numbers == Array(0..<100))
  }

  @Test("Reading waits for the next message, at most its time", arguments: [nil, 0, 20, 200])
  func timeouts(_ milliseconds: Int?) throws {
    var split = try Split()
    if let milliseconds {
      let began = ContinuousClock.now
      for isWait in [false, true] {
        var outcome = ""
        do {
          if isWait {
            try split.reader.waitForMessage(timeout: .milliseconds(milliseconds))
          } else {
            _ = try split.reader.read(timeout: .milliseconds(milliseconds)) { $0.byteCount }
          }
        } catch { outcome = "\(error)" }
        #expect(outcome == "timedOut")
      }
      let waited = ContinuousClock.now - began
      #expect(waited >= .milliseconds(2 * milliseconds) && waited < .milliseconds(2 * milliseconds + 1500))
    }
    let port = split.port
    let poster = TestThread {
      usleepBriefly(30_000)
      try port.postMessage(bitwise: 5)
    }
    let number = try split.reader.read { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(number == 5)
    try poster.join()
  }

  @Test(
    "Whatever a reader does before it sleeps, a conversation loses no wake-up",
    arguments: [SpinPolicy.never, .adaptive, .duration(.microseconds(5)), .duration(.milliseconds(1)), .always], [false, true])
  func spinPolicies(_ policy: SpinPolicy, _ isPolling: Bool) throws {
    let channel = try MessageChannel(options: ChannelOptions(spinPolicy: policy))
    let (near, far) = (try Halves(channel.port1), try Halves(channel.port2))
    // Two that spin depend on the scheduler if the machine has other things to do.
    let rounds = policy == .always || policy == .duration(.milliseconds(1)) ? 40 : 1500
    let echo = TestThread {
      var writer = far.takeWriter()
      var reader = far.takeReader()
      #expect(reader.spinPolicy == policy)
      for _ in 0..<rounds {
        if isPolling { reader.startPolling() }
        let number = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
        _ = try writer.tryWrite(bitwise: number)
      }
    }
    var writer = near.takeWriter()
    var reader = near.takeReader()
    for number in 0..<rounds {
      let wrote = try writer.tryWrite(bitwise: number)
      try #require(wrote)
      if isPolling { reader.startPolling() }
      if number % 100 == 0 { usleepBriefly(300) }
      let answer = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
      try #require(answer == number)
    }
    try echo.join()
  }

  @Test("A stream between two split ports that both sleep arrives complete and in order")
  func stream() throws {
    let channel = try MessageChannel(options: ChannelOptions(spinPolicy: .never))
    let (near, far) = (try Halves(channel.port1), try Halves(channel.port2))
    let count = 60_000
    let sink = TestThread {
      var reader = far.takeReader()
      var next = 0
      while next < count {
        if next % 1000 == 0 { reader.startPolling() }
        let number = try reader.read(timeout: Self.patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
        if number != next { throw Agent.Failure(description: "\(number) instead of \(next)") }
        next += 1
      }
    }
    var writer = near.takeWriter()
    for number in 0..<count {
      while try !writer.tryWrite(bitwise: number) { try writer.waitForSpace(byteCount: 8, timeout: Self.patience) }
    }
    try sink.join()
  }

  // MARK: - With a port at the other end

  @Test("Large messages and ports from a port arrive at a reader in order", arguments: Place.allCases)
  func fromPorts(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let halves = try Halves(channel.port1)
    let extra = try (0..<4).map { _ in try MessageChannel() }
    let sizes = [0, 376, 100_000, 131_072, 131_073, 500_000, 3_000_000] as [UInt64]
    let sink = TestThread { () -> [MessagePort] in
      var reader = halves.takeReader()
      for (seed, size) in sizes.enumerated() {
        let bytes = try reader.read(timeout: Self.patience) { span in unsafe span.withUnsafeBytes { unsafe Array($0) } }
        if bytes != patternBytes(count: Int(size), seed: UInt64(seed)) {
          throw Agent.Failure(description: "\(bytes.count) bytes differ from \(size)")
        }
      }
      if !reader.takePorts().isEmpty { throw Agent.Failure(description: "ports from nowhere") }
      var ports: [MessagePort] = []
      for _ in 0..<2 {
        _ = try reader.read(timeout: Self.patience) { $0.byteCount }
        ports += reader.takePorts()
      }
      let none = reader.takePorts()
      if !none.isEmpty { throw Agent.Failure(description: "ports taken twice") }
      return ports
    }
    for (seed, size) in sizes.enumerated() { try await agent.call(.postBytes, 1, size, UInt64(seed)) }
    try await agent.call(.keep, 2, transfer: [extra[0].port2])
    try await agent.call(.pass, 2, 1, 7)
    // With a message in fragments as well, from here.
    let port = try #require(try await agent.call(.give, 1).ports.first)
    try port.postMessage(bytes: patternBytes(count: 300_000, seed: 1), transfer: [extra[1].port2, extra[2].port2])
    let ports = try sink.join()
    #expect(ports.count == 3)
    for (index, port) in ports.enumerated() {
      try extra[index].port1.postMessage(bitwise: index)
      #expect(try takeNumber(port) == index)
    }
    withExtendedLifetime(halves.takeWriter()) {}
  }

  @Test("Ports that nobody takes from a reader close with it")
  func untakenPorts() throws {
    let channel = try MessageChannel()
    let extra = try MessageChannel()
    do {
      let halves = try Halves(channel.port2)
      try channel.port1.postMessage(bytes: [1], transfer: [extra.port2])
      var reader = halves.takeReader()
      _ = try reader.read(timeout: Self.patience) { $0.byteCount }
      #expect(!extra.port1.isPeerClosed)
    }
    #expect { _ = try extra.port1.receive(timeout: Self.patience) } throws: {
      if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
    }
  }

  @Test("A reader that only looks, and never sleeps, makes room for a port with a limit")
  func limitedPoster() async throws {
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 64))
    let halves = try Halves(channel.port2)
    let port = channel.port1
    let isOver = Flag()
    let sink = TestThread { () -> Int in
      var reader = halves.takeReader()
      var count = 0
      while !isOver.isSet {
        if try reader.tryRead({ $0.byteCount }) != nil { count += 1 } else { usleepBriefly(100) }
      }
      return count
    }
    defer { isOver.set() }
    for number in 0..<200 {
      while true {
        do {
          try port.postMessage(bitwise: number)
          break
        } catch PortError.queueFull {
          try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await port.waitForSpace(byteCount: 8) }
            group.addTask {
              try await Task.sleep(for: .seconds(3))
              throw Agent.Failure(description: "no room after \(number) messages, though all were read")
            }
            try await group.next()
            group.cancelAll()
          }
        }
      }
    }
    usleepBriefly(20_000)
    isOver.set()
    #expect(try sink.join() == 200)
  }

  @Test("A reader that reads what it was waited for wakes the poster, without looking again")
  func owedRing() async throws {
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 64))
    let halves = try Halves(channel.port2)
    let port = channel.port1
    var reader = halves.takeReader()
    for number in 0..<4 { try port.postMessage(bitwise: number) }
    #expect(throws: PortError.self) { try port.postMessage(bitwise: 4) }
    async let room: Void = port.waitForSpace(byteCount: 8)
    try await Task.sleep(for: .milliseconds(50))
    let read = try reader.tryRead { $0.byteCount }
    #expect(read == 8)
    let began = ContinuousClock.now
    let timer = Task {
      try await Task.sleep(for: .seconds(3))
      port.close()
    }
    try? await room
    timer.cancel()
    #expect(ContinuousClock.now - began < .seconds(2), "the poster was not woken")
  }

  @Test("A port in a conversation that never pauses does not keep the others of its loop waiting")
  func fastConversation() async throws {
    let loop = EventLoop(name: "conversation")
    defer { loop.stop() }
    let (fast, slow) = (try MessageChannel(), try MessageChannel())
    let fastHalves = try Halves(fast.port1)
    let slowHalves = try Halves(slow.port1)
    let heard = Collected<Int>()
    fast.port2.setEventLoop(loop)
    slow.port2.setEventLoop(loop)
    fast.port2.onMessage = { [weak port = fast.port2] event in try? port?.postMessage(bytes: event.bytes) }
    slow.port2.onMessage = { heard.append((try? $0.load(as: Int.self)) ?? -1) }
    let isOver = Flag()
    let talker = TestThread { () -> Int in
      var writer = fastHalves.takeWriter()
      var reader = fastHalves.takeReader()
      var rounds = 0
      while !isOver.isSet {
        // The answer to an answer comes before the loop would go to sleep.
        _ = try writer.tryWrite(bitwise: rounds)
        while try reader.tryRead({ $0.byteCount }) == nil, !isOver.isSet {}
        rounds += 1
      }
      return rounds
    }
    defer { isOver.set() }
    var writer = slowHalves.takeWriter()
    for number in 0..<10 {
      // Long enough for its doorbell to be armed.
      try await Task.sleep(for: .milliseconds(20))
      let wrote = try writer.tryWrite(bitwise: number)
      #expect(wrote)
      try await heard.wait(for: number + 1, within: .seconds(5))
    }
    isOver.set()
    try talker.join()
  }

  @Test("A message of any size is copied out whole, and one that is too long for the target stays")
  func copiedOut() throws {
    let channel = try MessageChannel(options: ChannelOptions(laneCapacityBytes: 64 << 10))
    let (writing, reading) = (try Halves(channel.port1), try Halves(channel.port2))
    var writer = writing.takeWriter()
    var reader = reading.takeReader()
    var sizes = Array(0...80) + [127, 128, 767, 768, 769, 1000, 4097]
    sizes.append(writer.maximumMessageBytes)
    for size in sizes {
      let message = patternBytes(count: size, seed: UInt64(size))
      let wrote = try writer.tryWrite(unsafe message.span.bytes)
      #expect(wrote)
      var target = [UInt8](repeating: 0xee, count: size + 1)
      var span = target.mutableSpan
      var bytes = unsafe span.mutableBytes
      let count = try reader.tryRead(into: &bytes)
      #expect(count == size)
      #expect(target == message + [0xee], "\(size) bytes")
    }
    for size in [10, 9] as [UInt8] {
      let wrote = try writer.tryWrite(unsafe [UInt8](repeating: size, count: Int(size)).span.bytes)
      #expect(wrote)
    }
    try expectTooLong(&reader, 10, limit: 9)
    try expectTooLong(&reader, 10, limit: 3)
    try expectCopy(&reader, [UInt8](repeating: 10, count: 10))
    try expectCopy(&reader, [UInt8](repeating: 9, count: 9))
    var none = [UInt8](repeating: 0, count: 9)
    var span = none.mutableSpan
    var bytes = unsafe span.mutableBytes
    let count = try reader.tryRead(into: &bytes)
    #expect(count == nil)
  }

  @Test("So does one in fragments, and one that carries ports, which arrive once it fits")
  func tooLongInFragments() throws {
    let channel = try MessageChannel()
    let carried = try MessageChannel()
    let large = patternBytes(count: 500_000, seed: 1)
    try channel.port1.postMessage(bytes: large)
    try channel.port1.postMessage(bytes: [1, 2, 3], transfer: [carried.port2])
    let reading = try Halves(channel.port2)
    var reader = reading.takeReader()
    for limit in [0, 499_999] { try expectTooLong(&reader, 500_000, limit: limit) }
    try expectCopy(&reader, large)
    try expectTooLong(&reader, 3, limit: 2)
    #expect(reader.takePorts().isEmpty)
    try expectCopy(&reader, [1, 2, 3])
    #expect(reader.takePorts().count == 1)
  }
}

private func expectTooLong(_ reader: inout PortReader, _ byteCount: Int, limit: Int) throws {
  var target = [UInt8](repeating: 0, count: limit)
  var span = target.mutableSpan
  var bytes = unsafe span.mutableBytes
  do throws(PortError) {
    _ = try reader.tryRead(into: &bytes)
    Issue.record("a message that is too long was read")
  } catch {
    guard case .messageTooLarge(byteCount: byteCount, limit: limit) = error else { throw error }
  }
}

private func expectCopy(_ reader: inout PortReader, _ message: [UInt8]) throws {
  var target = [UInt8](repeating: 0, count: message.count)
  var span = target.mutableSpan
  var bytes = unsafe span.mutableBytes
  let count = try reader.tryRead(into: &bytes)
  #expect(count == message.count)
  #expect(target == message)
}

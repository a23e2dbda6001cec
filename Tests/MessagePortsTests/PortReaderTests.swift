import MessagePorts
import TestSupport
import Testing

@Suite("Reading halves", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct PortReaderTests {
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
      counts.append(
        try split.reader.readBatch(upTo: 30) { numbers.append(unsafe $0.unsafeLoadUnaligned(as: Int.self)) })
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
    arguments: [SpinPolicy.never, .adaptive, .duration(.microseconds(5)), .duration(.milliseconds(1)), .always],
    [false, true])
  func spinPolicies(_ policy: SpinPolicy, _ isPolling: Bool) throws {
    let channel = try MessageChannel(options: ChannelOptions(spinPolicy: policy))
    let (near, far) = (try channel.port1.split(), try channel.port2.split())
    // Two that spin depend on the scheduler if the machine is busy.
    let rounds = policy == .always || policy == .duration(.milliseconds(1)) ? 40 : 1500
    let echo = TestThread {
      var writer = far.takeWriter()
      var reader = far.takeReader()
      #expect(reader.spinPolicy == policy)
      for _ in 0..<rounds {
        if isPolling { reader.startPolling() }
        let number = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
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
      let answer = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
      try #require(answer == number)
    }
    try echo.join()
  }

  @Test("A stream between two split ports that both sleep arrives complete and in order")
  func stream() throws {
    let channel = try MessageChannel(options: ChannelOptions(spinPolicy: .never))
    let (near, far) = (try channel.port1.split(), try channel.port2.split())
    let count = 60_000
    let sink = TestThread {
      var reader = far.takeReader()
      var next = 0
      while next < count {
        if next % 1000 == 0 { reader.startPolling() }
        let number = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
        if number != next { throw Agent.Failure(description: "\(number) instead of \(next)") }
        next += 1
      }
    }
    var writer = near.takeWriter()
    for number in 0..<count {
      while try !writer.tryWrite(bitwise: number) { try writer.waitForSpaceSoon(byteCount: 8) }
    }
    try sink.join()
  }

  @Test("A message of any size is copied out whole, and one that is too long for the target stays")
  func copiedOut() throws {
    let channel = try MessageChannel(options: ChannelOptions(laneCapacityBytes: 64 << 10))
    let (writing, reading) = (try channel.port1.split(), try channel.port2.split())
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
    let reading = try channel.port2.split()
    var reader = reading.takeReader()
    for limit in [0, 499_999] { try expectTooLong(&reader, 500_000, limit: limit) }
    try expectCopy(&reader, large)
    try expectTooLong(&reader, 3, limit: 2)
    #expect(reader.takePorts().isEmpty)
    try expectCopy(&reader, [1, 2, 3])
    #expect(reader.takePorts().count == 1)
  }

  enum NextRead: String, CaseIterable, Sendable {
    case plain, bitwise, copied, batch, run, another
  }

  @Test("6.7 Ports that nobody takes close with the next read, also with one that finds nothing")
  func untakenPortsAndNoMessage() async throws {
    let (channel, first) = (try MessageChannel(), try MessageChannel())
    let closes = Collected<CloseReason>()
    first.port1.onClose = { closes.append($0) }
    let reading = try channel.port2.split()
    var reader = reading.takeReader()
    try channel.port1.postMessage(bytes: [1], transfer: [first.port2])
    let size = try reader.readSoon { $0.byteCount }
    #expect(size == 1 && !first.port1.isPeerClosed)
    let none = try reader.tryRead { $0.byteCount }
    #expect(none == nil && reader.takePorts().isEmpty)
    try await closes.wait(for: 1)
  }

  @Test("6.7 Ports that nobody takes close when the next message is read", arguments: NextRead.allCases)
  func untakenPorts(_ next: NextRead) async throws {
    let channel = try MessageChannel()
    let (first, second) = (try MessageChannel(), try MessageChannel())
    let reading = try channel.port2.split()
    var reader = reading.takeReader()
    try channel.port1.postMessage(bytes: [1], transfer: [first.port2])
    let size = try reader.readSoon { $0.byteCount }
    #expect(size == 1 && !first.port1.isPeerClosed)
    try channel.port1.postMessage(bitwise: 2 as UInt64, transfer: next == .another ? [second.port2] : [])
    switch next {
    case .plain, .another:
      let size = try reader.tryRead { $0.byteCount }
      #expect(size == 8)
    case .bitwise:
      let value = try reader.tryRead(bitwise: UInt64.self)
      #expect(value == 2)
    case .copied: try expectCopy(&reader, [2, 0, 0, 0, 0, 0, 0, 0])
    case .batch:
      let count = try reader.readBatch(upTo: 5) { _ in }
      #expect(count == 1)
    case .run:
      var values = [UInt64](repeating: 0, count: 4)
      let count = try unsafe values.withUnsafeMutableBufferPointer { buffer in
        var output = unsafe OutputSpan(buffer: buffer, initializedCount: 0)
        let count = try reader.tryRead(into: &output)
        _ = unsafe output.finalize(for: buffer)
        return count
      }
      #expect(count == 1)
    }
    #expect(first.port1.isPeerClosed)
    // What came with the last one is still there.
    let (last, more) = (reader.takePorts(), reader.takePorts())
    #expect(last.count == (next == .another ? 1 : 0) && more.isEmpty)
  }

  @Test("6.7 The ports of a batch stay together until the next one, and are never more than came with it")
  func batchOfPorts() throws {
    let channel = try MessageChannel()
    let reading = try channel.port2.split()
    var reader = reading.takeReader()
    for _ in 0..<5 {
      let carried = try (0..<6).map { _ in try MessageChannel() }
      for carried in carried[..<3] { try channel.port1.postMessage(bytes: [1], transfer: [carried.port2]) }
      try channel.port1.postMessage(bytes: [2])
      for carried in carried[3...] { try channel.port1.postMessage(bytes: [1], transfer: [carried.port2]) }
      let count = try reader.readBatch(upTo: 7) { _ in }
      #expect(count == 7)
      #expect(carried.allSatisfy { !$0.port1.isPeerClosed })
      try channel.port1.postMessage(bytes: [3])
      let size = try reader.tryRead { $0.byteCount }
      #expect(size == 1)
      #expect(carried.allSatisfy { $0.port1.isPeerClosed })
      let none = reader.takePorts()
      #expect(none.isEmpty)
    }
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

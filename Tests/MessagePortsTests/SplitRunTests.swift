import MessagePorts
import TestSupport
import Testing

/// Many values at once, from a writer to whoever reads.
@Suite("Runs of values", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct SplitRunTests {
  private struct Sample: PlainValue, Equatable {
    var number: Int
    var square: Int
    var root: Double
    static let layout = PlainLayout<Sample>(\.number, \.square, \.root)
    init(_ number: Int) { (self.number, square, root) = (number, number &* number, Double(number).squareRoot()) }
  }

  /// A value of twelve bytes, which no run can hold.
  private struct Odd: PlainValue, Equatable {
    var number: Int32
    var others: InlineArray<2, Int32>
    static let layout = PlainLayout<Odd>(\.number, \.others)
    init(_ number: Int) { (self.number, others) = (Int32(number), [~Int32(number), 7]) }
    static func == (left: Odd, right: Odd) -> Bool {
      left.number == right.number && left.others[0] == right.others[0] && left.others[1] == right.others[1]
    }
  }

  /// Writes values 0 to `count` while `read` reads them.
  private func stream<Value: PlainValue & Equatable>(
    _ count: Int, _ make: (Int) -> Value, from writer: inout PortWriter, _ read: () throws -> Int
  ) throws {
    var written = 0, arrived = 0
    while arrived < count {
      let values = (written..<min(count, written + 100)).map(make)
      written += try writer.tryWrite(contentsOf: values.span)
      arrived += try read()
    }
    try #require(written == count && arrived == count)
  }

  private func readMany<Value: PlainValue & Equatable>(
    _ reader: inout PortReader, _ first: Int, atMost limit: Int, _ make: (Int) -> Value
  ) throws -> Int {
    let values = try [Value](capacity: limit) { values in _ = try reader.tryRead(into: &values) }
    try #require(values == (first..<first + values.count).map(make))
    return values.count
  }

  @Test(
    "Values written together arrive one by one and together, whether a run can hold them or not",
    arguments: [1, 7, 64, 1000])
  func together(_ limit: Int) throws {
    for laneCapacity in [0, 1 << 16] {
      let channel = try MessageChannel(options: ChannelOptions(laneCapacityBytes: laneCapacity))
      let near = try channel.port1.split(), far = try channel.port2.split()
      var writer = near.takeWriter(), reader = far.takeReader()
      var next = 0
      try stream(5000, Sample.init, from: &writer) {
        if next % 3 == 0, let value = try reader.tryRead(bitwise: Sample.self) {
          try #require(value == Sample(next))
          next += 1
          return 1
        }
        let count = try readMany(&reader, next, atMost: limit, Sample.init)
        next += count
        return count
      }
      next = 0
      try stream(5000, Odd.init, from: &writer) {
        let count = try readMany(&reader, next, atMost: limit, Odd.init)
        next += count
        return count
      }
    }
  }

  @Test(
    "A port at the other end is given each value as a message of its own, also if it travels in the middle",
    arguments: Place.allCases)
  func toPort(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel(options: ChannelOptions(laneCapacityBytes: 1 << 16))
    let halves = try channel.port1.split()
    var writer = halves.takeWriter()
    let values = (0..<900).map(Sample.init)
    let written = try writer.tryWrite(contentsOf: values.span)
    #expect(written == 900)
    for number in 0..<333 {
      #expect(try channel.port2.receiveSoon().load(as: Sample.self) == Sample(number))
    }
    try await agent.call(.keep, 1, transfer: [channel.port2])
    let back = try #require(try await agent.call(.give, 1).ports.first)
    for number in 333..<900 {
      #expect(try back.receiveSoon().load(as: Sample.self) == Sample(number))
    }
    if case .empty = try back.tryReceive() {} else { Issue.record("more than was written") }
  }

  @Test("A value of another size ends what is read together, and then is consumed with an error that says both sizes")
  func otherSize() throws {
    let channel = try MessageChannel()
    let near = try channel.port1.split(), far = try channel.port2.split()
    var writer = near.takeWriter(), reader = far.takeReader()
    #expect(try writer.tryWrite(contentsOf: [Sample(0), Sample(1)].span) == 2)
    #expect(try writer.tryWrite(bitwise: 7 as UInt16))
    #expect(try writer.tryWrite(contentsOf: [Sample(2)].span) == 1)
    let taken = try readMany(&reader, 0, atMost: 10, Sample.init)
    #expect(taken == 2)
    var mismatch: BitwiseSizeMismatch?
    do { _ = try readMany(&reader, 2, atMost: 10, Sample.init) } catch PortError.decodingFailed(let error) {
      mismatch = error as? BitwiseSizeMismatch
    }
    #expect(mismatch?.expectedByteCount == MemoryLayout<Sample>.size && mismatch?.actualByteCount == 2)
    let rest = try readMany(&reader, 2, atMost: 10, Sample.init)
    #expect(rest == 1)
    // Nothing to write, or no room to read into, is no error.
    #expect(try writer.tryWrite(contentsOf: [Sample]().span) == 0)
    #expect(try readMany(&reader, 3, atMost: 0, Sample.init) == 0)
  }

  @Test("A full ring takes what fits; values too large for it are an error; one whose reader is gone says so")
  func limits() async throws {
    let channel = try MessageChannel()
    let near = try channel.port1.split()
    var writer = near.takeWriter()
    let values = (0..<1000).map(Sample.init)
    let first = try writer.tryWrite(contentsOf: values.span)
    #expect(first > 10 && first < 1000)
    #expect(try writer.tryWrite(contentsOf: values.span) == 0)
    for number in 0..<first {
      #expect(try channel.port2.receiveSoon().load(as: Sample.self) == Sample(number))
    }
    #expect(try writer.tryWrite(contentsOf: values.span) > 10)
    let large = [InlineArray<1000, UInt64>(repeating: 1)]
    #expect(portError { _ = try writer.tryWrite(contentsOf: large.span) } == "messageTooLarge")
    channel.port2.close()
    try await eventually("the writer to hear of it") {
      portError { _ = try writer.tryWrite(contentsOf: values.span) } == "peerClosed.closed by peer"
    }
  }
}

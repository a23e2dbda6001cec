import CSupport
import CTestSupport
import Glibc
import SharedRing
import TestSupport
import Testing

/// Memory that is there before it is touched. In one process, both ends of a lane have mappings of their own, as two processes have.
@Suite("9.3 Residency", .serialized, .timeLimit(.minutes(2)))
struct ResidencyTests {
  /// Nobody else's memory has this size.
  private static let laneCapacity = 5 << 20
  private static let kilobytes = RingLayout.baseBytes(capacity: RingLayout.roundedCapacity(laneCapacity)) >> 10

  private func make(_ residency: MemoryResidency) throws -> ChannelMemory {
    try ChannelMemory.make(laneCapacity: Self.laneCapacity, backing: .memfd, residency: residency)
  }

  @Test(
    "9.1, 9.3 Memory that is to be locked is, all of it, and not longer than it is mapped",
    .enabled(if: mayLock(64 << 20), "this process may not lock so much"))
  func locks() throws {
    do {
      let memory = try make(.locked)
      #expect(memory.residency == .locked)
      #expect(SharedMapping.all(ofKilobytes: Self.kilobytes).map(\.lockedKilobytes) == [Self.kilobytes])
    }
    #expect(SharedMapping.all(ofKilobytes: Self.kilobytes) == [])
  }

  @Test("9.3 Whoever has the memory as well decides for himself", .enabled(if: mayLock(64 << 20), "no locks"))
  func eachForItself() throws {
    let memory = try make(.onDemand), other = try memory.again()
    try other.makeResident(.locked)
    #expect(memory.residency == .onDemand && other.residency == .locked)
    let locked = SharedMapping.all(ofKilobytes: Self.kilobytes).map(\.lockedKilobytes).sorted()
    #expect(locked == [0, Self.kilobytes])
    // Less than there is changes nothing.
    try other.makeResident(.faultedIn)
    #expect(other.residency == .locked)
  }

  @Test("9.3 Memory that is faulted in costs no page fault when it is written and read")
  func faults() throws {
    // Whatever code is to be run has run.
    _ = try countFaults(in: make(.faultedIn))
    let resident = try countFaults(in: make(.faultedIn)), onDemand = try countFaults(in: make(.onDemand))
    #expect(onDemand > 200)
    #expect(resident < 32)
  }

  /// Fills a whole lane, and reads it.
  private func countFaults(in memory: ChannelMemory) throws -> Int {
    var producer = RingProducer(memory: memory, lane: 0), consumer = RingConsumer(memory: memory, lane: 0)
    let message = [UInt8](repeating: 7, count: 1000)
    let before = ctest_thread_faults()
    for _ in 0..<Self.laneCapacity / 1008 {
      try unsafe require(producer.tryWrite(message.span.bytes), "no room")
      try require(consumer.tryRead { $0.byteCount } == 1000, "no message")
    }
    return ctest_thread_faults() - before
  }

  @Test(
    "9.3 What a lane grows into is treated likewise on both sides, if the lane keeps it; an overflow is not",
    .enabled(if: mayLock(64 << 20), "no locks"))
  func growth() throws {
    let memory = try make(.locked), other = try memory.again()
    try other.makeResident(.locked)
    var producer = RingProducer(memory: memory, lane: 0), consumer = RingConsumer(memory: other, lane: 0)
    // Of sizes that no other mapping has.
    for (capacity, isKept) in [(212 << 10, true), (2212 << 10, false)] {
      try producer.grow(capacity: capacity)
      try unsafe require(producer.tryWrite([1, 2, 3].span.bytes), "no room")
      guard case .record(let record) = consumer.next() else { throw Failure("no record") }
      consumer.consume(record)
      let locked = SharedMapping.all(ofKilobytes: capacity >> 10).map(\.lockedKilobytes)
      #expect(locked == Array(repeating: isKept ? capacity >> 10 : 0, count: 2))
    }
  }

  @Test("9.3 A side that has grown already is made resident where it is", .enabled(if: mayLock(64 << 20), "no locks"))
  func grownBefore() throws {
    let memory = try make(.onDemand)
    var producer = RingProducer(memory: memory, lane: 0)
    try producer.grow(capacity: 220 << 10)
    try producer.makeSegmentResident(.locked)
    #expect(SharedMapping.all(ofKilobytes: 220).map(\.lockedKilobytes) == [220])
    producer.unlockSegment()
    #expect(SharedMapping.all(ofKilobytes: 220).map(\.lockedKilobytes) == [0])
  }

  @Test("9.5 Following a link to a segment that is mapped at once costs a turn as much as it takes")
  func costOfLinks() throws {
    func cost(_ residency: MemoryResidency) throws -> Int {
      let memory = try make(residency)
      var producer = RingProducer(memory: memory, lane: 0), consumer = RingConsumer(memory: memory, lane: 0)
      try producer.grow(capacity: 512 << 10)
      try require(consumer.isEmpty == false, "no link")
      _ = consumer.next()
      return consumer.takeCostOfLinks()
    }
    #expect(try cost(.faultedIn) == cost(.onDemand) + 512 << 10)
  }
}

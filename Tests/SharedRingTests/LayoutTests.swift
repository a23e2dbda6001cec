import CSupport
import SharedRing
import Testing

@Suite("Layout", .timeLimit(.minutes(3)))
struct LayoutTests {
  @Test("A channel that asks for nothing gets one page, filled up with two lanes")
  func smallest() throws {
    #expect(RingLayout.roundedCapacity(0) == RingLayout.smallestCapacity)
    #expect(RingLayout.smallestCapacity == 1536)
    #expect(RingLayout.baseBytes(capacity: RingLayout.smallestCapacity) == RingLayout.pageBytes)
    let memory = try ChannelMemory.fresh()
    let facts = try ChannelMemory.fileFacts(memory.fd)
    #expect(facts.size_bytes == 4096)
    #expect(csupport_memory_is_shrink_sealed(memory.fd) == 1)
  }

  @Test("Every wish for a capacity is met or exceeded, plausible, and fills its pages")
  func capacities() throws {
    var wishes = Array(0...20000) + (10...30).flatMap { [(1 << $0) - 1, 1 << $0, (1 << $0) + 1] }
    wishes += [.max, RingLayout.largestCapacity]
    for wish in wishes {
      let capacity = RingLayout.roundedCapacity(wish)
      try require(capacity >= min(wish, RingLayout.largestCapacity - 64), "\(wish) bytes became \(capacity)")
      try require(RingLayout.isPlausibleCapacity(UInt64(capacity)), "\(capacity) is implausible")
      let base = RingLayout.baseBytes(capacity: capacity)
      try require(base % RingLayout.pageBytes == 0, "\(base) bytes are no pages")
      if capacity < RingLayout.largestCapacity {
        try require(base - RingLayout.headerBytes - 2 * capacity < 128, "\(capacity) wastes memory")
      }
    }
  }

  @Test("Lanes, their groups, their data and their regions do not overlap")
  func disjoint() {
    for capacity in [RingLayout.smallestCapacity, RingLayout.roundedCapacity(1 << 20)] {
      var ranges = [0..<128]
      for lane in 0..<2 {
        let start = RingLayout.laneOffset(lane)
        ranges.append(start..<start + CSUPPORT_LANE_BYTES)
        let data = RingLayout.initialDataOffset(lane: lane, capacity: capacity)
        ranges.append(data..<data + capacity)
      }
      for (index, range) in ranges.enumerated() {
        #expect(range.upperBound <= RingLayout.baseBytes(capacity: capacity))
        #expect(range.lowerBound % 64 == 0)
        for other in ranges[(index + 1)...] { #expect(!range.overlaps(other)) }
      }
      #expect(RingLayout.regionOffset(lane: 0) >= UInt64(RingLayout.baseBytes(capacity: RingLayout.largestCapacity)))
      #expect(RingLayout.regionOffset(lane: 0) + RingLayout.regionBytes <= RingLayout.regionOffset(lane: 1))
    }
  }

  @Test("A header takes length, kind and ports apart as they were put together, and knows no kind with a high byte")
  func headers() {
    for kind in (1...9).compactMap({ RecordHeader.Kind(rawValue: $0) }) {
      for byteCount in [0, 1, 8, 376, 1 << 20, Int(UInt32.max)] {
        for cargo in [
          CargoCount(ports: 0), .init(ports: 126), .init(ports: 1, descriptors: 253),
          .init(ports: 255, descriptors: 255),
        ] {
          let header = RecordHeader(kind: kind, byteCount: byteCount).carrying(cargo)
          #expect(header.kind == kind && header.byteCount == byteCount && header.cargo == cargo)
          #expect(header.carrying(CargoCount(ports: 0)) == RecordHeader(kind: kind, byteCount: byteCount))
          for bit in 56..<64 { #expect(RecordHeader(rawValue: header.rawValue | 1 << bit).kind == nil) }
        }
      }
    }
    #expect(RecordHeader(rawValue: 0).kind == nil)
    for raw in UInt8(10)...255 { #expect(RecordHeader(rawValue: word(raw)).kind == nil) }
    #expect(RecordHeader(kind: .message, byteCount: 77).rawValue >> 32 == RecordHeader.plainMessage)
  }

  @Test("A record takes its header, its payload, and the rounding to eight")
  func recordSizes() {
    for (payload, record) in [(0, 8), (1, 16), (7, 16), (8, 16), (9, 24), (376, 384)] {
      #expect(RecordHeader.recordBytes(payloadBytes: payload) == record)
    }
  }

  @Test("What one mapping writes, the other reads, on both lanes at once")
  func twoMappings() throws {
    let ours = try ChannelMemory.fresh()
    let theirs = try ours.again()
    #expect(ours.identity == theirs.identity)
    #expect(theirs.laneCapacity == ours.laneCapacity)
    var out = RingProducer(memory: ours, lane: 0)
    var back = RingProducer(memory: theirs, lane: 1)
    var outEnd = RingConsumer(memory: theirs, lane: 0)
    var backEnd = RingConsumer(memory: ours, lane: 1)
    for number in 0..<500 as Range<UInt64> {
      let count = Int(number) % 377
      let wasWritten = out.write(number, count) && back.write(number + 1000, 376 - count)
      try require(wasWritten, "no room for \(number)")
      try outEnd.expect(number, count)
      try backEnd.expect(number + 1000, 376 - count)
    }
    try outEnd.expectEmpty()
    try backEnd.expectEmpty()
  }

  @Test("An end that is attached to nothing has no room and finds nothing")
  func unattached() throws {
    var producer = RingProducer()
    var consumer = RingConsumer()
    try require(!producer.isAttached && !consumer.isAttached)
    let wrote = producer.write(0, 0)
    #expect(!wrote)
    try require(consumer.isEmpty)
    let step = consumer.next()
    #expect(step.isEmpty)
    consumer.release()
    consumer.stayAwake()
    producer.stayAwake()
    try require(consumer.waitingBytes == 0)
    try require(!consumer.wasClosedByProducer)
  }
}

import CSupport
import Glibc
import SharedRing
import TestSupport
import Testing

@Suite("Growth", .timeLimit(.minutes(3)))
struct GrowthTests {
  private static let capacity = RingLayout.smallestCapacity

  @Test(
    "A lane goes on in another segment from every position and every fill level, also where the link needs a pad first")
  func everywhere() throws {
    let memory = try ChannelMemory.fresh()
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      for size in [0, 8, 88, 376] {
        // An empty lane, one that is half full, and one that is full to the last byte: the reserve is for the link.
        for fill in 0..<3 {
          let place = try memory.emptyLane(at: offset)
          var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
          var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
          var sizes = fill == 0 ? [] : producer.fill(from: 0, size)
          if fill == 1 {
            // Half of it was read, and released.
            for index in 0..<sizes.count / 2 { try consumer.expect(UInt64(index), sizes[index]) }
            consumer.release()
          }
          let read = fill == 1 ? sizes.count / 2 : 0
          try producer.grow(capacity: 8192)
          try require(producer.capacity == 8192, "grew to \(producer.capacity)")
          for _ in 0..<3 {
            let wrote = producer.write(UInt64(sizes.count), 2000)
            try require(wrote, "no room in a new segment")
            sizes.append(2000)
          }
          for index in read..<sizes.count { try consumer.expect(UInt64(index), sizes[index]) }
          try consumer.expectEmpty()
          try require(
            consumer.position == producer.position && consumer.capacity == 8192, "the sides disagree at \(offset)")
        }
      }
    }
  }

  @Test("A full lane still has room for an abort and a link, at every position")
  func reserve() throws {
    let memory = try ChannelMemory.fresh()
    var policy = GrowthPolicy.impatient(steady: 1536, firstGrown: 4096)
    policy.unreadLimitBytes = 1 << 20
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      let place = try memory.emptyLane(at: offset)
      var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
      var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
      var assembler = MessageAssembler()
      let sizes = producer.fill(from: 0)
      // A message in fragments that nobody will read to its end: its last fragment was staged and is called off.
      let header = try producer.stage(7, 5000, policy)
      producer.abandonStaged(header)
      try producer.grow(capacity: 4096)
      try producer.post(8, 100, policy)
      for (index, size) in sizes.enumerated() { try consumer.expectWhole(UInt64(index), size, &assembler) }
      try consumer.expectWhole(8, 100, &assembler)
      let rest = consumer.take(&assembler)
      try require(rest == .nothing, rest.short)
      try require(consumer.position == producer.position, "the sides disagree at \(offset)")
    }
  }

  @Test("Several segments in a row, empty ones among them, are followed in order")
  func severalInARow() throws {
    for lane in 0..<2 {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: lane)
      var consumer = RingConsumer(memory: memory, lane: lane)
      var number: UInt64 = 0
      for capacity in [4096, 8192, 4096, 16384, 65536, 4096] {
        for _ in 0..<3 {
          let wrote = producer.write(number, 300)
          #expect(wrote)
          number += 1
        }
        try producer.grow(capacity: capacity)
        // One that nothing was written to.
        if capacity == 8192 { try producer.grow(capacity: 4096) }
      }
      for index in 0..<number { try consumer.expect(index, 300) }
      try consumer.expectEmpty()
      try require(consumer.position == producer.position)
      try require(consumer.capacity == 4096)
    }
  }

  @Test("What overflows comes in bigger segments, and the lane has its steady size again once they were read")
  func backToSteady() throws {
    let memory = try ChannelMemory.fresh()
    let policy = GrowthPolicy.impatient(steady: 64 << 10, firstGrown: 8 << 10)
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var assembler = MessageAssembler()
    var idle: UInt64 = 0
    for round in 0..<5 {
      for number in 0..<2000 as Range<UInt64> { try producer.post(number, 1000, policy) }
      try require(producer.capacity > policy.steadyCapacity)
      let full = try memory.allocatedBytes
      #expect(full >= 2_000_000)
      for number in 0..<2000 as Range<UInt64> { try consumer.expectWhole(number, 1000, &assembler) }
      consumer.release()
      try producer.post(7, 1000, policy)
      try require(producer.capacity == policy.steadyCapacity)
      try consumer.expectWhole(7, 1000, &assembler)
      consumer.release()
      // What remains: the first page and one steady segment.
      let allocated = try memory.allocatedBytes
      if round == 0 { idle = allocated }
      #expect(allocated <= UInt64(policy.steadyCapacity + 4096), "\(allocated) bytes after round \(round)")
      #expect(allocated <= idle + 4096)
    }
  }

  @Test("A segment's memory is given back as soon as its reader has left it, whichever mapping that is")
  func discarded() throws {
    let memory = try ChannelMemory.fresh()
    let theirs = try memory.again()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: theirs, lane: 0)
    try producer.grow(capacity: 1 << 20)
    #expect(try memory.allocatedBytes >= 1 << 20)
    try producer.grow(capacity: 4096)
    let wrote = producer.write(1, 100)
    #expect(wrote)
    try consumer.expect(1, 100)
    #expect(try memory.allocatedBytes <= 8192)
  }

  @Test("An overflow that was read is given back at once, wherever the link lies, and the lane goes on behind it")
  func shrunk() throws {
    let policy = GrowthPolicy.impatient(steady: 4096)
    let capacity = 64 << 10
    let ends = [0..<200, 4000..<4200, capacity - 4200..<capacity - 4000, capacity - 200..<capacity]
    for offset in ends.joined() where offset % 8 == 0 {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: try memory.again(), lane: 0)
      try producer.grow(capacity: capacity)
      let place = LanePosition(
        segmentOffset: producer.lanePosition.segmentOffset, capacity: UInt64(capacity), cursorOffset: UInt64(offset),
        position: UInt64(offset), segmentPosition: 0)
      producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
      consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
      memory.words(lane: 0).storeReleased(place.position)
      try require(producer.hasOverflowed(policy) && producer.unreleasedBytes() == 0, "not set up at \(offset)")
      try producer.shrink(policy)
      // Two pages around the link, one at the start, the new segment, and the channel's first page.
      let kept = try memory.allocatedBytes
      try require(kept <= 5 * 4096, "\(kept) bytes at \(offset)")
      let wrote = producer.write(7, 1000)
      try require(wrote, "no room behind the link")
      try consumer.expect(7, 1000)
      try consumer.expectEmpty()
      let left = try memory.allocatedBytes
      try require(left <= 2 * 4096, "\(left) bytes left behind")
    }
  }

  @Test("A lane grows in steps up to its steady size, and stays there while its reader keeps up")
  func steps() throws {
    let memory = try ChannelMemory.fresh()
    let policy = GrowthPolicy.impatient()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var assembler = MessageAssembler()
    var (written, read) = (0 as UInt64, 0 as UInt64)
    var capacities: [Int] = []
    while written < 5000 {
      try producer.post(written, 200, policy)
      written += 1
      if capacities.last != producer.capacity { capacities.append(producer.capacity) }
      // Hundreds wait at most: they fit into the steady size.
      if written - read > 400 {
        try consumer.expectWhole(read, 200, &assembler)
        read += 1
      }
    }
    #expect(capacities.first == RingLayout.smallestCapacity)
    #expect(capacities == capacities.sorted() && capacities.count <= 4, "\(capacities)")
    try require(producer.capacity <= policy.steadyCapacity)
  }

  @Test("A lane that was asked for larger than the steady size is not exchanged for a smaller one")
  func largeFromTheStart() throws {
    let memory = try ChannelMemory.fresh(4 << 20)
    let policy = GrowthPolicy.impatient()
    var producer = RingProducer(memory: memory, lane: 0)
    try producer.post(1, 100, policy)
    try require(producer.capacity == memory.laneCapacity)
  }

  @Test(
    "The limit on unread data is exact: a message beyond it is refused, and one that was read makes room for another")
  func unreadLimit() throws {
    // Large enough not to wrap or grow: what that takes counts as unread, too.
    let memory = try ChannelMemory.fresh(8192)
    let policy = GrowthPolicy.impatient(limit: 10 * 112)
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var assembler = MessageAssembler()
    for number in 0..<10 as Range<UInt64> { try producer.post(number, 100, policy) }
    let position = producer.position
    for size in [0, 100, 1000, 200_000] {
      try refuse(&producer, size, policy)
    }
    try require(producer.position == position)
    for number in 0..<10 as Range<UInt64> {
      try consumer.expectWhole(number, 100, &assembler)
      consumer.release()
      try producer.post(number + 10, 100, policy)
      try refuse(&producer, 0, policy)
    }
    for number in 10..<20 as Range<UInt64> { try consumer.expectWhole(number, 100, &assembler) }
  }

  private func refuse(_ producer: inout RingProducer, _ count: Int, _ policy: GrowthPolicy) throws {
    do {
      try producer.post(99, count, policy)
      throw Failure("\(count) bytes beyond the limit")
    } catch RingError.limitReached {}
  }

  @Test("A reader that is gone ends the wait for room, and nothing was written")
  func consumerGone() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    _ = producer.fill(from: 0)
    let position = producer.position
    do {
      _ = try producer.stage(0, 100, GrowthPolicy(), NoContact(isGone: true))
      Issue.record("staged for nobody")
    } catch {
      #expect(error == .consumerGone)
    }
    try require(producer.position == position && producer.capacity == Self.capacity)
  }

  @Test("If the system refuses memory, the lane is as it was, and grows once there is some")
  func growthFails() async {
    await #expect(processExitsWith: .success) {
      let memory = try ChannelMemory.fresh()
      let policy = GrowthPolicy.impatient()
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: memory, lane: 0)
      var assembler = MessageAssembler()
      let sizes = producer.fill(from: 0)
      let (position, allocated) = (producer.position, try memory.allocatedBytes)
      setLimit(RLIMIT_FSIZE, 1 << 20)
      // Small, in one piece for which there is no room, and in fragments.
      for size in [0, 376, 10_000, 300_000] {
        do {
          try producer.post(99, size, policy)
          throw Failure("posted without memory")
        } catch let error as RingError {
          try require(error == .system(SystemError(call: "fallocate", errno: EFBIG)), "\(error)")
        }
        try require(producer.position == position, "something was written")
        try require(producer.capacity == RingLayout.smallestCapacity, "it grew")
        try require(try memory.allocatedBytes == allocated, "memory was kept")
      }
      // What was there can be read, and what fits can be written.
      for (index, size) in sizes.enumerated() { try consumer.expect(UInt64(index), size) }
      try consumer.expectEmpty()
      consumer.release()
      try producer.post(100, 300, policy)
      try consumer.expectWhole(100, 300, &assembler)
      setLimit(RLIMIT_FSIZE, Int.max)
      try producer.post(101, 300_000, policy)
      try consumer.expectWhole(101, 300_000, &assembler)
    }
  }

  @Test("If memory ends in the middle of a large message, the reader forgets its beginning")
  func growthFailsInFragments() async {
    await #expect(processExitsWith: .success) {
      let memory = try ChannelMemory.fresh()
      // Room for a few fragments, but not for all.
      let policy = GrowthPolicy.impatient(steady: 64 << 10)
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: memory, lane: 0)
      var assembler = MessageAssembler()
      try producer.grow(capacity: 64 << 10)
      setLimit(RLIMIT_FSIZE, 1 << 20)
      for number in 0..<20 as Range<UInt64> {
        do {
          try producer.post(number, 1_000_000, policy)
          throw Failure("posted without memory")
        } catch is RingError {}
        let found = consumer.take(&assembler)
        try require(found == .nothing, found.short)
        try require(assembler.isIdle, "fragments of an aborted message are kept")
        // The lane is as good as before.
        try producer.post(number, 500, policy)
        try consumer.expectWhole(number, 500, &assembler)
        if number % 3 == 0 { consumer.release() }
      }
    }
  }
}

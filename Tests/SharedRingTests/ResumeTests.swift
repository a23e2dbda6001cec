import SharedRing
import Testing

@Suite("Resuming", .timeLimit(.minutes(3)))
struct ResumeTests {
  @Test("Either side can be handed over after any step, in the initial data and in later segments, and nothing is lost")
  func anywhere() throws {
    var random = Random("resuming")
    for round in 0..<60 {
      let memory = try ChannelMemory.fresh()
      let theirs = try memory.again()
      let lane = round % 2
      let policy = GrowthPolicy.impatient(steady: 16 << 10, firstGrown: 4096)
      var producer = RingProducer(memory: memory, lane: lane)
      var consumer = RingConsumer(memory: theirs, lane: lane)
      var assembler = MessageAssembler()
      var sizes: [Int] = []
      var read = 0
      for _ in 0..<60 {
        for _ in 0..<random.below(4) {
          let size = [random.below(100), random.below(1500), random.below(20_000)][random.below(3)]
          try producer.post(UInt64(sizes.count), size, policy)
          sizes.append(size)
        }
        for _ in 0..<random.below(5) where read < sizes.count {
          try consumer.expectWhole(UInt64(read), sizes[read], &assembler)
          read += 1
        }
        let place = producer.lanePosition
        producer = try .resume(memory: random.below(2) == 0 ? memory : theirs, lane: lane, at: place)
        let same = producer.lanePosition
        try require(same == place, "\(same) is not \(place)")
        // Everything read is released before an end moves on.
        consumer.release()
        let seen = consumer.lanePosition
        consumer = try .resume(memory: random.below(2) == 0 ? memory : theirs, lane: lane, at: seen)
        let sameSeen = consumer.lanePosition
        try require(sameSeen == seen, "\(sameSeen) is not \(seen)")
        if let partial = assembler.partial {
          assembler = MessageAssembler()
          assembler.resume(partial.bytes, filled: partial.filled)
        }
      }
      while read < sizes.count {
        try consumer.expectWhole(UInt64(read), sizes[read], &assembler)
        read += 1
      }
      let rest = consumer.take(&assembler)
      try require(rest == .nothing, rest.short)
    }
  }

  @Test("A reader handed over in the middle of a large message gets the whole of it, after every fragment")
  func midFragments() throws {
    let policy = GrowthPolicy.impatient(steady: 16 << 10, firstGrown: 4096)
    let size = 20_000
    let records = size / policy.fragmentBytes + 1
    for count in 0...records {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 1)
      var consumer = RingConsumer(memory: memory, lane: 1)
      try producer.post(1, size, policy)
      try producer.post(2, 10, policy)
      var assembler = MessageAssembler()
      for _ in 0..<count {
        guard case .record(let record) = consumer.next(), record.kind != .message else { break }
        if record.kind == .lastFragment { break }
        _ = consumer.withPayload(of: record) { assembler.add(record.kind, $0, limitBytes: size) }
        consumer.consume(record)
      }
      consumer.release()
      var second = try RingConsumer.resume(memory: memory, lane: 1, at: consumer.lanePosition)
      var successor = MessageAssembler()
      if let partial = assembler.partial { successor.resume(partial.bytes, filled: partial.filled) }
      try second.expectWhole(1, size, &successor)
      try second.expectWhole(2, 10, &successor)
    }
  }

  @Test("A position in a segment that the reader has left, or that was never there, is found out")
  func lies() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    try producer.grow(capacity: 8192)
    let good = producer.lanePosition
    _ = try RingProducer.resume(memory: memory, lane: 0, at: good)
    var lies: [LanePosition] = []
    func lie(_ change: (inout LanePosition) -> Void) {
      var place = good
      change(&place)
      lies.append(place)
    }
    for offset in [1, 8, 4095, 4096, UInt64(1) << 40 - 4096, 3 << 40, 1 << 62, 1 << 63, .max, .max - 4095] {
      lie { $0.segmentOffset = offset }
    }
    lie { $0.segmentOffset += 8 }
    lie { $0.segmentOffset += 4096 }  // ends behind the file
    lie { $0.segmentOffset = RingLayout.regionOffset(lane: 1) }
    for capacity in [0, 8, 64, 1535, 1536, 4097, 1 << 30 + 4096, 1 << 40, 1 << 62, .max, .max - 4095] as [UInt64] {
      lie { $0.capacity = capacity }
    }
    lie { $0.capacity = 16384 }
    for cursor in [1, 4, 8192, 8185, 8188, 1 << 40, .max, .max - 7] as [UInt64] { lie { $0.cursorOffset = cursor } }
    lie { ($0.position, $0.segmentPosition) = (100, 101) }
    lie { ($0.segmentOffset, $0.capacity) = (0, 8192) }
    // No lane ever gets there: numbers of this size overflow.
    for position in [1 << 63, 1 << 63 + 100, UInt64(Int64.max), .max] {
      lie { ($0.position, $0.segmentPosition) = (position, 0) }
      lie { ($0.position, $0.segmentPosition) = (position, position) }
    }
    for lie in lies {
      #expect(throws: ResumeError.implausible, "\(lie)") {
        _ = try RingProducer.resume(memory: memory, lane: 0, at: lie)
      }
      #expect(throws: ResumeError.implausible, "\(lie)") {
        _ = try RingConsumer.resume(memory: memory, lane: 0, at: lie)
      }
    }
  }

  @Test("A position that is wrong but possible harms nobody")
  func plausibleLies() throws {
    var random = Random("plausible positions")
    for _ in 0..<3000 {
      let memory = try ChannelMemory.fresh()
      let position = random.next() >> UInt64(2 + random.below(62))
      let place = LanePosition(
        segmentOffset: 0, capacity: 1536, cursorOffset: UInt64(random.below(192) * 8), position: position,
        segmentPosition: random.below(2) == 0 ? 0 : position &- UInt64(random.below(Int(min(position, 10_000)) + 1)))
      memory.words(lane: 0).storeReleased([0, position, position / 2, position &+ 1, random.next()][random.below(5)])
      var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
      var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
      var assembler = MessageAssembler()
      var limited = GrowthPolicy.impatient(steady: 8192, firstGrown: 4096, limit: 20_000)
      if random.below(2) == 0 { limited.unreadLimitBytes = nil }
      for number in 0..<20 as Range<UInt64> {
        try? producer.post(number, random.below(1000), limited)
        _ = producer.unreleasedBytes()
      }
      for _ in 0..<30 { _ = consumer.take(&assembler, limit: 100_000) }
      consumer.release()
    }
  }
}

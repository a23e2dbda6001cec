import CSupport
import SharedRing
import Testing

/// What a peer can write instead of records. The consumer's answer is a value, never a trap, and always comes.
@Suite("Hostile records", .timeLimit(.minutes(3)))
struct HostileRecordTests {
  private static let capacity = RingLayout.smallestCapacity

  /// A lane with one good message, behind which the peer has written `words`.
  private func steps(
    after words: [UInt64], at offset: Int = 0, body: (inout RingConsumer, PeerHand) throws -> Void
  ) throws {
    let memory = try ChannelMemory.fresh()
    let place = try memory.emptyLane(at: offset)
    var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
    var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
    let wrote = producer.write(1, 8)
    try require(wrote)
    let hand = try PeerHand(memory)
    let next = hand.data() + Int(producer.lanePosition.cursorOffset)
    hand.store(words, at: next)
    try consumer.expect(1, 8)
    let quick = consumer.tryRead { $0.byteCount }
    let taken = consumer.tryTake { _ in true }
    if words[0] >> 32 != RecordHeader.plainMessage { try require(quick == nil && !taken, "the quick way took it") }
    try body(&consumer, hand)
  }

  private func expectViolation(_ words: [UInt64], at offset: Int = 0, _ what: String) throws {
    try steps(after: words, at: offset) { consumer, _ in
      let position = consumer.position
      let step = consumer.next()
      try require(step.isViolation, "\(what): \(step)")
      try require(consumer.position == position, "\(what): it went on")
      // And so it does for whoever asks again.
      let again = consumer.next()
      try require(again.isViolation, "\(what): \(again)")
    }
  }

  @Test("A record of an unknown kind, or with bits where none may be, ends the lane")
  func unknownKinds() throws {
    for kind in [UInt8(0)] + Array(10...255) {
      try expectViolation([word(kind, 8)], "kind \(kind)")
      try expectViolation([word(kind, 0, ports: 1)], "kind \(kind)")
    }
    for kind in UInt8(0)...9 {
      for bit in 0..<8 { try expectViolation([word(kind, 8, high: 1 << bit)], "kind \(kind), bit \(56 + bit)") }
      try expectViolation([word(kind, 8, ports: 1, high: 0xff)], "kind \(kind), high byte")
    }
    for bit in 0..<64 where !(32..<36).contains(bit) { try expectViolation([1 << UInt64(bit)], "bit \(bit) alone") }
  }

  @Test("A record that reaches beyond its ring ends the lane, at every position; one that just fits is read")
  func tooLong() throws {
    for offset in stride(from: 0, to: Self.capacity - 24, by: 104) {
      let room = Self.capacity - offset - 16
      for kind in [RecordHeader.Kind.message, .firstFragment, .middleFragment, .lastFragment, .abort] {
        let longest = room - 16
        for count in [longest + 1, longest + 8, room, room + 1, 1 << 16, Int(UInt32.max) - 15, Int(UInt32.max)] {
          try expectViolation([word(kind, UInt32(count))], at: offset, "\(kind) of \(count) bytes at \(offset)")
        }
        guard longest >= 0 else { continue }
        try steps(after: [word(kind, UInt32(longest), ports: kind == .message ? 1 : 0)], at: offset) { consumer, _ in
          guard case .record(let record) = consumer.next() else { throw Failure("no record at \(offset)") }
          let count = consumer.withPayload(of: record) { $0.byteCount }
          try require(count == longest)
          consumer.consume(record)
        }
      }
      // The quick way does not take what is too long, either.
      try steps(after: [word(.message, UInt32(room - 15))], at: offset) { consumer, _ in
        let step = consumer.next()
        try require(step.isViolation, "\(step)")
      }
    }
  }

  @Test("A pad that does not end with the ring ends the lane; pads without end are found out")
  func pads() throws {
    for offset in stride(from: 0, to: Self.capacity - 16, by: 56) {
      let right = Self.capacity - offset - 24
      for count in [0, 1, right - 8, right - 1, right + 1, right + 8, Int(UInt32.max)]
      where count != right && count >= 0 {
        try expectViolation([word(.pad, UInt32(count))], at: offset, "pad of \(count) at \(offset)")
      }
    }
    try steps(after: [word(.pad, UInt32(Self.capacity - 24))]) { consumer, hand in
      hand.store(word(.pad, UInt32(Self.capacity - 8)), at: hand.data())
      let step = consumer.next()
      try require(step.isViolation, "\(step)")
    }
  }

  @Test("A link to where no segment can be ends the lane")
  func links() throws {
    let region = RingLayout.regionOffset(lane: 0)
    let page = UInt64(RingLayout.pageBytes)
    let good = (offset: region, capacity: page)
    for offset in [
      0, 8, page, page - 8, region - page, region + 8, region + 1, region + page / 2, RingLayout.regionOffset(lane: 1),
      region + RingLayout.regionBytes, region + RingLayout.regionBytes - page + 8, 1 << 62, 1 << 63, .max,
      .max - page + 1,
    ] {
      try expectViolation([word(.link, 16), offset, good.capacity], "link to \(offset)")
    }
    for capacity in [
      0, 1, 8, 1536, page - 8, page + 8, page + 64, 1 << 30 + page, 1 << 40, 1 << 62, 1 << 63, .max, .max - page + 1,
    ] {
      try expectViolation([word(.link, 16), good.offset, capacity], "link to \(capacity) bytes")
    }
    // Right in itself, but the file ends before.
    try expectViolation([word(.link, 16), region, page], "link beyond the file")
    try expectViolation([word(.link, 16), region + RingLayout.regionBytes - page, page], "link beyond the file")
    for count in [0, 8, 15, 17, 24, 1000, UInt32.max] {
      try expectViolation([word(.link, count), region, page], "link record of \(count) bytes")
    }
    // No room for its payload before the ring's end.
    for left in [8, 16] {
      try expectViolation([word(.link, 16)], at: Self.capacity - 16 - left, "link \(left) bytes before the end")
    }
  }

  @Test("A link to a segment that half lies behind the file's end ends the lane, one inside is followed")
  func linkAtTheEdge() throws {
    let memory = try ChannelMemory.fresh()
    let region = RingLayout.regionOffset(lane: 0)
    #expect(csupport_memory_reserve(memory.fd, region, 8192) == 0)
    let hand = try PeerHand(memory)
    for (offset, capacity, isGood) in [
      (region, 8192 as UInt64, true), (region + 4096, 4096, true), (region, 4096, true), (region + 4096, 8192, false),
      (region, 12288, false), (region + 8192, 4096, false),
    ] {
      var consumer = RingConsumer(memory: memory, lane: 0)
      hand.store([word(.link, 16), offset, capacity], at: hand.data())
      let step = consumer.next()
      try require(isGood ? step.isEmpty : step.isViolation, "\(capacity) bytes at \(offset): \(step)")
    }
  }

  @Test("Links that lead in a circle end at the latest when their segments were given back")
  func linksInACircle() throws {
    let memory = try ChannelMemory.fresh()
    let region = RingLayout.regionOffset(lane: 0)
    #expect(csupport_memory_reserve(memory.fd, region, 16384) == 0)
    let hand = try PeerHand(memory)
    let segments = try PeerHand(memory, offset: region, byteCount: 16384)
    // Each leads to the next, the last to the first, and some to themselves or halfway into each other.
    for (targets, size) in [([1, 2, 3, 0], 4096), ([0, 0, 0, 0], 4096), ([2, 3, 1, 0], 8192)] as [([UInt64], UInt64)] {
      for (index, target) in targets.enumerated() {
        segments.store([word(.link, 16), region + target * 4096, 4096], at: index * 4096)
      }
      var consumer = RingConsumer(memory: memory, lane: 0)
      hand.store([word(.link, 16), region, size], at: hand.data())
      var steps = 0
      while case let step = consumer.next(), !step.isEmpty, !step.isViolation {
        steps += 1
        try require(steps < 100, "going round and round: \(step)")
      }
    }
  }

  @Test("Fragments out of order, that do not add up, or of sixty exabytes, are found out through a ring as well")
  func fragments() throws {
    let sequences: [[[UInt64]]] = [
      [[word(.middleFragment, 8), 0]], [[word(.lastFragment, 8), 0]],
      [[word(.firstFragment, 8), 100]], [[word(.firstFragment, 0)]], [[word(.firstFragment, 16), 8, 0]],
      [[word(.firstFragment, 16), 1 << 60, 0]], [[word(.firstFragment, 16), .max, 0]],
      [[word(.firstFragment, 16), 100, 0], [word(.firstFragment, 16), 100, 0]],
      [[word(.firstFragment, 16), 100, 0], [word(.lastFragment, 8), 0]],
      [[word(.firstFragment, 16), 100, 0], [word(.lastFragment, 200)] + [UInt64](repeating: 0, count: 25)],
      [[word(.firstFragment, 16), 100, 0], [word(.abort)], [word(.lastFragment, 8), 0]],
    ]
    for sequence in sequences {
      try steps(after: sequence.flatMap { $0 } + [0]) { consumer, _ in
        var assembler = MessageAssembler()
        let taken = consumer.take(&assembler, limit: 1 << 30)
        try require(taken.isViolation, "\(sequence): \(taken.short)")
      }
    }
  }

  @Test("A ring whose records lead back to its start is not read for ever", arguments: [1, 5, 7] as [UInt8], [0, 1])
  func circle(_ kind: UInt8, _ lane: Int) throws {
    let memory = try ChannelMemory.fresh()
    let hand = try PeerHand(memory)
    // Filled once, by a peer that may be dead by now. Nobody clears the headers of records that were read.
    let pad = Self.capacity - 8
    for offset in stride(from: 0, to: pad, by: 8) { hand.store(word(kind), at: hand.data(lane) + offset) }
    hand.store(word(.pad), at: hand.data(lane) + pad)
    for startsLate in [false, true] {
      let place = LanePosition(
        segmentOffset: 0, capacity: 1536, cursorOffset: startsLate ? 800 : 0, position: 1 << 20, segmentPosition: 0)
      var consumer = try RingConsumer.resume(memory: memory, lane: lane, at: place)
      var count = 0
      while case .record(let record) = consumer.next() {
        count += 1
        try require(count < 10 * Self.capacity / 8, "still reading")
        consumer.consume(record)
      }
      hand.store(word(kind), at: hand.data(lane))
    }
  }

  @Test("A released position that goes back, or that nothing was written up to, ends the lane for its producer")
  func released() throws {
    let lies: [(String, (UInt64) -> UInt64)] = [
      ("ahead by eight", { $0 + 8 }), ("ahead by one", { $0 + 1 }), ("far ahead", { $0 + 1 << 40 }),
      ("all ones", { _ in .max }),
      ("half of all", { _ in 1 << 63 }),
    ]
    for (name, lie) in lies {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 0)
      _ = producer.fill(from: 0)
      memory.words(lane: 0).storeReleased(lie(producer.position))
      let wrote = producer.write(0, 0)
      try require(!wrote && producer.isCorrupt, name)
      // There is no way back.
      memory.words(lane: 0).storeReleased(producer.position)
      let again = producer.write(0, 0)
      try require(!again && producer.unreleasedBytes() == 0, name)
      do {
        try producer.post(0, 0, .impatient())
        throw Failure("posted to a liar")
      } catch RingError.corruptPeer {}
    }
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    let sizes = producer.fill(from: 0)
    for index in 0..<2 { try consumer.expect(UInt64(index), sizes[index]) }
    consumer.release()
    _ = producer.fill(from: 0)
    memory.words(lane: 0).storeReleased(8)
    let wrote = producer.write(0, 0)
    try require(!wrote && producer.isCorrupt, "going back")
  }

  @Test("A large message in the works ends as soon as the reader lies about what it has read")
  func releasedDuringFragments() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var policy = GrowthPolicy.impatient(steady: 16 << 10, firstGrown: 4096)
    policy.waitsForConsumer = true
    memory.words(lane: 0).storeReleased(1 << 30)
    do {
      try producer.post(0, 1 << 20, policy)
      throw Failure("posted to a liar")
    } catch RingError.corruptPeer {}
  }

  @Test("A lane that was found corrupt while it overflowed takes nothing any more")
  func corruptOverflow() throws {
    let memory = try ChannelMemory.fresh()
    let policy = GrowthPolicy.impatient(steady: 8192, firstGrown: 4096)
    var producer = RingProducer(memory: memory, lane: 0)
    for number in 0..<50 as Range<UInt64> { try producer.post(number, 1000, policy) }
    try require(producer.capacity > policy.steadyCapacity)
    memory.words(lane: 0).storeReleased(.max)
    _ = producer.unreleasedBytes()
    try require(producer.isCorrupt)
    let allocated = try memory.allocatedBytes
    for number in 0..<50 as Range<UInt64> {
      do {
        try producer.post(number, 1000, policy)
        throw Failure("posted to a liar")
      } catch RingError.corruptPeer {}
    }
    #expect(try memory.allocatedBytes == allocated)
  }
}

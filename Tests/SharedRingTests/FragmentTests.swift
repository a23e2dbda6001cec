import SharedRing
import Testing

@Suite("Fragments", .timeLimit(.minutes(3)))
struct FragmentTests {
  @Test("Messages of sizes around multiples of a fragment arrive whole", arguments: [false, true])
  func sizes(_ keepsUp: Bool) throws {
    let memory = try ChannelMemory.fresh()
    let theirs = try memory.again()
    let policy = GrowthPolicy.impatient()
    #expect(policy.fragmentBytes == 128 << 10)
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: theirs, lane: 0)
    var assembler = MessageAssembler()
    var sizes: [Int] = []
    for multiple in [1, 2, 3, 7, 8, 9, 16] {
      for delta in [-17, -16, -9, -8, -7, -1, 0, 1, 7, 8, 9, 16] {
        sizes.append(multiple * policy.fragmentBytes + delta)
      }
    }
    for (number, size) in sizes.enumerated() {
      try producer.post(UInt64(number), size, policy)
      if keepsUp {
        try consumer.expectWhole(UInt64(number), size, &assembler)
        consumer.release()
      }
    }
    if !keepsUp {
      for (number, size) in sizes.enumerated() { try consumer.expectWhole(UInt64(number), size, &assembler) }
    }
    try require(assembler.isIdle)
    try consumer.expectEmpty()
    try require(consumer.position == producer.position)
  }

  @Test("Nothing is seen of a message whose last fragment was called off, at any number of fragments")
  func calledOff() throws {
    let memory = try ChannelMemory.fresh()
    let policy = GrowthPolicy.impatient(steady: 16 << 10, firstGrown: 4096)
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var assembler = MessageAssembler()
    for round in 0..<200 as Range<UInt64> {
      let size = 2049 + Int(round) * 301
      let header = try producer.stage(round, size, policy)
      try require(header.kind == .lastFragment, "\(header)")
      if round % 2 == 0 {
        // The reader has seen all but the last fragment.
        let found = consumer.take(&assembler)
        try require(found == .nothing && !assembler.isIdle, found.short)
      }
      producer.abandonStaged(header)
      try producer.post(round, 77, policy)
      try consumer.expectWhole(round, 77, &assembler)
      try require(assembler.isIdle, "an aborted message is kept")
    }
  }

  @Test("A message in one piece that is called off leaves no trace")
  func wholeCalledOff() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    let position = producer.position
    let header = try producer.stage(0, 300, .impatient())
    producer.abandonStaged(header)
    try require(producer.position == position)
    try consumer.expectEmpty()
  }

  @Test("Large and small messages follow each other in order through a small lane, whatever the reader's pace")
  func mixed() throws {
    var random = Random("fragments")
    let memory = try ChannelMemory.fresh()
    let policy = GrowthPolicy.impatient(steady: 32 << 10, firstGrown: 4096)
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var assembler = MessageAssembler()
    var sizes: [Int] = []
    var read = 0
    while read < 1500 {
      for _ in 0..<random.below(6) {
        let size = [random.below(200), random.below(4000), 4090 + random.below(12), random.below(100_000)][
          random.below(4)]
        try producer.post(UInt64(sizes.count), size, policy)
        sizes.append(size)
      }
      for _ in 0..<random.below(8) where read < sizes.count {
        try consumer.expectWhole(UInt64(read), sizes[read], &assembler)
        read += 1
      }
      if random.below(4) == 0 { consumer.release() }
    }
  }
}

/// The reader's side alone: the sequences of fragments that it takes.
@Suite("Assembling")
struct AssemblerTests {
  private func bytes(_ count: Int, total: UInt64? = nil) -> [UInt8] {
    let prefix = total.map { total in (0..<8).map { UInt8(truncatingIfNeeded: total >> (8 * $0)) } } ?? []
    return prefix + [UInt8](repeating: 7, count: count)
  }

  private func add(
    _ assembler: inout MessageAssembler, _ kind: RecordHeader.Kind, _ bytes: [UInt8], limit: Int = 1000
  ) -> String {
    let progress = unsafe assembler.add(kind, bytes.span.bytes, limitBytes: limit)
    switch progress {
    case .incomplete: return "incomplete"
    case .complete(let bytes): return "complete \(bytes.byteCount)"
    case .violation: return "violation"
    case .refused: return "refused"
    }
  }

  @Test("Fragments that add up make a message; a second message can follow")
  func addUp() throws {
    var assembler = MessageAssembler()
    for _ in 0..<2 {
      #expect(add(&assembler, .firstFragment, bytes(10, total: 30)) == "incomplete")
      try require(!assembler.isIdle)
      try require(assembler.partial?.filled == 10)
      #expect(add(&assembler, .middleFragment, bytes(19)) == "incomplete")
      #expect(add(&assembler, .lastFragment, bytes(1)) == "complete 30")
      try require(assembler.isIdle && assembler.partial == nil)
    }
  }

  @Test(
    "Fragments that come out of order, or do not add up, end the lane",
    arguments: [
      [(RecordHeader.Kind.middleFragment, 5, nil)], [(.lastFragment, 5, nil)],
      [(.firstFragment, 5, 20), (.firstFragment, 5, 20)],
      [(.firstFragment, 5, 20), (.lastFragment, 14, nil)], [(.firstFragment, 5, 20), (.lastFragment, 16, nil)],
      [(.firstFragment, 5, 20), (.middleFragment, 15, nil)], [(.firstFragment, 5, 20), (.middleFragment, 500, nil)],
      [(.firstFragment, 5, 5)], [(.firstFragment, 5, 4)], [(.firstFragment, 5, 0)], [(.firstFragment, 0, 10)],
      [(.firstFragment, 5, 1001)], [(.firstFragment, 5, 1 << 60)], [(.firstFragment, 5, .max)],
      [(.firstFragment, 5, 1 << 63)],
    ] as [[(RecordHeader.Kind, Int, UInt64?)]])
  func malformed(_ fragments: [(RecordHeader.Kind, Int, UInt64?)]) {
    var assembler = MessageAssembler()
    for (index, (kind, count, total)) in fragments.enumerated() {
      let isLast = index == fragments.count - 1
      #expect(add(&assembler, kind, bytes(count, total: total)) == (isLast ? "violation" : "incomplete"))
    }
  }

  @Test("A first fragment without a length in it ends the lane")
  func noLength() {
    for count in 0...8 {
      var assembler = MessageAssembler()
      #expect(add(&assembler, .firstFragment, [UInt8](repeating: 0, count: count)) == "violation")
    }
  }

  @Test("A message for which there is no memory is skipped, and the next one arrives")
  func noMemory() throws {
    var assembler = MessageAssembler()
    let huge = UInt64(1) << 60
    #expect(add(&assembler, .firstFragment, bytes(5, total: huge), limit: .max) == "incomplete")
    try require(assembler.partial == nil)
    #expect(add(&assembler, .middleFragment, bytes(100)) == "incomplete")
    #expect(add(&assembler, .lastFragment, bytes(100)) == "refused")
    #expect(add(&assembler, .firstFragment, bytes(5, total: huge), limit: .max) == "incomplete")
    #expect(add(&assembler, .abort, []) == "incomplete")
    #expect(add(&assembler, .firstFragment, bytes(5, total: 6)) == "incomplete")
    #expect(add(&assembler, .lastFragment, bytes(1)) == "complete 6")
  }

  @Test("What had come of a message goes on elsewhere")
  func resumed() throws {
    var first = MessageAssembler()
    #expect(add(&first, .firstFragment, bytes(10, total: 30)) == "incomplete")
    let (bytes, filled) = try #require(first.partial)
    var second = MessageAssembler()
    second.resume(bytes, filled: filled)
    #expect(add(&second, .lastFragment, self.bytes(20)) == "complete 30")
  }
}

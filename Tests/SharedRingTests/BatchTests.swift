import SharedRing
import Testing

@Suite("Batches", .timeLimit(.minutes(3)))
struct BatchTests {
  private static let capacity = RingLayout.smallestCapacity

  @Test("Nothing of a batch is seen before its end, and then all of it, from every position")
  func atOnce() throws {
    let memory = try ChannelMemory.fresh()
    // Six records of 104 bytes: from most positions, the wrap is somewhere in the batch.
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      for count in 0...6 {
        let place = try memory.emptyLane(at: offset)
        var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
        var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
        producer.beginBatch()
        for number in 0..<UInt64(count) {
          let wrote = producer.write(number, 96)
          try require(wrote, "no room for \(number) at \(offset)")
          try consumer.expectEmpty()
        }
        let any = producer.endBatch()
        try require(any == (count > 0), "a batch of \(count)")
        for number in 0..<UInt64(count) { try consumer.expect(number, 96) }
        try consumer.expectEmpty()
        try require(consumer.position == producer.position, "the sides disagree")
      }
    }
  }

  @Test("A batch that fills the ring publishes what fitted, at every position and fill level")
  func fullInTheMiddle() throws {
    let memory = try ChannelMemory.fresh()
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      for before in stride(from: 0, to: 10, by: 3) {
        for size in [0, 40, 376] {
          let place = try memory.emptyLane(at: offset)
          var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
          var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
          var count: UInt64 = 0
          for _ in 0..<before where producer.write(count, size) { count += 1 }
          let published = count
          producer.beginBatch()
          while producer.write(count, size) { count += 1 }
          for number in 0..<published { try consumer.expect(number, size) }
          try consumer.expectEmpty()
          consumer.release()
          // Released meanwhile: the batch goes on where it was refused.
          if published > 0, producer.write(count, size) { count += 1 }
          try consumer.expectEmpty()
          producer.endBatch()
          for number in published..<count { try consumer.expect(number, size) }
          try consumer.expectEmpty()
          try require(consumer.position == producer.position, "the sides disagree")
        }
      }
    }
  }

  @Test("Batches of random sizes follow each other and single messages without loss")
  func random() throws {
    var random = Random("batches")
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var sizes: [Int] = []
    var (written, visible, read) = (0, 0, 0)
    while read < 20000 {
      let isBatch = random.below(2) == 0
      if isBatch { producer.beginBatch() }
      for _ in 0..<random.below(8) {
        let size = random.below(3) == 0 ? random.below(377) : random.below(24)
        guard producer.write(UInt64(written), size) else { break }
        sizes.append(size)
        written += 1
        if !isBatch { visible = written }
        if isBatch, read < visible, random.below(3) == 0 {
          try consumer.expect(UInt64(read), sizes[read])
          read += 1
        }
      }
      if isBatch { producer.endBatch() }
      visible = written
      for _ in 0..<random.below(12) where read < visible {
        try consumer.expect(UInt64(read), sizes[read])
        read += 1
      }
      if read == visible { try consumer.expectEmpty() }
    }
  }

  @Test("An empty batch publishes nothing")
  func empty() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    producer.beginBatch()
    let any = producer.endBatch()
    #expect(!any)
    try require(producer.position == 0)
  }
}

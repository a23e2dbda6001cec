import SharedRing
import Testing

/// One thread, every state of the smallest lane. A lane is a cursor, a fill level, and what comes next, so all
/// combinations can be tried.
@Suite("Sequential", .timeLimit(.minutes(3)))
struct SequentialTests {
  private static let capacity = RingLayout.smallestCapacity
  private static let largest = capacity / 4 - 8

  @Test("A message of every size from every position arrives as it was, and the lane is empty again")
  func everySize() throws {
    let memory = try ChannelMemory.fresh()
    #expect(RingProducer(memory: memory, lane: 0).largestRecordPayload == Self.largest)
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      for size in 0...Self.largest {
        let place = try memory.emptyLane(at: offset)
        var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
        var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
        let wrote = producer.write(UInt64(size), size)
        try require(wrote, "an empty lane at \(offset) refused \(size) bytes")
        try consumer.expect(UInt64(size), size)
        try consumer.expectEmpty()
        try require(consumer.position == producer.position, "\(consumer.position) is not \(producer.position)")
      }
    }
  }

  @Test("At every position and every fill level a record of every size is taken whole or refused for lack of room")
  func everyState() throws {
    let memory = try ChannelMemory.fresh()
    var (accepted, refused) = (0, 0)
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      for fill in stride(from: 0, through: Self.capacity, by: 72) {
        for size in stride(from: 0, through: Self.largest, by: 24) {
          let place = try memory.emptyLane(at: offset)
          var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
          var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
          let start = producer.position
          var sizes: [Int] = []
          // As much as is asked for, in records as large as possible.
          while case let left = fill - Int(producer.position - start), left > 0 {
            let filler = min(Self.largest, max(0, left - 8))
            guard producer.write(UInt64(sizes.count), filler) else { break }
            sizes.append(filler)
          }
          let used = Int(producer.position - start)
          let rest = Self.capacity - (offset + used) % Self.capacity
          let number = UInt64(sizes.count)
          if producer.write(number, size) {
            sizes.append(size)
            accepted += 1
            try require(
              Int(producer.position - start) <= Self.capacity - RingLayout.reservedBytes, "the reserve was used")
          } else {
            // What the record, the header behind it, and perhaps the rest of the lap would take does not fit.
            let needed = RecordHeader.recordBytes(payloadBytes: size) + 8
            let wasted = needed > rest ? rest : 0
            refused += 1
            try require(
              used + wasted + needed > Self.capacity - RingLayout.reservedBytes,
              "\(size) bytes refused at \(offset) with \(used) used")
          }
          for (index, size) in sizes.enumerated() { try consumer.expect(UInt64(index), size) }
          try consumer.expectEmpty()
          try require(consumer.position == producer.position, "the sides disagree")
        }
      }
    }
    #expect(accepted > 10000 && refused > 1000)
  }

  @Test("A lane kept full at every position takes the next message as soon as its room was released")
  func keptFull() throws {
    for size in [0, 1, 8, 100, Self.largest] {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: memory, lane: 0)
      consumer.releaseStride = 8
      var (written, read) = (0 as UInt64, 0 as UInt64)
      while read < 2000 {
        while producer.write(written, size) { written += 1 }
        // A pad may waste a quarter of what is not in use; an eighth may be read but not reported yet.
        let waiting = Int(written - read) * RecordHeader.recordBytes(payloadBytes: size)
        try require(waiting >= Self.capacity / 2 - RingLayout.reservedBytes - 8, "full with \(waiting) bytes waiting")
        try consumer.expect(read, size)
        read += 1
      }
      while read < written {
        try consumer.expect(read, size)
        read += 1
      }
      try consumer.expectEmpty()
    }
  }

  @Test("A message of the largest size fits at every position once everything was read, whatever was told of it")
  func largestAlwaysFits() throws {
    let memory = try ChannelMemory.fresh()
    for offset in stride(from: 0, to: Self.capacity, by: 8) {
      for first in stride(from: 0, through: Self.largest, by: 8) {
        let place = try memory.emptyLane(at: offset)
        var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
        var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
        // Read, but less than an eighth of the ring: the producer does not know.
        let wrote = producer.write(0, first)
        try require(wrote, "an empty lane refused \(first) bytes")
        try consumer.expect(0, first)
        let again = producer.write(1, Self.largest)
        try require(again, "at \(offset) after \(first) bytes")
        try consumer.expect(1, Self.largest)
      }
    }
  }

  @Test("The producer is told after an eighth of the ring was read, or after as little as the stride says")
  func releaseStride() throws {
    for (stride, expected) in [(Int.max, Self.capacity / 8), (64, 64), (1, 16), (0, 16)] {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: memory, lane: 0)
      consumer.releaseStride = stride
      consumer.release()
      var told: UInt64 = 0
      for number in 0..<1000 as Range<UInt64> {
        let wrote = producer.write(number, 8)
        try require(wrote, "no room")
        try consumer.expect(number, 8)
        let released = memory.words(lane: 0).loadReleased()
        let untold = consumer.position - released
        try require(untold < UInt64(expected), "\(untold) bytes not told, stride \(stride)")
        try require(released >= told && released <= consumer.position, "released \(released)")
        told = released
        try require(consumer.hasUnreleased == (untold > 0), "hasUnreleased")
      }
      try require(producer.unreleasedBytes() == Int(producer.position - told))
    }
  }

  @Test("A message that its reader does not take stays where it is")
  func declined() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    for number in 0..<100 as Range<UInt64> {
      let wrote = producer.write(number, 33)
      try require(wrote, "no room")
      for _ in 0..<2 {
        let took = consumer.tryTake { _ in false }
        try require(!took, "taken")
      }
      var took = consumer.tryTake { Noise.matches($0, number, 33) }
      if !took {
        // Behind a wrap: the long way finds it first, then it can be taken.
        _ = consumer.next()
        took = consumer.tryTake { Noise.matches($0, number, 33) }
      }
      try require(took, "not taken")
    }
  }

  @Test("A reader that fails has still read the message")
  func throwing() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    let wrote = producer.write(0, 10) && producer.write(1, 20)
    #expect(wrote)
    var caught = false
    do {
      _ = try consumer.tryRead { (_: RawSpan) throws(Failure) in throw Failure("no") }
    } catch {
      caught = true
    }
    #expect(caught)
    try consumer.expect(1, 20)
  }

  @Test("Waiting bytes are what was published and not read, and a mad number is none or all")
  func waiting() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    let wrote = producer.write(0, 10) && producer.write(1, 20)
    #expect(wrote)
    producer.publishPosition()
    try require(consumer.waitingBytes == 24 + 32)
    try consumer.expect(0, 10)
    try require(consumer.waitingBytes == 32)
    for lie in [0, 1, 1 << 62, 1 << 63, UInt64.max] {
      memory.words(lane: 0).storePosted(lie)
      try require(consumer.waitingBytes >= 0)
    }
  }

  @Test("A lane whose position passes two to the sixty-second goes on")
  func farOut() throws {
    let memory = try ChannelMemory.fresh()
    let place = try memory.emptyLane(at: 800, position: (1 << 62) - 400)
    var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
    var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
    for number in 0..<500 as Range<UInt64> {
      let wrote = producer.write(number, Int(number) % 300)
      try require(wrote, "no room")
      try consumer.expect(number, Int(number) % 300)
    }
    try require(consumer.position > 1 << 62)
  }
}

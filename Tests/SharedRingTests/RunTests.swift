import SharedRing
import TestSupport
import Testing

/// Many messages of one size under one header.
@Suite("Runs", .timeLimit(.minutes(3)))
struct RunTests {
  /// Message `number`: a few words that only it has.
  private static func words(_ number: Int, _ byteCount: Int) -> [UInt64] {
    (0..<byteCount / 8).map { UInt64(number) << 16 | UInt64($0) }
  }

  private static func matches(_ bytes: RawSpan, _ number: Int, _ byteCount: Int) -> Bool {
    bytes.byteCount == byteCount
      && words(number, byteCount).indices.allSatisfy {
        unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 8 * $0, as: UInt64.self) == words(number, byteCount)[$0]
      }
  }

  private static func write(_ producer: inout RingProducer, _ first: Int, _ byteCount: Int, _ count: Int) -> Int {
    let all = (first..<first + count).flatMap { words($0, byteCount) }
    return unsafe all.withUnsafeBytes {
      unsafe producer.tryWriteRun($0.baseAddress!, messageBytes: byteCount, count: count)
    }
  }

  /// Takes up to `limit` messages at once, and looks at each.
  private static func take(_ consumer: inout RingConsumer, _ first: Int, _ byteCount: Int, _ limit: Int) throws -> Int {
    var target = [UInt64](repeating: 0, count: limit * byteCount / 8)
    let taken = unsafe target.withUnsafeMutableBytes {
      unsafe consumer.tryTakeRun(into: $0.baseAddress!, messageBytes: byteCount, limit: limit)
    }
    for index in 0..<taken {
      let found = Array(target[index * byteCount / 8..<(index + 1) * byteCount / 8])
      try require(found == words(first + index, byteCount), "message \(first + index) of \(byteCount) bytes differs")
    }
    return taken
  }

  @Test("Runs and single messages arrive whole and in order, however they are read, across wraps and handovers")
  func anyWay() throws {
    var random = Random("runs")
    for _ in 0..<40 {
      let memory = try ChannelMemory.fresh()
      var producer = RingProducer(memory: memory, lane: 0)
      var consumer = RingConsumer(memory: memory, lane: 0)
      var sizes: [Int] = []
      var read = 0
      while read < 2000 {
        let size = 8 * (1 + random.below(random.below(3) == 0 ? 40 : 4))
        let isBatch = random.below(3) == 0
        if isBatch { producer.beginBatch() }
        for _ in 0..<random.below(4) {
          let written = Self.write(&producer, sizes.count, size, 1 + random.below(60))
          sizes += Array(repeating: size, count: written)
        }
        if isBatch {
          producer.endBatch()
        }
        for _ in 0..<random.below(40) where read < sizes.count {
          let size = sizes[read]
          switch random.below(4) {
          case 0: read += try Self.take(&consumer, read, size, 1 + random.below(50))
          case 1:
            if try consumer.tryRead({ Self.matches($0, read, size) }).map({ try require($0) }) != nil { read += 1 }
          case 2: if consumer.tryTake({ Self.matches($0, read, size) }) { read += 1 }
          default:
            guard case .record(let record) = consumer.next() else {
              throw Failure("nothing instead of message \(read)")
            }
            try require(record.kind == .message && !record.header.announcesPacket)
            let isRight = consumer.withPayload(of: record) { Self.matches($0, read, size) }
            try require(isRight, "message \(read) of \(size) bytes differs")
            consumer.consume(record)
            read += 1
          }
          if random.below(10) == 0 { consumer.release() }
          if random.below(10) == 0 {
            // In the middle of a run, too.
            consumer.release()
            consumer = try .resume(memory: memory, lane: 0, at: consumer.lanePosition)
          }
        }
        if read == sizes.count { try consumer.expectEmpty() }
      }
    }
  }

  @Test("As many are written as there is room for, at every place in the ring; then there is room for as many again")
  func room() throws {
    for offset in stride(from: 0, to: RingLayout.smallestCapacity - 16, by: 136) {
      let memory = try ChannelMemory.fresh()
      let place = try memory.emptyLane(at: offset)
      var producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
      var consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
      for size in [8, 48, 208] {
        var counts: [Int] = []
        for _ in 0..<2 {
          var written = 0
          while true {
            let more = Self.write(&producer, written, size, 1000)
            if more == 0 { break }
            written += more
          }
          var read = 0
          while read < written {
            let taken = try Self.take(&consumer, read, size, 1000)
            if taken == 0, case .record(let record) = consumer.next(), record.header.byteCount == size {
              let single = consumer.withPayload(of: record) { Self.matches($0, read, size) }
              try require(single, "message \(read) of \(size) bytes differs")
              consumer.consume(record)
            }
            read += max(taken, 1)
          }
          consumer.release()
          try consumer.expectEmpty()
          counts.append(written)
        }
        // Two laps of the smallest ring: nearly all of it, whatever is lost to the wrap.
        #expect(
          counts.allSatisfy { $0 * size > RingLayout.smallestCapacity / 2 }, "\(counts) of \(size) bytes at \(offset)")
      }
    }
  }

  @Test("A run of no whole number of messages, of none, or beyond its ring, ends the lane")
  func hostile() throws {
    let capacity = RingLayout.smallestCapacity
    let bad: [(bytes: UInt32, units: UInt16)] = [
      (0, 0), (8, 0), (0, 1), (8, 2), (20, 2), (63, 1), (UInt32.max, 1), (UInt32.max, 65535), (UInt32(capacity), 1),
      (UInt32(capacity) - 8, 1), (524_280, 65535),
    ]
    for (bytes, units) in bad {
      let memory = try ChannelMemory.fresh()
      let hand = try PeerHand(memory)
      hand.store([word(.run, bytes, ports: units)], at: hand.data())
      var consumer = RingConsumer(memory: memory, lane: 0)
      let taken = try Self.take(&consumer, 0, max(8, Int(units) * 8), 1)
      try require(taken == 0)
      let step = consumer.next()
      try require(step.isViolation, "\(bytes) bytes in messages of \(units) units: \(step)")
    }
    // The longest that is possible.
    let memory = try ChannelMemory.fresh()
    let hand = try PeerHand(memory)
    let longest = UInt32(capacity - 16)
    hand.store([word(.run, longest, ports: 1)], at: hand.data())
    var consumer = RingConsumer(memory: memory, lane: 0)
    var messages = 0
    while case .record(let record) = consumer.next(), record.header.byteCount == 8 {
      consumer.consume(record)
      messages += 1
    }
    #expect(messages == Int(longest) / 8)
  }
}

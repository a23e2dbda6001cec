import CSupport
@testable import SharedRing

/// The producer of a lane whose consumer lies about what it has read, and scribbles over what was written.
enum ProducerFuzz {
  private static let shared = {
    let memory = FuzzMemory()
    memory.forbidOtherLane()
    // As far as `resumeAnywhere` can point.
    memory.extendRegion(to: 8 << 20)
    return memory
  }()

  private enum Step: Int, CaseIterable {
    // The peer.
    case release, releaseAll, releaseSome, doorbells, storeInPage, storeInRegion
    // The victim.
    case tryWrite, post, abandon, batch, shrink, sleep, wake, count, resume, resumeAnywhere
  }

  private static let noise = [UInt8](repeating: 0x5a, count: 1 << 14)

  static func run(_ input: inout FuzzInput) {
    shared.reset()
    let limit = input.byte()
    var victim = Victim(memory: shared.memory, limitBytes: limit < 128 ? nil : Int(limit) * 64)
    // Enough steps to fill a lane several times over.
    for _ in 0..<400 where !input.isAtEnd {
      switch Step.allCases[input.below(Step.allCases.count)] {
      case .release: victim.words.storeReleased(input.word())
      case .releaseAll: victim.words.storeReleased(victim.position)
      case .releaseSome: victim.words.storeReleased(victim.words.loadReleased() &+ UInt64(input.half()))
      case .doorbells:
        victim.words.storeDoorbell(.message, UInt32(input.below(5)))
        victim.words.storeDoorbell(.space, UInt32(input.below(5)))
      case .storeInPage: shared.store(input.word(), at: Int(input.half()))
      case .storeInRegion: shared.storeInRegion(input.word(), at: Int(input.half()))
      case .tryWrite: victim.tryWrite(Int(input.half() & 0x7ff))
      case .post: victim.post(Int(input.half() & 0x3fff), abandons: false)
      case .abandon: victim.post(Int(input.half() & 0x3fff), abandons: true)
      case .batch: victim.batch(1 + input.below(8), Int(input.byte()))
      case .shrink: victim.shrink()
      case .sleep: victim.sleep(UInt32(input.below(4)), Int(input.half()))
      case .wake: victim.wake(isRegistered: input.byte() & 1 == 1)
      case .count: _ = victim.unreleasedBytes()
      case .resume: victim.resume()
      case .resumeAnywhere:
        let place = LanePosition(
          segmentOffset: input.byte() & 1 == 0 ? 0 : RingLayout.regionOffset(lane: 0) &+ UInt64(input.half()) &* 64,
          capacity: input.byte() & 1 == 0 ? UInt64(shared.memory.laneCapacity) : UInt64(input.half()) &* 64,
          cursorOffset: UInt64(input.half()), position: input.word(), segmentPosition: input.word())
        victim.resume(at: place)
      }
      victim.checkPlace()
      // Beyond that it would only be more of the same, and the file would grow.
      if victim.position > 1 << 60 || victim.writtenBytes > 1 << 20 { return }
    }
  }

  private struct Victim: ~Copyable {
    let memory: ChannelMemory
    let words: SharedWords
    var producer: RingProducer
    let policy: GrowthPolicy
    private(set) var writtenBytes = 0

    init(memory: ChannelMemory, limitBytes: Int?) {
      self.memory = memory
      words = memory.words(lane: 0)
      producer = RingProducer(memory: memory, lane: 0)
      var policy = GrowthPolicy(unreadLimitBytes: limitBytes)
      policy.steadyCapacity = 8192
      policy.firstGrownCapacity = 4096
      policy.waitsForConsumer = false
      self.policy = policy
    }

    var position: UInt64 { producer.position }

    /// Whatever was released, nothing is written outside a lane.
    func checkPlace() {
      let place = producer.lanePosition
      demand(place.cursorOffset % 8 == 0 && place.cursorOffset <= place.capacity - 8, "cursor at \(place)")
      let isInside = unsafe producer.limit >= producer.segment.start && producer.limit <= producer.segment.end
      demand(isInside, "limit beyond the ring")
      demand(place.segmentOffset != 0 || place.capacity == UInt64(memory.laneCapacity), "\(place)")
    }

    mutating func tryWrite(_ byteCount: Int) {
      if unsafe producer.tryWrite(noise.span.bytes.extracting(first: byteCount)) { writtenBytes += byteCount }
    }

    mutating func post(_ byteCount: Int, abandons: Bool) {
      let unread = producer.unreleasedBytes()
      do throws(RingError) {
        let header = try unsafe producer.stage(
          noise.span.bytes.extracting(first: byteCount), policy: policy, contact: Nobody())
        if abandons { producer.abandonStaged(header) } else { producer.publish(header) }
        writtenBytes += byteCount
        if let limit = policy.unreadLimitBytes { demand(unread + byteCount <= limit, "more than \(limit) unread") }
      } catch {
        switch error {
        case .corruptPeer: demand(producer.isCorrupt, "corrupt without a lie")
        case .limitReached: demand(policy.unreadLimitBytes != nil, "no limit to reach")
        case .consumerGone: fatalError("nobody is gone")
        // Behind a position that somebody made up there may be no file left.
        case .system: break
        }
      }
    }

    mutating func batch(_ count: Int, _ byteCount: Int) {
      producer.beginBatch()
      for _ in 0..<count { tryWrite(byteCount) }
      producer.endBatch()
    }

    mutating func shrink() {
      guard producer.hasOverflowed(policy), producer.unreleasedBytes() == 0 else { return }
      try? producer.shrink(policy)
    }

    mutating func sleep(_ doorbell: UInt32, _ byteCount: Int) {
      _ = producer.prepareToSleep(doorbell) { $0.hasRoom(payloadBytes: byteCount) }
      _ = producer.announced
      producer.stayAwake()
    }

    mutating func wake(isRegistered: Bool) {
      producer.isRegisteredForMembarrier = isRegistered
      if producer.consumerSleeps() { _ = producer.wakeConsumer() }
      producer.publishPosition()
    }

    mutating func unreleasedBytes() -> Int {
      let count = producer.unreleasedBytes()
      demand(count >= 0, "\(count) bytes unread")
      return count
    }

    mutating func resume() {
      let place = producer.lanePosition
      do {
        producer = try RingProducer.resume(memory: memory, lane: 0, at: place)
      } catch {
        fatalError("cannot go on at \(place): \(error)")
      }
      demand(producer.lanePosition == place, "\(place) became \(producer.lanePosition)")
    }

    mutating func resume(at place: LanePosition) {
      guard let producer = try? RingProducer.resume(memory: memory, lane: 0, at: place) else { return }
      self.producer = producer
    }
  }

  private struct Nobody: RingConsumerContact {
    func consumerIsGone() -> Bool { false }
    func signalOnSocket() {}
  }
}

extension ProducerFuzz {
  static var seeds: [[UInt8]] {
    func step(_ step: Step) -> Int { step.rawValue }
    return [
      SeedWriter.make { w in
        w.byte(0)
        for size in [0, 8, 300, 300, 300, 300, 300] {
          w.byte(step(.tryWrite))
          w.half(size)
        }
        w.byte(step(.releaseAll))
        for size in [300, 300, 300, 3000, 200] {
          w.byte(step(.post))
          w.half(size)
          w.byte(step(.wake))
          w.byte(0)
        }
        w.byte(step(.releaseAll))
        w.byte(step(.shrink))
        w.byte(step(.resume))
      },
      SeedWriter.make { w in
        w.byte(200)
        for size in [1000, 1200, 12000, 100, 5000] {
          w.byte(step(.post))
          w.half(size)
          w.byte(step(.releaseSome))
          w.half(512)
          w.byte(step(.sleep))
          w.byte(1)
          w.half(size)
        }
        w.byte(step(.batch))
        w.byte(5)
        w.byte(40)
        w.byte(step(.abandon))
        w.half(4000)
        w.byte(step(.release))
        w.word(1 << 40)
      },
      SeedWriter.make { w in
        w.byte(0)
        w.byte(step(.resumeAnywhere))
        w.byte(1)
        w.half(0)
        w.byte(1)
        w.half(64)
        w.half(512)
        w.word(1 << 20)
        w.word(1 << 19)
        w.byte(step(.release))
        w.word(1 << 20)
        w.byte(step(.post))
        w.half(900)
      },
    ]
  }
}

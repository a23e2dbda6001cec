import CSupport
@testable import SharedRing

/// The consumer of a lane whose producer writes anything anywhere, record by record or word by word.
enum LaneFuzz {
  private static let shared = {
    let memory = FuzzMemory()
    memory.forbidOtherLane()
    return memory
  }()
  private static let messageLimit = 1 << 16

  private enum Step: Int, CaseIterable {
    // The peer.
    case storeInPage, storeAtCursor, storeInRegion, record, pad, link, words
    // The victim.
    case take, tryRead, tryTake, next, sleep, release, resume
  }

  static func run(_ input: inout FuzzInput) {
    shared.reset()
    var victim = Victim(memory: shared.memory)
    var peer = Peer()
    while !input.isAtEnd {
      switch Step.allCases[input.below(Step.allCases.count)] {
      case .storeInPage: shared.store(input.word(), at: Int(input.half()))
      case .storeAtCursor: peer.store(input.word(), atRecord: victim.place, words: input.below(32))
      case .storeInRegion: shared.storeInRegion(input.word(), at: Int(input.half()))
      case .record:
        let (kind, byteCount, ports) = (input.byte() % 10, input.half(), input.byte())
        let header = UInt64(byteCount) | UInt64(kind) << 32 | UInt64(ports & 3) << 40
        peer.put(header, payload: Int(byteCount), &input)
      case .pad: peer.pad()
      case .link: peer.link(page: input.below(FuzzMemory.regionPages + 1), pages: 1 + input.below(4))
      case .words:
        for _ in 0..<input.below(16) { peer.putWord(input.word()) }
      case .take: victim.take()
      case .tryRead: victim.tryRead()
      case .tryTake:
        let byte = Int(input.byte())
        if byte < 128 {
          victim.tryTake(byte & 1 == 0)
        } else {
          victim.tryTakeRun(8 << (byte & 3), limit: byte >> 2 & 15)
        }
      case .next: victim.look()
      case .sleep: victim.sleep(input.byte())
      case .release: victim.release()
      case .resume: if !victim.resume() { return }
      }
      victim.checkPlace()
      if victim.isOver { return }
    }
    victim.take()
    victim.checkPlace()
  }

  /// Where the peer writes its next record.
  private struct Peer {
    /// `nil`: in the initial data.
    var segment: (page: Int, byteCount: Int)?
    var offset = 0

    var byteCount: Int { segment?.byteCount ?? shared.memory.laneCapacity }

    func store(_ value: UInt64, at offset: Int) {
      if let segment {
        shared.storeInRegion(value, at: segment.page * FuzzMemory.pageBytes + offset)
      } else {
        shared.store(value, at: shared.data + offset)
      }
    }

    func store(_ value: UInt64, atRecord place: LanePosition, words: Int) {
      let offset = Int(place.cursorOffset) + words * 8
      if place.segmentOffset == 0 {
        shared.store(value, at: shared.data + offset)
      } else {
        shared.storeInRegion(value, at: Int(place.segmentOffset - RingLayout.regionOffset(lane: 0)) + offset)
      }
    }

    /// A record whose payload is the input's next bytes, as far as they go; the header last.
    mutating func put(_ header: UInt64, payload byteCount: Int, _ input: inout FuzzInput) {
      let words = (min(byteCount, 256) + 7) / 8
      for index in 0..<words { store(input.word(), at: offset + 8 + 8 * index) }
      let end = offset + RecordHeader.recordBytes(payloadBytes: byteCount)
      store(0, at: end)
      store(header, at: offset)
      offset = end < self.byteCount ? end : 0
    }

    mutating func putWord(_ value: UInt64) {
      store(value, at: offset)
      offset = offset + 8 < byteCount ? offset + 8 : 0
    }

    mutating func pad() {
      store(0, at: 0)
      store(RecordHeader(kind: .pad, byteCount: byteCount - offset - 8).rawValue, at: offset)
      offset = 0
    }

    mutating func link(page: Int, pages: Int) {
      let region = RingLayout.regionOffset(lane: 0)
      store(region + UInt64(page * FuzzMemory.pageBytes), at: offset + 8)
      store(UInt64(pages * FuzzMemory.pageBytes), at: offset + 16)
      store(RecordHeader(kind: .link, byteCount: 16).rawValue, at: offset)
      segment = (page, pages * FuzzMemory.pageBytes)
      offset = 0
    }
  }

  private struct Victim: ~Copyable {
    let memory: ChannelMemory
    var consumer: RingConsumer
    var assembler = MessageAssembler()
    var isOver = false
    private var lastPosition: UInt64 = 0

    init(memory: ChannelMemory) {
      self.memory = memory
      consumer = RingConsumer(memory: memory, lane: 0)
    }

    var place: LanePosition { consumer.lanePosition }

    /// The pointers are where they may be, and nothing is read twice.
    mutating func checkPlace() {
      let place = consumer.lanePosition
      demand(place.cursorOffset % 8 == 0 && place.cursorOffset <= place.capacity - 8, "cursor at \(place)")
      let region = RingLayout.regionOffset(lane: 0)
      let isInitial = place.segmentOffset == 0 && place.capacity == UInt64(memory.laneCapacity)
      let isInRegion =
        place.segmentOffset >= region && place.segmentOffset - region + place.capacity <= UInt64(FuzzMemory.regionBytes)
      demand(isInitial || isInRegion, "\(place)")
      demand(place.position >= lastPosition, "from \(lastPosition) back to \(place)")
      lastPosition = place.position
    }

    mutating func take() {
      for _ in 0..<64 {
        switch consumer.next() {
        case .empty: return
        case .blocked(let error): fatalError("\(error)")
        case .violation: return isOver = true
        case .record(let record) where record.kind == .message:
          consumer.withPayload(of: record) { read($0, record.byteCount) }
          consumer.consume(record)
        case .record(let record):
          let progress = consumer.withPayload(of: record) { bytes in
            read(bytes, record.byteCount)
            return assembler.add(record.kind, bytes, limitBytes: messageLimit)
          }
          consumer.consume(record)
          switch progress {
          case .complete(let bytes):
            demand(bytes.byteCount <= messageLimit, "\(bytes.byteCount) bytes")
            bytes.withBytes { read($0, bytes.byteCount) }
          case .violation: return isOver = true
          case .incomplete, .refused: break
          }
        }
      }
    }

    mutating func look() {
      if case .violation = consumer.next() { isOver = true }
      _ = (consumer.isEmpty, consumer.waitingBytes, consumer.wasClosedByProducer)
    }

    mutating func tryRead() { _ = consumer.tryRead { read($0, $0.byteCount) } }
    mutating func tryTakeRun(_ messageBytes: Int, limit: Int) {
      let target = UnsafeMutableRawBufferPointer.allocate(byteCount: limit * messageBytes, alignment: 8)
      defer { unsafe target.deallocate() }
      guard let start = target.baseAddress else { return }
      let taken = unsafe consumer.tryTakeRun(into: start, messageBytes: messageBytes, limit: limit)
      precondition(taken >= 0 && taken <= limit)
    }

    mutating func tryTake(_ takes: Bool) {
      _ = consumer.tryTake { bytes in
        read(bytes, bytes.byteCount)
        return takes
      }
    }

    mutating func sleep(_ doorbell: UInt8) {
      _ = consumer.prepareToSleep(UInt32(doorbell % 4))
      consumer.stayAwake()
      if doorbell & 4 != 0 { consumer.startPolling() }
    }

    mutating func release() {
      consumer.release()
      consumer.wakeProducer()
      _ = consumer.takeOwedSignal()
      demand(!consumer.hasUnreleased, "released")
    }

    /// Moves to another process with what has been assembled.
    mutating func resume() -> Bool {
      consumer.release()
      let place = consumer.lanePosition
      do {
        consumer = try RingConsumer.resume(memory: memory, lane: 0, at: place)
      } catch {
        fatalError("cannot go on at \(place): \(error)")
      }
      demand(consumer.lanePosition == place, "\(place) became \(consumer.lanePosition)")
      if let (bytes, filled) = assembler.partial {
        demand(filled < bytes.byteCount, "\(filled) of \(bytes.byteCount)")
        assembler = MessageAssembler()
        assembler.resume(bytes, filled: filled)
      }
      return true
    }
  }
}

/// Touches every byte, as a reader does.
private func read(_ bytes: RawSpan, _ byteCount: Int) {
  demand(bytes.byteCount == byteCount, "\(bytes.byteCount) instead of \(byteCount)")
  blackHole(unsafe bytes.withUnsafeBytes { unsafe $0.reduce(0, &+) })
}

/// Uses a value, so that it must be computed.
@inline(never)
func blackHole(_ value: UInt8) {}

extension LaneFuzz {
  static var seeds: [[UInt8]] {
    func step(_ step: Step) -> Int { step.rawValue }
    func record(_ w: inout SeedWriter, _ kind: RecordHeader.Kind, _ byteCount: Int, first: UInt64 = 0) {
      w.byte(step(.record))
      w.byte(kind.rawValue)
      w.half(byteCount)
      w.byte(0)
      for index in 0..<(min(byteCount, 256) + 7) / 8 { w.word(index == 0 ? first : UInt64(index)) }
    }
    return [
      SeedWriter.make { w in
        for size in [0, 1, 8, 100, 300] {
          record(&w, .message, size)
          for reader in [Step.tryRead, .tryTake, .take, .next] { w.byte(step(reader)) }
        }
        for _ in 0..<3 {
          record(&w, .message, 300)
          w.byte(step(.take))
        }
        w.byte(step(.pad))
        record(&w, .message, 8)
        w.byte(step(.take))
        w.byte(step(.release))
      },
      SeedWriter.make { w in
        record(&w, .firstFragment, 64, first: 200)
        w.byte(step(.take))
        record(&w, .middleFragment, 64)
        w.byte(step(.take))
        w.byte(step(.resume))
        record(&w, .lastFragment, 80)
        w.byte(step(.take))
        record(&w, .firstFragment, 64, first: 200)
        record(&w, .abort, 0)
        w.byte(step(.sleep))
        w.byte(1)
        w.byte(step(.take))
      },
      SeedWriter.make { w in
        for page in 0..<4 {
          record(&w, .message, 40)
          w.byte(step(.link))
          w.byte(page * 2)
          w.byte(1)
          record(&w, .message, 200)
          w.byte(step(.take))
          w.byte(step(.resume))
        }
      },
    ]
  }
}

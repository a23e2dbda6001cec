import CSupport

/// What a consumer finds at its cursor.
package enum RingStep {
  /// Nothing, for now.
  case empty
  /// A record with something in it; it stays until ``RingConsumer/consume(_:)``.
  case record(RingRecord)
  /// The peer broke the format; the lane must not be read any further.
  case violation(String)
  /// The next segment could not be mapped because resources ran out; try again later.
  case blocked(SystemError)
}

/// A record whose header was fetched once and checked.
package struct RingRecord {
  package let header: RecordHeader
  package let kind: RecordHeader.Kind
  /// The run whose first message this is.
  var run: RunHeader? = nil
  package var byteCount: Int { header.byteCount }
  package var cargo: CargoCount { header.cargo }
}

extension RingConsumer {
  /// Finds the next message or fragment, following pads and links on the way.
  package mutating func next() -> RingStep {
    // A correct lane has at most a pad and a link before a record; a malicious one must not keep us here.
    for _ in 0..<8 {
      let header = RecordHeader(rawValue: unsafe RecordHeader.load(at: cursor))
      if header.rawValue == 0 { return .empty }
      guard let kind = header.kind else { return .violation("unknown record \(header.rawValue)") }
      let room = unsafe segment.room(from: cursor)
      switch kind {
      case .message, .firstFragment, .middleFragment, .lastFragment, .abort, .withdrawal:
        guard RecordHeader.recordBytes(payloadBytes: header.byteCount) <= room - RecordHeader.byteCount else {
          return .violation("record of \(header.byteCount) bytes beyond its segment")
        }
        return .record(RingRecord(header: header, kind: kind))
      case .run:
        guard let run = RunHeader(header) else {
          return .violation("run of \(header.byteCount) bytes in messages of \(8 * header.unitsPerMessage)")
        }
        guard run.isInside(self) else { return .violation("run of \(run.byteCount) bytes beyond its segment") }
        let first = RecordHeader(kind: .message, byteCount: run.messageBytes)
        return .record(RingRecord(header: first, kind: .message, run: run))
      case .pad:
        guard header.byteCount == room - RecordHeader.byteCount else { return .violation("pad of a wrong size") }
        unsafe cursor = unsafe segment.startLap()
        unsafe releaseAt = unsafe segment.start  // the next advance tells the producer of the lap
      case .link:
        guard header.byteCount == 16, RecordHeader.recordBytes(payloadBytes: 16) <= room else {
          return .violation("link of a wrong size")
        }
        if let step = follow() { return step }
      }
    }
    return .violation("pads and links without end")
  }

  /// What is there behind a record.
  package enum Follower {
    case nothing
    case withdrawal
    /// More of the lane: the producer was done with the record.
    case other
  }

  /// What follows the record at the cursor, which ``next()`` has found. It stays where it is.
  package borrowing func follower(of record: RingRecord) -> Follower {
    // There is room for this header: `next()` saw to it.
    let place = unsafe cursor + RecordHeader.recordBytes(payloadBytes: record.byteCount)
    var header = RecordHeader(rawValue: unsafe RecordHeader.load(at: place))
    // Where the lap ends right behind the record, a withdrawal lies at the start of the next.
    let room = unsafe segment.room(from: place)
    if header.kind == .pad, header.byteCount == room - RecordHeader.byteCount {
      header = RecordHeader(rawValue: unsafe RecordHeader.load(at: segment.start))
    }
    if header.rawValue == 0 { return .nothing }
    return header == .withdrawn ? .withdrawal : .other
  }

  /// Whether the record at the cursor announces a packet.
  package var announcesPacket: Bool { RecordHeader(rawValue: unsafe RecordHeader.load(at: cursor)).announcesPacket }

  /// How many bytes of records the producer said it has posted and this side has not read. For inspection: the producer
  /// may lag, and may lie.
  package var waitingBytes: Int {
    guard isAttached else { return 0 }
    return Int(clamping: Int64(bitPattern: words.loadPosted() &- position)).clampedToNonNegative
  }

  /// Reads the payload of a record that ``next()`` found. The bytes lie in memory that the peer can change.
  package borrowing func withPayload<Result, Failure: Error>(
    of record: RingRecord, _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    let payload = unsafe UnsafeRawBufferPointer(start: cursor + RecordHeader.byteCount, count: record.byteCount)
    return try unsafe body(payload.bytes)
  }

  /// Goes past a record that ``next()`` found.
  package mutating func consume(_ record: RingRecord) {
    if let run = record.run { return goPast(record.byteCount, of: run) }
    advance(by: RecordHeader.recordBytes(payloadBytes: record.byteCount))
  }

  /// Goes on in the segment that the link at the cursor names, and gives the old one's memory back. Returns why it
  /// could not, if so.
  private mutating func follow() -> RingStep? {
    guard let memory else { return .violation("link in nothing") }
    let place = Segment.Place(offset: unsafe Self.loadOnce(cursor + 8), capacity: unsafe Self.loadOnce(cursor + 16))
    let next: Segment
    do throws(Segment.Refusal) {
      let position = self.position &+ UInt64(RecordHeader.recordBytes(payloadBytes: 16))
      next = try Segment(at: place, of: memory, lane: laneIndex, lapPosition: position)
    } catch {
      switch error {
      case .outsideRegion: return .violation("link to \(place.capacity) bytes at \(place.offset)")
      case .beyondFile: return .violation("link beyond the end of the file")
      case .system(let error): return error.mayPass ? .blocked(error) : .violation("link to memory: \(error)")
      }
    }
    crashPoint(.linkMapped)
    let old = (isInitial: segment.isInitial, offset: segment.offset, capacity: capacity)
    segment = next
    unsafe cursor = unsafe segment.start
    unsafe emptyCursor = unsafe segment.start
    if !old.isInitial { _ = csupport_memory_discard_elsewhere(memory.fd, old.offset, UInt64(old.capacity)) }
    noteLink(leaving: old.capacity, to: capacity)
    release()
    crashPoint(.linkFollowed)
    return nil
  }

  /// Reads a word that the peer may be changing, once.
  @unsafe private static func loadOnce(_ address: UnsafeMutableRawPointer) -> UInt64 {
    unsafe RecordHeader.load(at: address)
  }
}

extension Int {
  fileprivate var clampedToNonNegative: Int { Swift.max(0, self) }
}

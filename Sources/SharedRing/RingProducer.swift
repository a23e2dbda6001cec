public import CSupport

/// The write side of one lane. One thread at a time; nothing here blocks, and only growing enters the kernel.
///
/// The hot path, ``tryWrite(_:)``, touches the ring and this value and nothing else. A producer that is not attached to
/// a lane has no room, so that "nothing attached", "full" and "must wrap" are one comparison away from the hot path.
@safe  // The pointers stay inside `segment`, a mapping that it or `memory` keeps.
@usableFromInline package struct RingProducer: ~Copyable, @unchecked Sendable {  // owned by one thread at a time
  /// Where the next header goes. Always a multiple of eight from the segment's start, with room for a header before its end.
  @usableFromInline var cursor: UnsafeMutableRawPointer
  /// A record may be written if it, and the header behind it, end at or before this.
  @usableFromInline var limit: UnsafeMutableRawPointer
  @usableFromInline var segment: Segment
  @usableFromInline var words: SharedWords
  /// The lane position at which this segment began: the consumer is not in it before it released that much.
  var segmentPosition: UInt64
  /// The last released position seen: it never goes back.
  var seenReleased: UInt64
  /// Of a batch being written: where its first header goes, and what it will be. Nobody sees the batch before.
  @usableFromInline var withheldAddress: UnsafeMutableRawPointer?
  @usableFromInline var withheldHeader: RecordHeader
  @usableFromInline package var isBatching: Bool
  /// The peer released what was never written; set once, and then there is never any room again.
  package private(set) var isCorrupt: Bool
  /// This process answers `membarrier`, so a polling consumer needs no fence from it.
  @usableFromInline package var isRegisteredForMembarrier: Bool

  package let laneIndex: Int
  package let memory: ChannelMemory?

  /// A producer attached to nothing: it never has room.
  package init() {
    unsafe self.init(
      segment: Segment(start: SharedWords.nowhere, capacity: 0), words: SharedWords(base: SharedWords.nowhere), lane: 0,
      memory: nil)
  }

  /// The producer of a lane in which nothing has been written yet.
  package init(memory: ChannelMemory, lane: Int) {
    self.init(
      segment: Segment(initialOf: memory, lane: lane), words: memory.words(lane: lane), lane: lane, memory: memory)
    recomputeLimit(released: 0)
  }

  private init(segment: consuming Segment, words: SharedWords, lane: Int, memory: ChannelMemory?) {
    unsafe cursor = unsafe segment.start
    unsafe limit = unsafe segment.start
    self.segment = segment
    self.words = words
    segmentPosition = 0
    seenReleased = 0
    unsafe withheldAddress = nil
    withheldHeader = RecordHeader(rawValue: 0)
    isBatching = false
    isCorrupt = false
    isRegisteredForMembarrier = false
    laneIndex = lane
    self.memory = memory
  }

  package var isAttached: Bool { memory != nil }
  @inlinable package var capacity: Int { segment.capacity }
  /// The lane position of the next record.
  @inlinable package var position: UInt64 { unsafe segment.position(of: cursor) }

  /// The largest message that ``tryWrite(_:)`` ever takes: with a quarter of the ring, there is always a way to fit it
  /// in once the consumer has caught up, wherever the wrap happens to be.
  @inlinable package var largestRecordPayload: Int { max(0, capacity / 4 - RecordHeader.byteCount) }
}

// MARK: - Hot path

extension RingProducer {
  /// Writes one message, or says that there is no room for it now.
  @inlinable @inline(__always)
  package mutating func tryWrite(_ bytes: RawSpan) -> Bool {
    guard hasRoom(payloadBytes: bytes.byteCount) else { return false }
    let header = RecordHeader(kind: .message, byteCount: bytes.byteCount)
    unsafe bytes.withUnsafeBytes { source in
      unsafe fill(payloadBytes: source.count) { target in
        if let from = source.baseAddress { unsafe csupport_copy(target, from, source.count) }
      }
    }
    publish(header)
    return true
  }

  /// Makes sure that a record of so many bytes can be written at `cursor`.
  @inlinable @inline(__always)
  package mutating func hasRoom(payloadBytes: Int) -> Bool {
    let needed = RecordHeader.recordBytes(payloadBytes: payloadBytes) &+ RecordHeader.byteCount
    if unsafe needed <= limit - cursor { return true }
    return makeRoom(payloadBytes: payloadBytes)
  }

  /// Lets `body` write the payload of the record at `cursor`. Before: ``hasRoom(payloadBytes:)`` said yes to as much.
  /// Nothing is visible to the consumer before ``publish(_:)``.
  @inlinable @inline(__always)
  package mutating func fill<Failure: Error>(
    payloadBytes: Int, _ body: (UnsafeMutableRawPointer) throws(Failure) -> Void
  ) throws(Failure) {
    try unsafe body(cursor + RecordHeader.byteCount)
  }

  /// Commits the record at `cursor`: writes "not yet" behind it, then its header.
  @inlinable @inline(__always)
  package mutating func publish(_ header: RecordHeader) {
    let next = unsafe cursor + RecordHeader.recordBytes(payloadBytes: header.byteCount)
    crashPoint(.postWritten)
    unsafe RecordHeader.terminate(at: next)
    crashPoint(.postTerminated)
    if isBatching { unsafe withhold(header, at: cursor) } else { unsafe header.commit(at: cursor) }
    crashPoint(.postCommitted)
    unsafe cursor = next
  }

  /// Part of a batch: the first header waits for ``endBatch()``, the others lie behind it and cannot be seen before.
  @inlinable @inline(__always)
  mutating func withhold(_ header: RecordHeader, at address: UnsafeMutableRawPointer) {
    if unsafe withheldAddress == nil {
      unsafe withheldAddress = unsafe address
      withheldHeader = header
    } else {
      unsafe header.store(at: address)
    }
  }

  /// From here to ``endBatch()``, records are written but not published.
  @inlinable package mutating func beginBatch() { isBatching = true }

  /// Publishes all records of the batch at once, by committing the first header last. Says whether there were any.
  @inlinable @discardableResult
  package mutating func endBatch() -> Bool {
    isBatching = false
    guard let address = unsafe withheldAddress.take() else { return false }
    unsafe withheldHeader.commit(at: address)
    crashPoint(.batchCommitted)
    return true
  }
}

// MARK: - Room

extension RingProducer {
  /// Looks at what the consumer has released, and wraps if that helps. Not inlined: the hot path comes here once a lap.
  @usableFromInline @inline(never)
  package mutating func makeRoom(payloadBytes: Int) -> Bool {
    guard isAttached, payloadBytes <= largestRecordPayload, !isCorrupt else { return false }
    let needed = RecordHeader.recordBytes(payloadBytes: payloadBytes) &+ RecordHeader.byteCount
    guard let released = loadReleasedChecked() else { return false }
    recomputeLimit(released: released)
    if unsafe needed <= limit - cursor { return true }
    // It may fit at the start, if what is left here is given up.
    let left = unsafe segment.room(from: cursor)
    guard needed > left, freeBytes(released: released) >= left + needed else { return false }
    wrap()
    recomputeLimit(released: released)
    return unsafe needed <= limit - cursor
  }

  /// The released position, if it is one that a correct consumer can have reached.
  mutating func loadReleasedChecked() -> UInt64? {
    let released = words.loadReleased()
    guard released >= seenReleased, released <= position else {
      isCorrupt = true
      return nil
    }
    seenReleased = released
    return released
  }

  /// How many bytes may be written from `cursor` on, around the wrap, leaving the reserve.
  func freeBytes(released: UInt64) -> Int {
    let oldest = max(released, segmentPosition)
    return capacity - RingLayout.reservedBytes - Int(truncatingIfNeeded: position &- oldest)
  }

  mutating func recomputeLimit(released: UInt64) {
    let free = freeBytes(released: released)
    unsafe limit = unsafe free <= 0 ? cursor : cursor + min(free, segment.room(from: cursor))
  }

  /// Gives up what is left of this lap, and begins the next. There must be free space there for a header.
  mutating func wrap() {
    let pad = RecordHeader(kind: .pad, byteCount: unsafe segment.room(from: cursor) - RecordHeader.byteCount)
    unsafe RecordHeader.terminate(at: segment.start)
    if isBatching { unsafe withhold(pad, at: cursor) } else { unsafe pad.commit(at: cursor) }
    crashPoint(.wrapped)
    unsafe cursor = unsafe segment.startLap()
  }

  /// How many bytes of records the consumer has not released yet.
  package mutating func unreleasedBytes() -> Int {
    guard let released = loadReleasedChecked() else { return 0 }
    return Int(truncatingIfNeeded: position &- released)
  }

  /// Tells inspectors how much was posted.
  package func publishPosition() { words.storePosted(position) }
}

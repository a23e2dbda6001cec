public import CSupport

/// The write side of one lane. One thread at a time; nothing here blocks, and only growing enters the kernel.
///
/// The hot path, ``tryWrite(_:)``, touches nothing but the ring and this value. A producer that is not attached to a
/// lane has no room, so one comparison keeps "not attached", "full" and "must wrap" out of the hot path.
@safe  // The pointers stay inside `segment`, a mapping that it or `memory` keeps.
@usableFromInline package struct RingProducer: ~Copyable, @unchecked Sendable {  // owned by one thread at a time
  /// Where the next header goes. Always a multiple of eight from the segment's start, with room for a header before its
  /// end.
  @usableFromInline var cursor: UnsafeMutableRawPointer
  /// A record fits if the header behind it ends at or before this.
  @usableFromInline var limit: UnsafeMutableRawPointer
  @usableFromInline var segment: Segment
  @usableFromInline var words: SharedWords
  /// The lane position at which this segment began: the consumer is not in it before it has released that much.
  var segmentPosition: UInt64
  /// The last released position seen: it never goes back.
  var seenReleased: UInt64
  /// While a batch is written: where its first header goes, and what it will be. Until then nobody sees the batch.
  @usableFromInline var withheldAddress: UnsafeMutableRawPointer?
  @usableFromInline var withheldHeader: RecordHeader
  @usableFromInline package var isBatching: Bool
  /// The peer released what was never written. Stays set, and there is never any room again.
  package private(set) var isCorrupt: Bool
  /// Nobody will ever read what is written. Stays set, and there is never any room again.
  private var isAbandoned: Bool
  /// This process answers `membarrier`, so a polling consumer needs no fence from it.
  @usableFromInline package var isRegisteredForMembarrier: Bool

  /// What this side last said in its doorbell.
  package internal(set) var announced: UInt32

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
    isAbandoned = false
    isRegisteredForMembarrier = false
    announced = Doorbell.awake
    laneIndex = lane
    self.memory = memory
  }

  package var isAttached: Bool { memory != nil }
  @inlinable package var capacity: Int { segment.capacity }
  /// The lane position of the next record.
  @inlinable package var position: UInt64 { unsafe segment.position(of: cursor) }

  /// The largest message that ``tryWrite(_:)`` ever takes: a quarter of the ring fits once the consumer has caught up,
  /// wherever the wrap happens to be.
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

  /// Whether a record with this payload can be written at `cursor`. Looks for room if it seems not.
  @inlinable @inline(__always)
  package mutating func hasRoom(payloadBytes: Int) -> Bool {
    let needed = RecordHeader.recordBytes(payloadBytes: payloadBytes) &+ RecordHeader.byteCount
    if unsafe needed <= limit - cursor { return true }
    return makeRoom(payloadBytes: payloadBytes)
  }

  /// Lets `body` write the payload of the record at `cursor`, for which ``hasRoom(payloadBytes:)`` has found room. The
  /// consumer sees nothing before ``publish(_:)``.
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

  /// Within a batch: the first header waits for ``endBatch()``; the others lie behind it and cannot be seen before.
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

  /// Publishes all records of the batch at once, by committing the first header last. Returns whether there were any.
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
  /// Looks at what the consumer has released, and wraps if that helps. Not inlined: the hot path comes here once per
  /// lap.
  @usableFromInline @inline(never)
  package mutating func makeRoom(payloadBytes: Int) -> Bool {
    guard isAttached, payloadBytes <= largestRecordPayload, !isCorrupt, !isAbandoned else { return false }
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

  /// The released position, if a correct consumer can have reached it.
  mutating func loadReleasedChecked() -> UInt64? {
    let released = words.loadReleased()
    guard released >= seenReleased, released <= position else {
      isCorrupt = true
      return nil
    }
    seenReleased = released
    return released
  }

  /// How many bytes may be written from `cursor` on, beyond the wrap as well, not counting the reserve.
  func freeBytes(released: UInt64) -> Int {
    let oldest = max(released, segmentPosition)
    return capacity - RingLayout.reservedBytes - Int(truncatingIfNeeded: position &- oldest)
  }

  mutating func recomputeLimit(released: UInt64) {
    let free = freeBytes(released: released)
    unsafe limit = unsafe free <= 0 ? cursor : cursor + min(free, segment.room(from: cursor))
  }

  /// Gives up the rest of this lap, and begins the next, where there must be room for a header.
  mutating func wrap() {
    let pad = RecordHeader(kind: .pad, byteCount: unsafe segment.room(from: cursor) - RecordHeader.byteCount)
    unsafe RecordHeader.terminate(at: segment.start)
    if isBatching { unsafe withhold(pad, at: cursor) } else { unsafe pad.commit(at: cursor) }
    crashPoint(.wrapped)
    unsafe cursor = unsafe segment.startLap()
  }

  /// How many bytes of records the consumer has yet to release.
  package mutating func unreleasedBytes() -> Int {
    guard let released = loadReleasedChecked() else { return 0 }
    return Int(truncatingIfNeeded: position &- released)
  }

  /// The lane position up to which the consumer has released what it has read.
  package mutating func releasedPosition() -> UInt64 { position &- UInt64(unreleasedBytes()) }

  /// There is no reader any more: from now on there is no room, and the memory of what waits, but for the initial data, goes
  /// back to the system, elsewhere if it takes long. The lane's other end may be anything by now: it loses nothing.
  package mutating func abandon() {
    abandonUnread()
    if let memory, !segment.isInitial {
      _ = csupport_memory_discard_elsewhere(
        memory.fd, RingLayout.regionOffset(lane: laneIndex), RingLayout.regionBytes)
    }
  }

  /// There is no reader, and nothing to give back: from now on there is no room.
  package mutating func abandonUnread() {
    isAbandoned = true
    unsafe limit = unsafe cursor
  }

  /// Tells inspectors how much was posted.
  package func publishPosition() { words.storePosted(position) }
}

import CSupport

/// The read side of one lane. One thread at a time; nothing here blocks.
///
/// It distrusts everything it reads: each header is fetched once, checked against the segment's bounds, and only then
/// used. A record that cannot be right finishes the lane (``RingStep/violation(_:)``), and nothing else happens.
@safe  // The pointers stay inside `segment`, a mapping that it or `memory` keeps.
@usableFromInline package struct RingConsumer: ~Copyable, @unchecked Sendable {  // owned by one thread at a time
  /// The next header. Always a multiple of eight from the segment's start, with room for a header before its end.
  @usableFromInline var cursor: UnsafeMutableRawPointer
  @usableFromInline var segment: Segment
  /// How much is read before the producer is told: an eighth of the ring unless this is less.
  package var releaseStride: Int
  /// The cursor passes this when that much was read. The segment's start until something of this lap was read.
  @usableFromInline var releaseAt: UnsafeMutableRawPointer
  @usableFromInline var words: SharedWords
  /// Where the cursor was when the ring was last found empty, or reading began.
  @usableFromInline var emptyCursor: UnsafeMutableRawPointer
  /// The position that the producer was told.
  var released: UInt64
  /// Something is to be done off the hot path, which looks here only: what ``takeOwedSignal()`` says, or whatever the owner
  /// has set it for.
  @usableFromInline package var hasErrand: Bool
  /// The producer was found asleep on its socket when something was released.
  var owesSignal: Bool

  /// What was done to follow links, as if so many bytes had been read; see ``takeCostOfLinks()``.
  private var costOfLinks: Int

  /// What this side last said in its doorbell.
  package internal(set) var announced: UInt32

  package let laneIndex: Int
  package let memory: ChannelMemory?

  /// A consumer attached to nothing: it is always empty.
  package init() {
    unsafe self.init(
      segment: Segment(start: Self.emptyHeader, capacity: 16), words: SharedWords(base: SharedWords.nowhere), lane: 0,
      memory: nil)
  }

  /// The consumer of a lane from which nothing has been read yet.
  package init(memory: ChannelMemory, lane: Int) {
    self.init(
      segment: Segment(initialOf: memory, lane: lane), words: memory.words(lane: lane), lane: lane, memory: memory)
  }

  private init(segment: consuming Segment, words: SharedWords, lane: Int, memory: ChannelMemory?) {
    unsafe cursor = unsafe segment.start
    releaseStride = .max
    unsafe releaseAt = unsafe segment.start + segment.capacity / 8
    unsafe emptyCursor = unsafe segment.start
    self.segment = segment
    self.words = words
    released = 0
    owesSignal = false
    hasErrand = false
    costOfLinks = 0
    announced = Doorbell.awake
    laneIndex = lane
    self.memory = memory
  }

  /// Sixteen zero bytes, never written: "not yet", for ever.
  @unsafe private nonisolated(unsafe) static let emptyHeader: UnsafeMutableRawPointer = {
    let bytes = UnsafeMutableRawPointer.allocate(byteCount: 16, alignment: 8)
    unsafe bytes.initializeMemory(as: UInt64.self, repeating: 0, count: 2)
    return unsafe bytes
  }()

  package var isAttached: Bool { memory != nil }
  @inlinable package var capacity: Int { segment.capacity }
  /// The lane position of the next record.
  @inlinable package var position: UInt64 { unsafe segment.position(of: cursor) }
}

// MARK: - Hot path

extension RingConsumer {
  /// Whether no record waits.
  @inlinable @inline(__always)
  package var isEmpty: Bool { unsafe RecordHeader.load(at: cursor) == 0 }

  /// Whether nothing was read since ``letProducerGetAhead()``.
  @inlinable @inline(__always)
  package var hasReadNothing: Bool { unsafe cursor == emptyCursor }

  /// The ring has run empty after something was read.
  ///
  /// Right behind a producer, a consumer looks for the next header in the very cache line that is being written, and
  /// each look takes that line away from the producer: both go at half their speed. So after several messages in a row,
  /// this looks away for a small part of the time that reading them took, and finds more the next time. After a single
  /// message, which may be the answer in a conversation, it does not.
  package mutating func letProducerGetAhead() {
    let first = RecordHeader(rawValue: unsafe RecordHeader.load(at: emptyCursor))
    let run = unsafe cursor - emptyCursor
    unsafe emptyCursor = cursor
    guard run > RecordHeader.recordBytes(payloadBytes: first.byteCount) else { return }
    for _ in 0..<min(run / 512, 16) { csupport_cpu_relax() }
  }

  /// Hands the next message to `body`, if it is a whole message without ports, and goes past it.
  ///
  /// - Returns: what `body` returned; `nil` if there is no such message now: ``next()`` says what there is.
  ///
  /// The span lies in memory that the peer can change at any time. Read each byte once, or copy first.
  @inlinable @inline(__always)
  package mutating func tryRead<Result, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    let header = unsafe RecordHeader.load(at: cursor)
    guard header >> 32 == RecordHeader.plainMessage else { return nil }
    let payloadBytes = Int(truncatingIfNeeded: header & 0xffff_ffff)
    let next = RecordHeader.recordBytes(payloadBytes: payloadBytes)
    guard unsafe next <= segment.room(from: cursor) &- RecordHeader.byteCount else { return nil }
    defer { advance(by: next) }
    let payload = unsafe UnsafeRawBufferPointer(start: cursor + RecordHeader.byteCount, count: payloadBytes)
    return try unsafe body(payload.bytes)
  }

  /// As ``tryRead(_:)``, but the message stays where it is if `body` returns `false`.
  @inlinable @inline(__always)
  package mutating func tryTake(_ body: (RawSpan) -> Bool) -> Bool {
    let header = unsafe RecordHeader.load(at: cursor)
    guard header >> 32 == RecordHeader.plainMessage else { return false }
    let payloadBytes = Int(truncatingIfNeeded: header & 0xffff_ffff)
    let next = RecordHeader.recordBytes(payloadBytes: payloadBytes)
    guard unsafe next <= segment.room(from: cursor) &- RecordHeader.byteCount else { return false }
    let payload = unsafe UnsafeRawBufferPointer(start: cursor + RecordHeader.byteCount, count: payloadBytes)
    guard unsafe body(payload.bytes) else { return false }
    advance(by: next)
    return true
  }

  /// Goes past the record at the cursor, and tells the producer once enough was read.
  @inlinable @inline(__always)
  mutating func advance(by recordBytes: Int) {
    unsafe cursor += recordBytes
    if unsafe cursor >= releaseAt { releaseRead() }
  }

  /// Off the hot path, once per eighth of the ring, and after the first record of a lap.
  ///
  /// That record's header is cleared, so that reading stops there even if the records lead back to the ring's start:
  /// what a dead producer left behind is not read for ever. Until a producer is told that the record was read, it has
  /// no business there.
  @usableFromInline @inline(never)
  mutating func releaseRead() {
    if unsafe releaseAt == segment.start { unsafe RecordHeader.terminate(at: segment.start) }
    release()
  }
}

// MARK: - Release

extension RingConsumer {
  /// Gives what was read back to the producer, and wakes a producer that waits for it.
  ///
  /// One that sleeps on its socket cannot be woken from here: then ``takeOwedSignal()`` says so.
  package mutating func release() {
    let position = self.position
    setReleasePoint()
    guard isAttached, position != released else { return }
    released = position
    words.storeReleased(position)
    crashPoint(.released)
    // [space-sleep] Our release before our look; pairs with the fence in `RingProducer.prepareToSleep`.
    csupport_store_load_fence()
    wakeProducer()
  }

  mutating func setReleasePoint() {
    unsafe releaseAt = unsafe min(cursor + min(max(capacity / 8, 8), releaseStride), segment.end)
  }

  /// A link costs whoever reads more than other records of its size: a mapping comes, another goes, and its memory is given
  /// back. Returns how much it was since this was last called.
  package mutating func takeCostOfLinks() -> Int {
    defer { costOfLinks = 0 }
    return costOfLinks
  }

  mutating func noteLink(leaving capacity: Int, to next: Int) {
    costOfLinks += (64 << 10) + capacity / 4
    // All pages of the new one are mapped at once, where that is wanted.
    if next <= RingLayout.residentSegmentBytes, memory?.residency ?? .onDemand > .onDemand { costOfLinks += next }
  }

  /// Whether something was read that the producer has not been told of.
  package var hasUnreleased: Bool { position != released }
}

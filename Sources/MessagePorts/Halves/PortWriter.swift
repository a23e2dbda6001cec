public import SharedRing

/// The writing half of a port: for the hot path of a latency-sensitive program.
///
/// One thread at a time. While the reader is awake, writing takes no lock, no allocation, no reference counting and no
/// system call. Unlike a port, a writer does not grow the ring: if it is full, it says so.
///
/// Get one with ``MessagePort/split()`` and ``PortHalves/takeWriter()``, from a channel whose ``ChannelOptions/laneCapacityBytes`` fits the traffic.
public struct PortWriter: ~Copyable, Sendable {
  @usableFromInline let end: SplitEnd
  @usableFromInline var producer: RingProducer
  private var learnedSpin = Spin.first

  init(_ end: SplitEnd, _ producer: consuming RingProducer) {
    self.end = end
    self.producer = producer
  }

  /// What the ring holds, in bytes; each message takes eight more than its size, rounded up to eight.
  public var capacityBytes: Int { producer.capacity }

  /// The largest message that can be written: a quarter of the ring, so that it fits wherever the wrap happens to be.
  public var maximumMessageBytes: Int { producer.largestRecordPayload }

  /// Writes one message, of 0 to ``maximumMessageBytes`` bytes, copied before this returns.
  ///
  /// - Returns: `false` if the ring is full now; nothing was taken.
  /// - Throws: ``PortError/messageTooLarge(byteCount:limit:)``; ``PortError/peerClosed(_:)`` once it is known that
  ///   nobody reads any more; ``PortError/closed`` in a process that was forked off after the split. Nothing has changed.
  /// - Complexity: O(bytes); one system call if the reader sleeps, none otherwise. Never blocks.
  @inlinable @inline(__always)
  public mutating func tryWrite(_ bytes: RawSpan) throws(PortError) -> Bool {
    guard try put(bytes) else { return false }
    try wakeReaderIfAsleep()
    return true
  }

  /// Writes one plain value; see ``tryWrite(_:)``.
  @inlinable @inline(__always)
  public mutating func tryWrite<Value: PlainValue>(bitwise value: Value) throws(PortError) -> Bool {
    _ = Value.layout
    return try unsafe tryWrite(unsafeBitwise: value)
  }

  /// Writes one value of any type that is copied bit by bit.
  ///
  /// Unsafe: padding is written with it, whatever of this process's memory is there. Otherwise as ``tryWrite(bitwise:)``.
  @inlinable @inline(__always)
  @unsafe
  public mutating func tryWrite<Value: BitwiseCopyable>(unsafeBitwise value: Value) throws(PortError) -> Bool {
    guard try unsafe put(unsafeBitwise: value) else { return false }
    try wakeReaderIfAsleep()
    return true
  }

  /// Reserves room for a message in the ring, lets `fill` write it there, and commits it, without a copy.
  ///
  /// The message is as long as what `fill` has written. If `fill` throws, nothing is written. Otherwise as
  /// ``tryWrite(_:)``.
  @inlinable @inline(__always)
  public mutating func tryReserve(
    byteCount: Int, _ fill: (inout OutputRawSpan) throws(PortError) -> Void
  ) throws(PortError) -> Bool {
    guard try put(byteCount: byteCount, fill) else { return false }
    try wakeReaderIfAsleep()
    return true
  }

  /// Waits until a message of `byteCount` bytes fits.
  ///
  /// - Parameters:
  ///   - byteCount: 0 to ``maximumMessageBytes``.
  ///   - timeout: how long to wait at most; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``, ``PortError/messageTooLarge(byteCount:limit:)``, ``PortError/peerClosed(_:)``.
  public mutating func waitForSpace(byteCount: Int, timeout: Duration? = nil) throws(PortError) {
    guard byteCount >= 0, byteCount <= maximumMessageBytes else {
      throw .messageTooLarge(byteCount: byteCount, limit: maximumMessageBytes)
    }
    try end.checkProcess()
    let deadline = Deadline.after(timeout)
    if producer.hasRoom(payloadBytes: byteCount) { return }
    var spin = Spin(end.options.spinPolicy, learned: learnedSpin)
    while true {
      let goesOn = spin.goesOn()
      if producer.hasRoom(payloadBytes: byteCount) { break }
      try refuse(byteCount: byteCount)
      if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
      if !goesOn { sleep(untilRoomFor: byteCount, deadline) } else if spin.isVisitDue() { _ = end.listen() }
    }
    if let learned = spin.ended() { learnedSpin = learned }
  }

  /// Sleeps until there may be room, or nobody will ever read.
  private mutating func sleep(untilRoomFor byteCount: Int, _ deadline: ContinuousClock.Instant?) {
    let ticket = end.privateWord.ticket
    let limit = end.listen()
    let maySleep = producer.prepareToSleep(Doorbell.asleepOnFutex) { $0.hasRoom(payloadBytes: byteCount) }
    // After the ticket: what is not seen here ends the sleep.
    guard maySleep, !end.isPeerGone else { return producer.stayAwake() }
    producer.sleep(
      since: ticket, timeoutNanoseconds: Deadline.shorter(Deadline.nanoseconds(until: deadline), limit))
    producer.stayAwake()
  }

  // MARK: Off the hot path

  /// Why a message was not taken: it is too large, or nobody reads any more. Returns if the ring is full now.
  @usableFromInline @inline(never)
  mutating func refuse(byteCount: Int) throws(PortError) {
    try end.checkProcess()
    guard byteCount >= 0, byteCount <= maximumMessageBytes else {
      throw .messageTooLarge(byteCount: byteCount, limit: maximumMessageBytes)
    }
    if producer.isCorrupt { throw .peerClosed(.protocolViolation("it released more than was written")) }
    if end.isPeerGone { throw .peerClosed(end.closeReason) }
  }

  /// After something was written.
  @inlinable @inline(__always)
  mutating func wakeReaderIfAsleep() throws(PortError) {
    if producer.consumerSleeps() { try wakeReader() }
  }

  /// Nobody looks at the doorbell before the batch ends: in a forked child, there is no room from the start.
  @usableFromInline
  mutating func beginBatch() {
    if end.isInherited { producer.abandonUnread() }
    producer.beginBatch()
  }

  /// The reader sleeps; or so it seems in a forked child, whose memory says that of all readers.
  @usableFromInline @inline(never)
  mutating func wakeReader() throws(PortError) {
    try end.checkProcess()
    if producer.wakeConsumer() { end.channel.signal() }
  }
}

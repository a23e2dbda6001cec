import CSupport
public import SharedRing

/// The writing half of a port: for the hot path of a latency-sensitive program.
///
/// One thread at a time. While the reader is awake, writing takes no lock, no allocation, no reference counting and no
/// system call. Unlike a port, a writer does not grow the ring: if it is full, it says so.
///
/// Get one with ``MessagePort/split()``, and make ``ChannelOptions/laneCapacityBytes`` fit the traffic before.
public struct PortWriter: ~Copyable, Sendable {
  @usableFromInline let end: SplitEnd
  @usableFromInline var producer: RingProducer

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
  /// - Throws: ``PortError/messageTooLarge(byteCount:limit:)``; ``PortError/peerClosed(_:)`` once it is known that nobody
  ///   reads any more. Nothing has changed.
  /// - Complexity: O(bytes); one system call if the reader sleeps, none otherwise. Never blocks.
  @inlinable @inline(__always)
  public mutating func tryWrite(_ bytes: RawSpan) throws(PortError) -> Bool {
    if producer.tryWrite(bytes) {
      if !producer.isBatching, producer.consumerSleeps() { wakeReader() }
      return true
    }
    return try refuse(byteCount: bytes.byteCount)
  }

  /// Writes one plain value; see ``tryWrite(_:)``.
  @inlinable @inline(__always)
  public mutating func tryWrite<Value: BitwiseCopyable>(bitwise value: Value) throws(PortError) -> Bool {
    if producer.hasRoom(payloadBytes: MemoryLayout<Value>.size) {
      unsafe producer.fill(payloadBytes: MemoryLayout<Value>.size) { unsafe $0.storeBytes(of: value, as: Value.self) }
      producer.publish(RecordHeader(kind: .message, byteCount: MemoryLayout<Value>.size))
      if !producer.isBatching, producer.consumerSleeps() { wakeReader() }
      return true
    }
    return try refuse(byteCount: MemoryLayout<Value>.size)
  }

  /// Reserves room for a message in the ring, lets `fill` write it there, and commits it: no copy.
  ///
  /// The message is as long as what `fill` has written. If `fill` throws, nothing is written.
  /// Otherwise as ``tryWrite(_:)``.
  @inlinable @inline(__always)
  public mutating func tryReserve(
    byteCount: Int, _ fill: (inout OutputRawSpan) throws(PortError) -> Void
  ) throws(PortError) -> Bool {
    // The record's size would overflow for the largest numbers: this comes first.
    guard byteCount >= 0, byteCount <= maximumMessageBytes, producer.hasRoom(payloadBytes: byteCount) else {
      return try refuse(byteCount: byteCount)
    }
    var written = 0
    try unsafe producer.fill(payloadBytes: byteCount) { (target) throws(PortError) in
      let buffer = unsafe UnsafeMutableRawBufferPointer(start: target, count: byteCount)
      var output = unsafe OutputRawSpan(buffer: buffer, initializedCount: 0)
      try fill(&output)
      written = unsafe output.finalize(for: buffer)
    }
    producer.publish(RecordHeader(kind: .message, byteCount: written))
    if !producer.isBatching, producer.consumerSleeps() { wakeReader() }
    return true
  }

  /// Waits until a message of `byteCount` bytes fits.
  ///
  /// - Parameters:
  ///   - byteCount: 0 to ``maximumMessageBytes``.
  ///   - timeout: how long to wait; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``, ``PortError/messageTooLarge(byteCount:limit:)``, ``PortError/peerClosed(_:)``.
  public mutating func waitForSpace(byteCount: Int, timeout: Duration? = nil) throws(PortError) {
    guard byteCount >= 0, byteCount <= maximumMessageBytes else {
      throw .messageTooLarge(byteCount: byteCount, limit: maximumMessageBytes)
    }
    let deadline = Deadline.after(timeout)
    var spin = Spin(end.options.spinPolicy)
    while true {
      if producer.hasRoom(payloadBytes: byteCount) { return }
      _ = try refuse(byteCount: byteCount)
      if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
      if !spin.isOver {
        spin.pause()
        continue
      }
      let maySleep = producer.prepareToSleep(Doorbell.asleepOnFutex) { $0.hasRoom(payloadBytes: byteCount) }
      // Heard between the look above and the announcement, the hang-up would wake nobody.
      if maySleep, !end.isPeerGone { producer.sleep(timeoutNanoseconds: Deadline.nanoseconds(until: deadline)) }
      producer.stayAwake()
    }
  }

  // MARK: Off the hot path

  /// Why a message was not taken: too large for ever, nobody there any more, or just full.
  @usableFromInline @inline(never)
  mutating func refuse(byteCount: Int) throws(PortError) -> Bool {
    guard byteCount >= 0, byteCount <= maximumMessageBytes else {
      throw .messageTooLarge(byteCount: byteCount, limit: maximumMessageBytes)
    }
    if producer.isCorrupt { throw .peerClosed(.protocolViolation("it released more than was written")) }
    if end.isPeerGone { throw .peerClosed(end.closeReason) }
    return false
  }

  /// The reader sleeps.
  @usableFromInline @inline(never)
  mutating func wakeReader() {
    if producer.wakeConsumer() { end.channel.ring() }
  }
}

extension PortWriter {
  /// Publishes all messages that `body` writes at once, when it returns: the reader sees none or all of them, and is
  /// woken once.
  ///
  /// If the ring fills up meanwhile, what was written before is still published, at the end.
  @inlinable @inline(__always)
  public mutating func batch<Result, Failure: Error>(
    _ body: (inout PortWriter) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    producer.beginBatch()
    defer { if producer.endBatch(), producer.consumerSleeps() { wakeReader() } }
    return try body(&self)
  }
}

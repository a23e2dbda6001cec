import CSupport
import Glibc
public import SharedRing

/// The reading half of a port: for the hot path of a latency-sensitive program.
///
/// One thread at a time. While messages are there, reading takes no lock, no allocation, no reference counting and no
/// system call; a message is read where the writer put it.
///
/// Spans of messages lie in memory that the other process can change while they are read. Nothing unsafe can come of
/// that, but a value that is read twice may differ: copy what you check before you use it, or trust the writer.
///
/// Get one with ``MessagePort/split()``.
public struct PortReader: ~Copyable, Sendable {
  @usableFromInline let end: SplitEnd
  @usableFromInline var records: RecordReader
  /// The other end broke the format: what it writes is not looked at any more.
  private(set) var violation: String?
  private var ports: [MessagePort] = []
  /// Looking for the other end's death costs more than looking for a message, so that is done now and then.
  @usableFromInline var emptyLooks: UInt8 = 0
  /// What ``read(timeout:_:)`` does before it sleeps.
  public var spinPolicy: SpinPolicy

  init(_ end: SplitEnd, _ records: consuming RecordReader, violation: String?) {
    self.end = end
    self.records = records
    self.violation = violation
    spinPolicy = end.options.spinPolicy
  }

  /// Reads the next message, if there is one.
  ///
  /// - Parameter body: is given the message where it lies; the span is gone when it returns.
  /// - Returns: what `body` returned, or `nil` if there is no message now.
  /// - Throws: ``PortError/peerClosed(_:)`` once there will be none any more; ``PortError/system(_:)`` if the rest of the
  ///   ring could not be mapped: nothing is lost, try again.
  @inlinable @inline(__always)
  public mutating func tryRead<Result>(_ body: (RawSpan) -> Result) throws(PortError) -> Result? {
    if let result = records.consumer.tryRead(body) {
      // The last chance for this: nobody knows whether the caller will ever look again.
      if records.consumer.owesRing { payOwedRing() }
      return result
    }
    if hasNothingYet() { return nil }
    return try readUncommon(body)
  }

  /// Reads the next message as a plain value of `type`, if there is one; see ``tryRead(_:)``.
  ///
  /// - Throws: also ``PortError/decodingFailed(_:)`` for a message of another size, which is consumed.
  @inlinable @inline(__always)
  public mutating func tryRead<Value: BitwiseCopyable>(bitwise type: Value.Type) throws(PortError) -> Value? {
    var value: Value?
    let wasTaken = records.consumer.tryTake { bytes in
      guard bytes.byteCount == MemoryLayout<Value>.size else { return false }
      value = unsafe bytes.unsafeLoadUnaligned(as: Value.self)
      return true
    }
    if wasTaken {
      if records.consumer.owesRing { payOwedRing() }
      return value
    }
    if hasNothingYet() { return nil }
    return try readUncommon(bitwise: type)
  }

  /// Copies the next message out, if there is one: then nobody can change it any more.
  ///
  /// - Parameter target: its first bytes become the message.
  /// - Returns: how many bytes the message has, or `nil` if there is no message now.
  /// - Throws: as ``tryRead(_:)``; also ``PortError/messageTooLarge(byteCount:limit:)`` for a message that is longer than
  ///   `target`. It stays the next one: read it into more, or by ``tryRead(_:)``.
  /// - Complexity: O(bytes). Never blocks; no system call, unless the writer waits for space.
  @inlinable @inline(__always)
  public mutating func tryRead(into target: inout MutableRawSpan) throws(PortError) -> Int? {
    let capacity = target.byteCount
    var byteCount = 0
    let wasTaken = records.consumer.tryTake { bytes in
      guard bytes.byteCount <= capacity else { return false }
      byteCount = Self.copy(bytes, into: &target)
      return true
    }
    if wasTaken {
      if records.consumer.owesRing { payOwedRing() }
      return byteCount
    }
    if hasNothingYet() { return nil }
    return try readUncommon(limit: capacity) { bytes in Self.copy(bytes, into: &target) }
  }

  @inlinable @inline(__always)
  static func copy(_ bytes: RawSpan, into target: inout MutableRawSpan) -> Int {
    unsafe target.withUnsafeMutableBytes { to in
      unsafe bytes.withUnsafeBytes { from in
        if let to = to.baseAddress, let from = from.baseAddress { unsafe csupport_copy(to, from, bytes.byteCount) }
      }
    }
    return bytes.byteCount
  }

  /// Reads up to `limit` messages that are there, and tells the writer once.
  ///
  /// - Returns: how many. 0: none now.
  /// - Throws: as ``tryRead(_:)``.
  @inlinable @inline(__always)
  public mutating func readBatch(upTo limit: Int, _ body: (RawSpan) -> Void) throws(PortError) -> Int {
    var count = 0
    while count < limit, try tryRead(body) != nil { count += 1 }
    return count
  }

  /// The ports that came with the messages read since this was last called. Those that are not taken close with the
  /// reader.
  public mutating func takePorts() -> [MessagePort] {
    defer { ports = [] }
    return ports
  }

  /// Waits for the next message and reads it; see ``tryRead(_:)``.
  ///
  /// - Parameters:
  ///   - timeout: how long to wait for a message; `nil`: as long as it takes.
  ///   - body: gets the message where it lies, valid for the call only. The peer may change the bytes meanwhile.
  /// - Throws: what ``tryRead(_:)`` throws, and ``PortError/timedOut``; nothing was taken then.
  @inlinable @inline(__always)
  public mutating func read<Result>(
    timeout: Duration? = nil, _ body: (RawSpan) -> Result
  ) throws(PortError) -> Result {
    if let result = try tryRead(body) { return result }
    // One deadline for all attempts: what comes meanwhile need not be a whole message.
    let deadline = Self.deadline(timeout)
    while true {
      try waitForMessage(until: deadline)
      if let result = try tryRead(body) { return result }
      try checkTime(deadline)
    }
  }

  /// Waits until there is something to read, or the other end is gone.
  ///
  /// - Throws: ``PortError/timedOut``.
  public mutating func waitForMessage(timeout: Duration? = nil) throws(PortError) {
    try waitForMessage(until: Self.deadline(timeout))
  }

  @usableFromInline
  mutating func waitForMessage(until deadline: ContinuousClock.Instant?) throws(PortError) {
    var spin = Spin(spinPolicy)
    if case .always = spinPolicy { startPolling() }
    while true {
      if !records.consumer.isEmpty || isClosing { return }
      try checkTime(deadline)
      if !spin.isOver {
        spin.pause()
        continue
      }
      let maySleep = records.consumer.prepareToSleep(Doorbell.asleepOnFutex)
      if records.consumer.takeOwedRing() { end.channel.ring() }
      if maySleep, !isClosing { records.consumer.sleep(timeoutNanoseconds: Deadline.nanoseconds(until: deadline)) }
      records.consumer.stayAwake()
    }
  }

  /// Promises the writer that this reader looks by itself, so that a writer which was split, too, needs no memory fence
  /// for each message. A later ``waitForMessage(timeout:)`` that sleeps pays for both with a `membarrier` call, some
  /// microseconds.
  public mutating func startPolling() {
    if Membarrier.isRegistered { records.consumer.startPolling() }
  }

  @usableFromInline static func deadline(_ timeout: Duration?) -> ContinuousClock.Instant? {
    Deadline.after(timeout)
  }

  @usableFromInline func checkTime(_ deadline: ContinuousClock.Instant?) throws(PortError) {
    if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
  }

  /// After a look in vain: whether the ring is empty, and more may come.
  @inlinable @inline(__always)
  mutating func hasNothingYet() -> Bool {
    guard records.consumer.isEmpty else { return false }
    emptyLooks &+= 1
    return records.consumer.hasReadNothing && emptyLooks != 0 || isStillOpen()
  }

  // MARK: Off the hot path

  /// After some looks in vain, or the first one: whether there may be more.
  @usableFromInline @inline(never)
  mutating func isStillOpen() -> Bool {
    records.consumer.letProducerGetAhead()
    // A reader that polls never sleeps, where it would tell: so that an overflow that was read can be given back.
    if records.consumer.capacity > GrowthPolicy().steadyCapacity, records.consumer.hasUnreleased {
      records.consumer.release()
      payOwedRing()
    }
    return !isClosing
  }

  /// The other end is gone: what is on the ring is all there will be.
  private var isClosing: Bool { violation != nil || end.isPeerGone }

  @usableFromInline @inline(never)
  func sizeMismatch(_ expected: Int, _ actual: Int) -> PortError {
    .decodingFailed(BitwiseSizeMismatch(expectedByteCount: expected, actualByteCount: actual))
  }

  /// Whoever posts here sleeps on its socket until there is room.
  @usableFromInline @inline(never)
  mutating func payOwedRing() {
    if records.consumer.takeOwedRing() { end.channel.ring() }
  }

  /// A message in fragments, with ports, behind a wrap or a link; or the end. One longer than `limit` stays.
  @usableFromInline @inline(never)
  mutating func readUncommon<Result>(
    limit: Int = .max, _ body: (RawSpan) -> Result
  ) throws(PortError) -> Result? {
    if let violation { throw .peerClosed(.protocolViolation(violation)) }
    defer { payOwedRing() }
    while true {
      switch records.seekEnd(messageLimitBytes: end.options.messageLimitBytes) {
      case .nothing:
        guard end.isPeerGone else { return nil }
        // What was committed before the hang-up can be seen now.
        guard records.consumer.isEmpty else { continue }
        end.channel.discardPackets()
        throw .peerClosed(end.closeReason)
      case .unfinished: return nil
      case .blocked(let error): throw .system(error)
      case .violation(let what): throw endReading(what)
      case .end(let record):
        // Before anything of its end is taken, so that the message stays.
        let byteCount = records.byteCount(of: record)
        if byteCount > limit { throw .messageTooLarge(byteCount: byteCount, limit: limit) }
        if record.portCount > 0 { try receivePorts(record) }
        let completion = records.complete(record, messageLimitBytes: end.options.messageLimitBytes, body) {
          $0.withBytes(body)
        }
        switch completion {
        case .message(let result): return result
        case .violation(let what): throw endReading(what)
        case .refused: throw .system(SystemError(call: "malloc", errno: ENOMEM))
        }
      }
    }
  }

  /// A value that is not just there, or a message of another size, which is consumed.
  @usableFromInline @inline(never)
  mutating func readUncommon<Value: BitwiseCopyable>(bitwise type: Value.Type) throws(PortError) -> Value? {
    var byteCount = 0
    let value: Value?? = try readUncommon { bytes in
      byteCount = bytes.byteCount
      return byteCount == MemoryLayout<Value>.size ? unsafe bytes.unsafeLoadUnaligned(as: Value.self) : nil
    }
    guard let value else { return nil }
    guard let value else { throw sizeMismatch(MemoryLayout<Value>.size, byteCount) }
    return value
  }

  private mutating func receivePorts(_ record: RingRecord) throws(PortError) {
    switch end.channel.receivePorts(count: record.portCount, options: end.options, loop: end.loop) {
    case .success(let ports): self.ports += ports
    case .failure(.violation(let what)): throw endReading(what)
    // The record stays, and with it all of the message.
    case .failure(.blocked(let error)): throw .system(error)
    case .failure(.message(let error)):
      records.skip(record)
      throw .decodingFailed(error)
    }
  }

  private mutating func endReading(_ what: String) -> PortError {
    violation = what
    records = RecordReader()
    end.channel.hangUp()
    return .peerClosed(.protocolViolation(what))
  }
}

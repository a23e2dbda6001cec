import CSupport
import Glibc
public import SharedRing

/// The reading half of a port: for the hot path of a latency-sensitive program.
///
/// One thread at a time. While messages are there, reading takes no lock, no allocation, no reference counting and no
/// system call; a message is read where the writer put it.
///
/// Spans of messages lie in memory that the other process can change at any time. Nothing unsafe can come of that, but
/// a value that is read twice may differ: copy what you check before you use it, or trust the writer.
///
/// Get one with ``MessagePort/split()`` and ``PortHalves/takeReader()``.
public struct PortReader: ~Copyable, Sendable {
  @usableFromInline let end: SplitEnd
  @usableFromInline var records: RecordReader
  @usableFromInline let mark = ProcessMark.current
  /// The other end broke the format: what it writes is not looked at any more.
  private(set) var violation: String?
  /// Of the last read.
  private var ports: [MessagePort] = []
  private var freight = Freight()
  /// They were there before the read that is under way, or comes next.
  private var isCargoOld = false
  private var isInBatch = false
  /// What comes next waits on the socket until descriptors were closed, and nobody will ring when it is so.
  private var isHeldBack = false
  /// Looking for the other end's death costs more than looking for a message, so that is done now and then.
  @usableFromInline var emptyLooks: UInt8 = 0
  private var learnedSpin = Spin.first
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
  /// - Throws: ``PortError/peerClosed(_:)`` once there will be no more; ``PortError/closed`` in a process that was forked off
  ///   after the split; ``PortError/system(_:)`` if resources ran out:
  ///   nothing is lost, try again.
  /// - Complexity: O(1) for a message in one piece; O(bytes) for one that came in several. Never blocks; no system
  ///   call, unless the writer waits for space.
  @inlinable @inline(__always)
  public mutating func tryRead<Result>(_ body: (RawSpan) -> Result) throws(PortError) -> Result? {
    if let result = records.consumer.tryRead(body) {
      // The last chance for this: nobody knows whether the caller will ever look again.
      if records.consumer.hasErrand { runErrands() }
      return result
    }
    if hasNothingYet() { return nil }
    return try readUncommon(body)
  }

  /// Reads the next message as a plain value of `type`, if there is one; see ``tryRead(_:)``.
  ///
  /// - Throws: also ``PortError/decodingFailed(_:)`` for a message of another size, which is consumed.
  @inlinable @inline(__always)
  public mutating func tryRead<Value: PlainValue>(bitwise type: Value.Type) throws(PortError) -> Value? {
    _ = Value.layout
    return try unsafe tryRead(unsafeBitwise: type)
  }

  /// Reads the next message as a value of any type that is copied bit by bit, if there is one.
  ///
  /// Unsafe: bytes that are no value of the type, such as those of an enum with another case, lead to undefined behaviour.
  /// Only for writers who can be trusted never to send such bytes. Otherwise as ``tryRead(bitwise:)``.
  @inlinable @inline(__always)
  @unsafe
  public mutating func tryRead<Value: BitwiseCopyable>(unsafeBitwise type: Value.Type) throws(PortError) -> Value? {
    var value: Value?
    let wasTaken = records.consumer.tryTake { bytes in
      guard bytes.byteCount == MemoryLayout<Value>.size else { return false }
      value = unsafe bytes.unsafeLoadUnaligned(as: Value.self)
      return true
    }
    if wasTaken {
      if records.consumer.hasErrand { runErrands() }
      return value
    }
    if hasNothingYet() { return nil }
    return try unsafe readUncommon(unsafeBitwise: type)
  }

  /// Copies the next message, if there is one: nobody can change the copy.
  ///
  /// - Parameter target: its first bytes become the message.
  /// - Returns: how many bytes the message has, or `nil` if there is no message now.
  /// - Throws: as ``tryRead(_:)``; also ``PortError/messageTooLarge(byteCount:limit:)`` for a message that is longer
  ///   than `target`. It stays the next one: read it into a larger one, or with ``tryRead(_:)``.
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
      if records.consumer.hasErrand { runErrands() }
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

  /// Reads up to `limit` messages that are there, and tells the writer once. What they carried waits in
  /// ``takePorts()``, ``takeDescriptors()`` and ``takeBuffers()``.
  ///
  /// - Returns: how many; 0 if there is none now.
  /// - Throws: as ``tryRead(_:)``.
  /// - Complexity: O(messages); otherwise as ``tryRead(_:)``.
  @inlinable @inline(__always)
  public mutating func readBatch(upTo limit: Int, _ body: (RawSpan) -> Void) throws(PortError) -> Int {
    beginBatch()
    var count = 0
    defer { endBatch(hasRead: count > 0) }
    while count < limit, try tryRead(body) != nil { count += 1 }
    return count
  }

  /// The ports that came with the message read last, or with the messages of the last batch, in order. Those that are not
  /// taken close with the next read, whether that finds a message or not, with the next wait, or with the reader.
  public mutating func takePorts() -> [MessagePort] {
    defer { ports = [] }
    return ports
  }

  /// The same of descriptors.
  public mutating func takeDescriptors() -> [Descriptor] {
    defer { freight.descriptors = [] }
    return freight.descriptors
  }

  /// The same of buffers.
  public mutating func takeBuffers() -> [MessageBuffer] {
    defer { freight.buffers = [] }
    return freight.buffers
  }

  /// Waits for the next message and reads it; see ``tryRead(_:)``.
  ///
  /// - Parameters:
  ///   - timeout: how long to wait for a message; `nil`: as long as it takes.
  ///   - body: is given the message where it lies; the span is gone when it returns.
  /// - Throws: as ``tryRead(_:)``; also ``PortError/timedOut``. Nothing was taken then.
  /// - Complexity: as ``tryRead(_:)``, but it blocks.
  @inlinable @inline(__always)
  public mutating func read<Result>(
    timeout: Duration? = nil, _ body: (RawSpan) -> Result
  ) throws(PortError) -> Result {
    if let result = try tryRead(body) { return result }
    // One deadline for all attempts: what comes need not be a whole message.
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
    try end.checkProcess()
    closeOldCargo()
    if isHeldBack { return nap(until: deadline) }
    if records.isWorthLooking(through: end.channel) || hasNews { return }
    if case .always = spinPolicy { startPolling() }
    var spin = Spin(spinPolicy, learned: learnedSpin)
    while true {
      let goesOn = spin.goesOn()
      if records.isWorthLooking(through: end.channel) || hasNews { break }
      try checkTime(deadline)
      if !goesOn { sleep(until: deadline) } else if spin.isVisitDue() { _ = end.listen() }
    }
    if let learned = spin.ended() { learnedSpin = learned }
  }

  private mutating func nap(until deadline: ContinuousClock.Instant?) {
    isHeldBack = false
    let timeout = Deadline.nanoseconds(until: deadline)
    end.privateWord.ticket.wait(timeoutNanoseconds: Deadline.shorter(timeout, Spin.napNanoseconds))
  }

  /// Sleeps until there may be something to read, or nothing will ever be.
  private mutating func sleep(until deadline: ContinuousClock.Instant?) {
    let ticket = end.privateWord.ticket
    let limit = end.listen()
    if limit >= 0 { records.notePackets(through: end.channel) }
    let maySleep = records.prepareToSleep(Doorbell.asleepOnFutex, through: end.channel)
    payOwedSignal()
    // After the ticket: what is not seen here ends the sleep.
    guard !hasNews else { return }
    let timeout = Deadline.shorter(Deadline.nanoseconds(until: deadline), limit)
    if maySleep {
      records.consumer.sleep(since: ticket, timeoutNanoseconds: timeout)
    } else if records.consumer.mustPoll, !records.isWorthLooking(through: end.channel) {
      ticket.wait(timeoutNanoseconds: Deadline.shorter(timeout, Spin.napNanoseconds))
    }
    records.consumer.stayAwake()
  }

  /// Promises the writer that this reader looks by itself, so that the writer, if it is a split one too, needs no
  /// memory fence for each message. A later ``waitForMessage(timeout:)`` that sleeps pays for both, with a `membarrier`
  /// call of some microseconds.
  public mutating func startPolling() {
    if Membarrier.isRegistered { records.consumer.startPolling() }
  }

  @usableFromInline static func deadline(_ timeout: Duration?) -> ContinuousClock.Instant? {
    Deadline.after(timeout)
  }

  @usableFromInline func checkTime(_ deadline: ContinuousClock.Instant?) throws(PortError) {
    if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
  }

  /// After a failed look: whether the ring is empty, and more may come.
  @inlinable @inline(__always)
  mutating func hasNothingYet() -> Bool {
    guard records.consumer.isEmpty else { return false }
    emptyLooks &+= 1
    return records.consumer.hasReadNothing && emptyLooks != 0 && !mark.isInherited || isStillOpen()
  }

  // MARK: Off the hot path

  /// After the first failed look, or a number of them: whether there may be more.
  @usableFromInline @inline(never)
  mutating func isStillOpen() -> Bool {
    if mark.isInherited { return false }
    records.consumer.letProducerGetAhead()
    // A reader that polls never sleeps, and so never says what it has read: the overflow could not be given back.
    if records.consumer.capacity > GrowthPolicy().steadyCapacity, records.consumer.hasUnreleased {
      records.consumer.release()
      payOwedSignal()
    }
    closeOldCargo()
    return !hasNews
  }

  /// There is something to find out besides messages: the other end is gone, or packets have come.
  private var hasNews: Bool { violation != nil || end.isPeerGone || records.packetsMayWait || end.hasPackets }

  @usableFromInline @inline(never)
  func sizeMismatch(_ expected: Int, _ actual: Int) -> PortError {
    .decodingFailed(BitwiseSizeMismatch(expectedByteCount: expected, actualByteCount: actual))
  }

  /// After a message was read: signals a writer that waits for room, and sees to what came with others and nobody has
  /// taken.
  @usableFromInline @inline(never)
  mutating func runErrands() {
    payOwedSignal()
    seeToCargo()
  }

  /// Signals a writer that sleeps on its socket until there is room.
  private mutating func payOwedSignal() {
    if records.consumer.takeOwedSignal() { end.channel.signal() }
    records.consumer.hasErrand = isCargoOld && hasCargo
  }

  private var hasCargo: Bool { !ports.isEmpty || !freight.isEmpty }

  private mutating func closeCargo() {
    ports = []
    freight = Freight()
  }

  /// What came with the message before is closed; what came with this one has until the next.
  private mutating func seeToCargo() {
    if isCargoOld { closeCargo() }
    isCargoOld = hasCargo && !isInBatch
    records.consumer.hasErrand = isCargoOld
  }

  /// Before it is known whether there will be another message: one of these may be the other end of this very channel, which
  /// would otherwise never close.
  private mutating func closeOldCargo() {
    if isCargoOld { seeToCargo() }
  }

  /// Several messages are read as by one read, so that what they carry stays together.
  @usableFromInline @inline(never)
  mutating func beginBatch() { isInBatch = true }

  @usableFromInline @inline(never)
  mutating func endBatch(hasRead: Bool) {
    isInBatch = false
    payOwedSignal()
    if hasRead { seeToCargo() }
  }

  /// A message in fragments, with a packet, behind a wrap or a link; or the close. One longer than `limit` stays.
  @usableFromInline @inline(never)
  mutating func readUncommon<Result>(
    limit: Int = .max, _ body: (RawSpan) -> Result
  ) throws(PortError) -> Result? {
    try end.checkProcess()
    isHeldBack = false
    if let violation { throw .peerClosed(.protocolViolation(violation)) }
    defer { payOwedSignal() }
    // Before the look: what was committed, and sent, before the hang-up can be seen by it.
    let isPeerGone = end.isPeerGone
    if end.takePackets() { records.packetsMayWait = true }
    switch records.seekLast(messageLimitBytes: end.options.messageLimitBytes, through: end.channel) {
    case .nothing:
      guard isPeerGone else { return nil }
      // A message without its packet was never posted.
      end.channel.discardPackets()
      throw .peerClosed(end.closeReason)
    case .unfinished, .doorbells: return nil
    case .blocked(nil):
      isHeldBack = true
      return nil
    case .blocked(let error?): throw .system(error)
    case .violation(let what): throw endReading(what)
    case .last(let record):
      // Before anything of its end is taken, so that the message stays.
      let byteCount = records.byteCount(of: record)
      if byteCount > limit { throw .messageTooLarge(byteCount: byteCount, limit: limit) }
      if record.header.announcesPacket, try !receiveCargo(record) { return nil }
      let completion = records.complete(record, messageLimitBytes: end.options.messageLimitBytes, body) {
        $0.withBytes(body)
      }
      // Whoever waits until more can be sent along is told at once.
      if record.header.announcesPacket { records.consumer.release() }
      switch completion {
      case .message(let result):
        seeToCargo()
        return result
      case .violation(let what): throw endReading(what)
      case .refused: throw .system(SystemError(call: "malloc", errno: ENOMEM))
      }
    }
  }

  /// A value that does not lie ready, or a message of another size, which is consumed.
  @unsafe @usableFromInline @inline(never)
  mutating func readUncommon<Value: BitwiseCopyable>(unsafeBitwise type: Value.Type) throws(PortError) -> Value? {
    var value: Value?
    let byteCount = try readUncommon { bytes in
      if bytes.byteCount == MemoryLayout<Value>.size { value = unsafe bytes.unsafeLoadUnaligned(as: Value.self) }
      return bytes.byteCount
    }
    if let byteCount, value == nil { throw sizeMismatch(MemoryLayout<Value>.size, byteCount) }
    return value
  }

  /// `false`: they will come, and the record stays until then.
  private mutating func receiveCargo(_ record: RingRecord) throws(PortError) -> Bool {
    switch end.channel.receive(record.cargo, options: end.options, loop: end.loop) {
    case .success(let cargo):
      if isCargoOld || !isInBatch { closeCargo() }
      ports += cargo.ports
      freight += cargo.freight
      isCargoOld = false
      return true
    case .failure(.violation(let what)): throw endReading(what)
    // The record stays, and with it the whole message.
    case .failure(.blocked(let error?)): throw .system(error)
    case .failure(.blocked(nil)):
      isHeldBack = true
      return false
    case .failure(.message(let error)):
      records.skip(record)
      throw .decodingFailed(error)
    }
  }

  private mutating func endReading(_ what: String) -> PortError {
    violation = what
    records = RecordReader()
    end.channel.hangUp()
    // Another channel's end may be among them, which would be held for as long as the program keeps this one.
    end.channel.discardPackets()
    return .peerClosed(.protocolViolation(what))
  }
}

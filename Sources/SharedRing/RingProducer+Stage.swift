import CSupport

/// What staging asks of whoever knows the sockets.
package protocol RingConsumerContact {
  /// Whether the consumer is known to be gone for good. May ask the kernel.
  func consumerIsGone() -> Bool
  /// Signals the consumer; called after ``RingProducer/wakeConsumer()`` said that it sleeps on its socket.
  func signalOnSocket()
}

extension RingProducer {
  /// Writes a message of any size at the cursor, growing the lane if need be, and returns the header that completes it.
  ///
  /// The consumer sees no message until ``publish(_:)`` gets that header. Before, the caller can still take the message
  /// back with ``abandonStaged(_:)``. Takes time in proportion to the size, and waits a few microseconds for a consumer
  /// that is busy reading before it asks the kernel for memory.
  package mutating func stage(
    _ bytes: RawSpan, policy: GrowthPolicy, contact: some RingConsumerContact
  ) throws(RingError) -> RecordHeader {
    let unreleased = unreleasedBytes()
    if isCorrupt { throw .corruptPeer("it released more than was written") }
    if let limit = policy.unreadLimitBytes, unreleased + RecordHeader.recordBytes(payloadBytes: bytes.byteCount) > limit
    {
      throw .limitReached
    }
    // What overflowed has been read: give the big segment back. If that fails, go on in it.
    if hasOverflowed(policy), unreleased == 0 { try? shrink(policy) }
    if bytes.byteCount <= policy.fragmentBytes {
      try ensureRoom(payloadBytes: bytes.byteCount, remainingBytes: bytes.byteCount, policy: policy, contact: contact)
      copy(bytes, atPayloadOffset: 0)
      return RecordHeader(kind: .message, byteCount: bytes.byteCount)
    }
    return try stageFragments(bytes, policy: policy, contact: contact)
  }

  /// Whether the lane has grown beyond what it is to keep. Initial data of that size is what the channel's maker
  /// wanted.
  package func hasOverflowed(_ policy: GrowthPolicy) -> Bool { !segment.isInitial && capacity > policy.steadyCapacity }

  /// Takes a staged message back: the consumer forgets the fragments that it may have seen.
  package mutating func abandonStaged(_ header: RecordHeader) {
    if header.kind == .lastFragment { publish(RecordHeader(kind: .abort, byteCount: 0)) }
  }

  private mutating func stageFragments(
    _ bytes: RawSpan, policy: GrowthPolicy, contact: some RingConsumerContact
  ) throws(RingError) -> RecordHeader {
    var written = 0
    do throws(RingError) {
      if capacity < policy.steadyCapacity { try grow(capacity: policy.steadyCapacity) }
      while true {
        let prefix = written == 0 ? 8 : 0
        let chunk = min(bytes.byteCount - written, policy.fragmentBytes - prefix)
        let remaining = bytes.byteCount - written
        try ensureRoom(payloadBytes: prefix + chunk, remainingBytes: remaining, policy: policy, contact: contact)
        if prefix > 0 { unsafe (cursor + 8).storeBytes(of: UInt64(bytes.byteCount), as: UInt64.self) }
        copy(bytes.extracting(written..<written + chunk), atPayloadOffset: prefix)
        let isLast = chunk == remaining
        let kind: RecordHeader.Kind = isLast ? .lastFragment : written == 0 ? .firstFragment : .middleFragment
        let header = RecordHeader(kind: kind, byteCount: prefix + chunk)
        if isLast {
          crashPoint(.fragmentsWritten)
          return header
        }
        publish(header)
        crashPoint(.fragmentPublished)
        if consumerSleeps(), wakeConsumer() { contact.signalOnSocket() }
        written += chunk
      }
    } catch {
      if written > 0 { abandonFragments() }
      throw error
    }
  }

  /// Makes the message void that was published last and announces ports: the kernel has refused their packet.
  package mutating func withdrawAnnouncement() { publishInReserve(.withdrawn) }

  private mutating func abandonFragments() { publishInReserve(RecordHeader(kind: .abort, byteCount: 0)) }

  /// Writes a record without a payload into the space that is kept free for it.
  private mutating func publishInReserve(_ header: RecordHeader) {
    unsafe limit = unsafe segment.end
    if unsafe segment.room(from: cursor) < 2 * RecordHeader.byteCount { wrap() }
    publish(header)
    recomputeLimit(released: seenReleased)
  }

  private mutating func ensureRoom(
    payloadBytes: Int, remainingBytes: Int, policy: GrowthPolicy, contact: some RingConsumerContact
  ) throws(RingError) {
    if hasRoom(payloadBytes: payloadBytes) { return }
    if isCorrupt { throw .corruptPeer("it released more than was written") }
    if contact.consumerIsGone() { throw .consumerGone }
    let canEverFit = payloadBytes <= largestRecordPayload
    if canEverFit, policy.waitsForConsumer, waitForSpace(payloadBytes: payloadBytes, contact: contact) { return }
    if isCorrupt { throw .corruptPeer("it released more than was written") }
    // A record takes an eighth of the ring at most, so that a wrap wastes little. An overflow holds all that is left.
    let record = RecordHeader.recordBytes(payloadBytes: payloadBytes)
    var wanted = max(policy.firstGrownCapacity, min(8 * record, policy.steadyCapacity))
    if canEverFit { wanted = max(wanted, 2 * capacity) }
    if wanted > policy.steadyCapacity {
      wanted = max(wanted, remainingBytes + remainingBytes / 1024 + 4 * policy.fragmentBytes)
    }
    let rounded = min(wanted.nextPowerOfTwo, RingLayout.largestCapacity)
    try grow(capacity: rounded)
    guard hasRoom(payloadBytes: payloadBytes) else { preconditionFailure("a fresh segment has room") }
  }

  /// Spins while the consumer visibly drains the lane: waiting a few microseconds beats fresh memory.
  private mutating func waitForSpace(payloadBytes: Int, contact: some RingConsumerContact) -> Bool {
    guard Processors.areSeveral else { return false }
    if consumerSleeps(), wakeConsumer() { contact.signalOnSocket() }
    let started = csupport_monotonic_ns()
    var progressed = started
    var lastReleased = seenReleased
    while true {
      for _ in 0..<64 { csupport_cpu_relax() }
      if hasRoom(payloadBytes: payloadBytes) { return true }
      if isCorrupt { return false }
      let now = csupport_monotonic_ns()
      if seenReleased != lastReleased {
        lastReleased = seenReleased
        progressed = now
      }
      // A consumer that releases one byte at a time must not hold up the poster.
      if now - progressed > 20_000 || now - started > 200_000 { return false }
    }
  }

  private func copy(_ bytes: RawSpan, atPayloadOffset offset: Int) {
    unsafe bytes.withUnsafeBytes { source in
      guard let from = source.baseAddress else { return }
      unsafe csupport_copy(cursor + RecordHeader.byteCount + offset, from, source.count)
    }
  }
}

extension Int {
  var nextPowerOfTwo: Int { self <= 1 ? 1 : 1 << (Int.bitWidth - (self - 1).leadingZeroBitCount) }
}

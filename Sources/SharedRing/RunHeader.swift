import CSupport

/// Messages of one size under one header, which cost no more than copying their bytes.
///
/// The size is a multiple of eight, so that the consumer can go past a single message: it writes the header of the
/// shorter run that is left over the last bytes of the message that it has read. So a position in the middle of a run
/// is like any other, also to the port's next owner.
@usableFromInline package struct RunHeader {
  @usableFromInline package let messageBytes: Int
  @usableFromInline package let byteCount: Int

  /// The largest size that fits in the header.
  @inlinable package static var largestMessageBytes: Int { 0xffff * 8 }

  /// Whether messages of this size can be in a run.
  @inlinable package static func canHold(messageBytes: Int) -> Bool {
    messageBytes > 0 && messageBytes % 8 == 0 && messageBytes <= largestMessageBytes
  }

  @inlinable package init(messageBytes: Int, byteCount: Int) {
    self.messageBytes = messageBytes
    self.byteCount = byteCount
  }

  /// From a header that was fetched once; `nil` unless it is that of a whole number of messages.
  @inlinable package init?(_ header: RecordHeader) {
    let messageBytes = header.unitsPerMessage * 8
    guard messageBytes > 0, header.byteCount >= messageBytes, header.byteCount % messageBytes == 0 else { return nil }
    self.init(messageBytes: messageBytes, byteCount: header.byteCount)
  }

  /// As it lies in the ring. A single message needs no run.
  @inlinable package var record: RecordHeader {
    byteCount == messageBytes
      ? RecordHeader(kind: .message, byteCount: byteCount)
      : RecordHeader(runOf: byteCount, unitsPerMessage: messageBytes / 8)
  }

  /// The run behind the first `bytes`, which are a whole number of messages; `nil` if nothing is left.
  @inlinable package func dropping(_ bytes: Int) -> RunHeader? {
    bytes < byteCount ? RunHeader(messageBytes: messageBytes, byteCount: byteCount - bytes) : nil
  }
}

// MARK: - Writing

extension RingProducer {
  /// Writes as many of `count` messages of `messageBytes` each as there is room for in one place. The others may find
  /// room in another: call again until nothing was written.
  ///
  /// ``RunHeader/canHold(messageBytes:)`` must be true of them.
  @unsafe package mutating func tryWriteRun(_ source: UnsafeRawPointer, messageBytes: Int, count: Int) -> Int {
    guard messageBytes <= largestRecordPayload else { return 0 }
    // No more than an eighth of the ring at once, so that the consumer begins while the producer goes on.
    let most = min(count, max(1, capacity / 8 / messageBytes))
    var fitting = roomForRun / messageBytes
    if fitting < most {
      // The consumer may have released more since the last look.
      guard makeRoom(payloadBytes: messageBytes) else { return 0 }
      fitting = roomForRun / messageBytes
    }
    let written = min(most, fitting)
    unsafe csupport_copy(cursor + RecordHeader.byteCount, source, written * messageBytes)
    publish(RunHeader(messageBytes: messageBytes, byteCount: written * messageBytes).record)
    return written
  }

  /// How long a payload may be at the cursor, as far as this side knows.
  private var roomForRun: Int { max(0, unsafe limit - cursor - 2 * RecordHeader.byteCount) }
}

// MARK: - Reading

extension RingConsumer {
  /// Copies messages of `messageBytes` each out of the run at the cursor, and goes past them.
  ///
  /// - Returns: how many, at most `limit`; 0 if there is no such run at the cursor: ``next()`` says what there is.
  @unsafe package mutating func tryTakeRun(
    into target: UnsafeMutableRawPointer, messageBytes: Int, limit: Int
  ) -> Int {
    let header = RecordHeader(rawValue: unsafe RecordHeader.load(at: cursor))
    guard header.kind == .run, let run = RunHeader(header), run.messageBytes == messageBytes, run.isInside(self)
    else { return 0 }
    let taken = min(run.byteCount, limit * messageBytes)
    guard taken > 0 else { return 0 }
    unsafe csupport_copy(target, cursor + RecordHeader.byteCount, taken)
    goPast(taken, of: run)
    return taken / messageBytes
  }

  /// Goes past the first `bytes` of a run at the cursor: a whole number of messages.
  mutating func goPast(_ bytes: Int, of run: RunHeader) {
    guard let rest = run.dropping(bytes) else {
      return advance(by: RecordHeader.recordBytes(payloadBytes: run.byteCount))
    }
    unsafe rest.record.store(at: cursor + bytes)
    advance(by: bytes)
  }
}

extension RunHeader {
  /// Whether the segment has room for the run and the header behind it.
  func isInside(_ consumer: borrowing RingConsumer) -> Bool {
    let room = unsafe consumer.segment.room(from: consumer.cursor)
    return RecordHeader.recordBytes(payloadBytes: byteCount) <= room - RecordHeader.byteCount
  }
}

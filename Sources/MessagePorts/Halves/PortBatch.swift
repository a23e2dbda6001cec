public import SharedRing

extension PortWriter {
  /// Publishes all messages that `body` writes at once, when it returns or throws: the reader sees none or all of them,
  /// and is woken once.
  ///
  /// ```swift
  /// func write(_ samples: [UInt64], through writer: inout PortWriter) throws {
  ///   try writer.batch { batch in
  ///     for sample in samples where try !batch.tryWrite(bitwise: sample) { break }  // full
  ///   }
  /// }
  /// ```
  ///
  /// - Parameter body: writes through the batch that it is lent. If the ring fills up, that refuses what does not fit;
  ///   what was written before is still published.
  /// - Returns: what `body` returned.
  /// - Throws: what `body` has thrown, after publishing.
  /// - Complexity: that of `body`; one system call if the reader sleeps, none otherwise. Never blocks by itself.
  @inlinable @inline(__always)
  public mutating func batch<Result: ~Copyable, Failure: Error>(
    _ body: (inout PortBatch) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    // By way of a variable of its own, since `body` may put another batch there: each publishes what is its own.
    var batch = PortBatch(self)
    do throws(Failure) {
      let result = try body(&batch)
      self = batch.end()
      return result
    } catch {
      self = batch.end()
      throw error
    }
  }
}

/// Messages that a ``PortWriter`` publishes together: lent by ``PortWriter/batch(_:)``, and over when that returns.
///
/// It has the writer as long as it lasts, writes as that does, and wakes nobody. Two batches that are swapped are two
/// writers that are swapped: each message goes to the channel of the batch through which it was written.
public struct PortBatch: ~Copyable {
  @usableFromInline var writer: PortWriter

  @inlinable @inline(__always)
  init(_ writer: consuming PortWriter) {
    self.writer = writer
    self.writer.beginBatch()
  }

  /// Publishes what was written, and returns the writer.
  @inlinable @inline(__always)
  consuming func end() -> PortWriter {
    if writer.producer.endBatch() { try? writer.wakeReaderIfAsleep() }
    return writer
  }

  /// See ``PortWriter/maximumMessageBytes``.
  public var maximumMessageBytes: Int { writer.maximumMessageBytes }

  /// Writes one message; see ``PortWriter/tryWrite(_:)``.
  @inlinable @inline(__always)
  public mutating func tryWrite(_ bytes: RawSpan) throws(PortError) -> Bool { try writer.put(bytes) }

  /// Writes one plain value; see ``PortWriter/tryWrite(bitwise:)``.
  @inlinable @inline(__always)
  public mutating func tryWrite<Value: PlainValue>(bitwise value: Value) throws(PortError) -> Bool {
    _ = Value.layout
    return try unsafe writer.put(unsafeBitwise: value)
  }

  /// Writes one value of any type that is copied bit by bit.
  ///
  /// Unsafe for the reason that ``PortWriter/tryWrite(unsafeBitwise:)`` gives.
  @inlinable @inline(__always)
  @unsafe
  public mutating func tryWrite<Value: BitwiseCopyable>(unsafeBitwise value: Value) throws(PortError) -> Bool {
    try unsafe writer.put(unsafeBitwise: value)
  }

  /// Reserves room for a message and lets `fill` write it there; see ``PortWriter/tryReserve(byteCount:_:)``.
  @inlinable @inline(__always)
  public mutating func tryReserve(
    byteCount: Int, _ fill: (inout OutputRawSpan) throws(PortError) -> Void
  ) throws(PortError) -> Bool {
    try writer.put(byteCount: byteCount, fill)
  }

  /// Writes as many of `values` as there is room for; see ``PortWriter/tryWrite(contentsOf:)``.
  @inlinable
  public mutating func tryWrite<Value: PlainValue>(contentsOf values: Span<Value>) throws(PortError) -> Int {
    _ = Value.layout
    return try unsafe writer.put(unsafeContentsOf: values)
  }

  /// The same for values of any type that is copied bit by bit.
  ///
  /// Unsafe for the reason that ``PortWriter/tryWrite(unsafeContentsOf:)`` gives.
  @inlinable
  @unsafe
  public mutating func tryWrite<Value: BitwiseCopyable>(
    unsafeContentsOf values: Span<Value>
  ) throws(PortError) -> Int {
    try unsafe writer.put(unsafeContentsOf: values)
  }
}

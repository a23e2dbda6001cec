import CSupport
import SharedRing

// Many messages of one size at once, at the price of copying their bytes.

extension PortWriter {
  /// Writes as many of `values` as there is room for, in order, each a message of its own: what
  /// ``tryWrite(bitwise:)`` would write one after the other. The reader is woken once.
  ///
  /// Values whose size is a multiple of eight, and equal to their stride, lie in the ring under one header for many of
  /// them, and cost hardly more than the copying of their bytes; others cost as much as in a ``batch(_:)``. How they were
  /// written makes no difference to how they can be read.
  ///
  /// - Returns: how many were written; fewer than there are, perhaps 0, if the ring is full now.
  /// - Throws: as ``tryWrite(_:)``; nothing was written then.
  /// - Complexity: O(bytes); one system call if the reader sleeps, none otherwise. Never blocks.
  @inlinable
  public mutating func tryWrite<Value: BitwiseCopyable>(contentsOf values: Span<Value>) throws(PortError) -> Int {
    try unsafe values.withUnsafeBufferPointer { (values) throws(PortError) in
      guard let first = values.baseAddress, !values.isEmpty else { return 0 }
      return try unsafe write(
        UnsafeRawPointer(first), count: values.count, byteCount: MemoryLayout<Value>.size,
        stride: MemoryLayout<Value>.stride)
    }
  }

  @unsafe @usableFromInline @inline(never)
  mutating func write(
    _ source: UnsafeRawPointer, count: Int, byteCount: Int, stride: Int
  ) throws(PortError) -> Int {
    let isInBatch = producer.isBatching
    let fitsInRuns = byteCount == stride && RunHeader.canHold(messageBytes: byteCount)
    if !fitsInRuns { producer.beginBatch() }
    var written = 0
    while written < count {
      let next = unsafe source + written * stride
      let more: Int
      if fitsInRuns {
        more = unsafe producer.tryWriteRun(next, messageBytes: byteCount, count: count - written)
      } else {
        more = producer.tryWrite(unsafe UnsafeRawBufferPointer(start: next, count: byteCount).bytes) ? 1 : 0
      }
      guard more > 0 else { break }
      written += more
    }
    if !fitsInRuns, !isInBatch { producer.endBatch() }
    guard written > 0 else {
      _ = try refuse(byteCount: byteCount)
      return 0
    }
    if !isInBatch, producer.consumerSleeps() { wakeReader() }
    return written
  }
}

extension PortReader {
  /// Copies the messages that are there to the end of `values`, as plain values, until it is full.
  ///
  /// - Returns: how many; 0: there is no message now, or no room for one in `values`.
  /// - Throws: as ``tryRead(_:)``, when nothing was read; also ``PortError/decodingFailed(_:)`` if the next message has
  ///   another size, which is consumed. Behind others, it waits for the next call.
  /// - Complexity: O(bytes). Never blocks; no system call, unless the writer waits for space.
  @inlinable
  public mutating func tryRead<Value: BitwiseCopyable>(
    into values: inout OutputSpan<Value>
  ) throws(PortError) -> Int {
    try unsafe values.withUnsafeMutableBufferPointer { (values, count) throws(PortError) in
      guard let first = values.baseAddress, count < values.count else { return 0 }
      let read = try unsafe read(
        UnsafeMutableRawPointer(first + count), count: values.count - count, byteCount: MemoryLayout<Value>.size,
        stride: MemoryLayout<Value>.stride)
      count += read
      return read
    }
  }

  @unsafe @usableFromInline @inline(never)
  mutating func read(
    _ target: UnsafeMutableRawPointer, count: Int, byteCount: Int, stride: Int
  ) throws(PortError) -> Int {
    let fitsInRuns = byteCount == stride && RunHeader.canHold(messageBytes: byteCount)
    defer { if consumer.owesRing { payOwedRing() } }
    var done = 0
    while done < count {
      let next = unsafe target + done * stride
      if fitsInRuns {
        let taken = unsafe consumer.tryTakeRun(into: next, messageBytes: byteCount, limit: count - done)
        done += taken
        if taken > 0 { continue }
      }
      if consumer.tryTake({ unsafe Self.take($0, byteCount, into: next) }) {
        done += 1
        continue
      }
      if done > 0 { break }
      if hasNothingYet() { return 0 }
      var actual = 0
      let wasTaken = try readUncommon { bytes in
        actual = bytes.byteCount
        return unsafe Self.take(bytes, byteCount, into: next)
      }
      guard let wasTaken else { return 0 }
      guard wasTaken else { throw sizeMismatch(byteCount, actual) }
      done += 1
    }
    return done
  }

  @unsafe @inline(__always)
  private static func take(_ bytes: RawSpan, _ byteCount: Int, into target: UnsafeMutableRawPointer) -> Bool {
    guard bytes.byteCount == byteCount else { return false }
    unsafe bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { unsafe csupport_copy(target, from, byteCount) }
    }
    return true
  }
}

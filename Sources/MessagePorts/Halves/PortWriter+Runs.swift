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

public import SharedRing

// Writing as such, which wakes nobody: for a writer, who wakes the reader then, and for a batch, which does so at its end.

extension PortWriter {
  /// See ``tryWrite(_:)``.
  @inlinable @inline(__always)
  mutating func put(_ bytes: RawSpan) throws(PortError) -> Bool {
    if producer.tryWrite(bytes) { return true }
    try refuse(byteCount: bytes.byteCount)
    return false
  }

  /// See ``tryWrite(unsafeBitwise:)``.
  @inlinable @inline(__always)
  @unsafe
  mutating func put<Value: BitwiseCopyable>(unsafeBitwise value: Value) throws(PortError) -> Bool {
    guard producer.hasRoom(payloadBytes: MemoryLayout<Value>.size) else {
      try refuse(byteCount: MemoryLayout<Value>.size)
      return false
    }
    unsafe producer.fill(payloadBytes: MemoryLayout<Value>.size) { unsafe $0.storeBytes(of: value, as: Value.self) }
    producer.publish(RecordHeader(kind: .message, byteCount: MemoryLayout<Value>.size))
    return true
  }

  /// See ``tryReserve(byteCount:_:)``.
  @inlinable @inline(__always)
  mutating func put(
    byteCount: Int, _ fill: (inout OutputRawSpan) throws(PortError) -> Void
  ) throws(PortError) -> Bool {
    // The record's size would overflow for the largest numbers: this comes first.
    guard byteCount >= 0, byteCount <= maximumMessageBytes, producer.hasRoom(payloadBytes: byteCount) else {
      try refuse(byteCount: byteCount)
      return false
    }
    var written = 0
    try unsafe producer.fill(payloadBytes: byteCount) { (target) throws(PortError) in
      let buffer = unsafe UnsafeMutableRawBufferPointer(start: target, count: byteCount)
      var output = unsafe OutputRawSpan(buffer: buffer, initializedCount: 0)
      try fill(&output)
      written = unsafe output.finalize(for: buffer)
    }
    producer.publish(RecordHeader(kind: .message, byteCount: written))
    return true
  }

  /// See ``tryWrite(unsafeContentsOf:)``.
  @inlinable
  @unsafe
  mutating func put<Value: BitwiseCopyable>(unsafeContentsOf values: Span<Value>) throws(PortError) -> Int {
    try unsafe values.withUnsafeBufferPointer { (values) throws(PortError) in
      guard let first = values.baseAddress, !values.isEmpty else { return 0 }
      return try unsafe put(
        UnsafeRawPointer(first), count: values.count, byteCount: MemoryLayout<Value>.size,
        stride: MemoryLayout<Value>.stride)
    }
  }

  @unsafe @usableFromInline @inline(never)
  mutating func put(
    _ source: UnsafeRawPointer, count: Int, byteCount: Int, stride: Int
  ) throws(PortError) -> Int {
    try end.checkProcess()
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
    if written == 0 { try refuse(byteCount: byteCount) }
    return written
  }
}

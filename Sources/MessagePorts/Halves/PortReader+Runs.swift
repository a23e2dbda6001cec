import CSupport
import SharedRing

extension PortReader {
  /// Appends the messages that are there to `values`, as plain values, until it is full.
  ///
  /// - Returns: how many; 0 if there is no message now, or no room for one in `values`.
  /// - Throws: as ``tryRead(_:)``, if nothing was read; also ``PortError/decodingFailed(_:)`` if the next message has
  ///   another size, and is consumed. Behind others, such a message waits for the next call.
  /// - Complexity: O(bytes). Never blocks; no system call, unless the writer waits for space.
  @inlinable
  public mutating func tryRead<Value: PlainValue>(into values: inout OutputSpan<Value>) throws(PortError) -> Int {
    _ = Value.layout
    return try unsafe tryRead(unsafeInto: &values)
  }

  /// The same for values of any type that is copied bit by bit.
  ///
  /// Unsafe: bytes that are no value of the type lead to undefined behaviour. Only for writers who can be trusted never to
  /// send such bytes. Otherwise as ``tryRead(into:)-(OutputSpan<Value>)``.
  @inlinable
  @unsafe
  public mutating func tryRead<Value: BitwiseCopyable>(
    unsafeInto values: inout OutputSpan<Value>
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
    beginBatch()
    var done = 0
    defer { endBatch(hasRead: done > 0) }
    while done < count {
      let next = unsafe target + done * stride
      if fitsInRuns {
        let taken = unsafe records.consumer.tryTakeRun(into: next, messageBytes: byteCount, limit: count - done)
        done += taken
        if taken > 0 { continue }
      }
      if records.consumer.tryTake({ unsafe Self.take($0, byteCount, into: next) }) {
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

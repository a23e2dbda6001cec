import CSupport
import Glibc

/// A message's bytes on the heap: written once, while the message is put together, and only read afterwards.
@safe
@usableFromInline package final class OwnedBytes: @unchecked Sendable {  // immutable once it is shared
  @usableFromInline let base: UnsafeMutableRawPointer
  @usableFromInline package let byteCount: Int

  /// Uninitialised bytes, or `nil` if there is no memory for them.
  package init?(byteCount: Int) {
    // `malloc` rather than `allocate`: a size that a peer chose must be able to fail.
    guard let base = unsafe malloc(max(byteCount, 1)) else { return nil }
    unsafe self.base = unsafe base
    self.byteCount = byteCount
  }

  deinit { unsafe free(base) }

  @inlinable @inline(__always)
  package func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe body(UnsafeRawBufferPointer(start: base, count: byteCount).bytes)
  }

  /// Writes `bytes` at `offset`; only before the message is shown to anyone.
  package func write(_ bytes: RawSpan, at offset: Int) {
    precondition(offset >= 0 && bytes.byteCount <= byteCount - offset, "write beyond the message")
    unsafe bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { unsafe csupport_copy(base + offset, from, source.count) }
    }
  }

  /// Lets `body` fill the bytes; those that it skips are undefined. Only before the message is shown to anyone.
  package func withMutableBytes<Result: ~Copyable, Failure: Error>(
    _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe body(UnsafeMutableRawBufferPointer(start: base, count: byteCount))
  }
}

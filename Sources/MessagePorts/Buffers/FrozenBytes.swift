import SharedRing

/// The bytes of a ``FrozenBuffer``, where they lie. They never change, and are there as long as anybody has this.
///
/// Thread safety: an immutable value.
public struct FrozenBytes: RandomAccessCollection, Sendable {
  private let mapped: BufferBytes

  init(_ mapped: BufferBytes) { self.mapped = mapped }

  /// How many there are.
  public var count: Int { mapped.byteCount }
  /// 0.
  public var startIndex: Int { 0 }
  /// The same as ``count``.
  public var endIndex: Int { mapped.byteCount }

  /// One of them.
  ///
  /// - Precondition: `position` is one of the indices.
  public subscript(position: Int) -> UInt8 {
    withBytes { span in unsafe span.unsafeLoad(fromByteOffset: position, as: UInt8.self) }
  }

  /// Calls `body` with the bytes, without copying them.
  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try mapped.withBytes(body)
  }

  /// Calls `body` with the bytes, without copying them.
  public func withContiguousStorageIfAvailable<Result>(
    _ body: (UnsafeBufferPointer<UInt8>) throws -> Result
  ) rethrows -> Result? {
    try mapped.withBytes { span in
      try unsafe span.withUnsafeBytes { bytes in
        try unsafe bytes.withMemoryRebound(to: UInt8.self) { try unsafe body($0) }
      }
    }
  }

  /// A plain value that lies at `offset`.
  ///
  /// - Throws: ``BufferError/outOfBounds(offset:byteCount:bufferByteCount:)``.
  public func load<Value: PlainValue>(as type: Value.Type, at offset: Int) throws(BufferError) -> Value {
    _ = Value.layout
    try BufferError.check(offset, MemoryLayout<Value>.size, in: count)
    return withBytes { unsafe $0.unsafeLoadUnaligned(fromByteOffset: offset, as: Value.self) }
  }
}

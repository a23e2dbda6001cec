import SharedRing

/// Memory that everybody who has it can read and write, at any time, also while somebody else does: a sender goes on after a
/// post, and so may others that it has given it to.
///
/// Nothing here hands out the memory itself, for what is there may change between two looks. Bytes are copied out, and what was
/// copied is what is to be checked and used. Two that write at the same time leave whatever mixture they make, and a copy
/// may be of bytes that were never there together: processes that want more agree on turns, by messages. What was written before
/// a message is posted is seen by whoever has received it.
///
/// A holder can give pages back to the system, whose bytes are zero then, and which are taken anew by whoever touches them next.
/// See the article on trust.
///
/// It moves with a message; to keep it, list a ``copy()``. The memory is freed when the last holder is gone.
///
/// Thread safety: any thread may use any member. In a process that was forked without an exec, buffers that existed before are
/// closed.
public final class UntrustedBuffer: Sendable {
  let handle: BufferHandle

  init(_ memory: BufferMemory) { handle = BufferHandle(memory) }
  private init(_ handle: BufferHandle) { self.handle = handle }

  /// How large it is, which does not change. The kernel's word, not the sender's.
  public var byteCount: Int { handle.byteCount }

  /// Whether this has its memory: it was not closed or posted.
  public var isOpen: Bool { handle.isOpen }

  /// Maps the buffer, as the first look does that is taken at it.
  ///
  /// - Parameter limit: the largest buffer that the caller wants to have here: a sender may choose any size.
  /// - Throws: ``BufferError/tooLarge(byteCount:limit:)``, ``BufferError/closed``, ``BufferError/gone``,
  ///   ``BufferError/system(_:)``.
  public func map(upTo limit: Int = .max) throws(BufferError) {
    guard byteCount <= limit else { throw .tooLarge(byteCount: byteCount, limit: limit) }
    _ = try handle.memory().map()
  }

  /// Copies bytes out.
  ///
  /// - Throws: ``BufferError/outOfBounds(offset:byteCount:bufferByteCount:)``, ``BufferError/closed``, ``BufferError/gone``,
  ///   ``BufferError/system(_:)``.
  /// - Complexity: O(bytes). The first time, a system call.
  public func read(_ range: Range<Int>) throws(BufferError) -> [UInt8] {
    // Whose count need not be a number if it begins below 0.
    try BufferError.check(range.lowerBound, range.lowerBound < 0 ? 0 : range.count, in: byteCount)
    let bytes = try handle.memory().map()
    return unsafe [UInt8](unsafeUninitializedCapacity: range.count) { target, count in
      let target = unsafe UnsafeMutableRawBufferPointer(start: target.baseAddress, count: range.count)
      unsafe bytes.copy(from: range.lowerBound, to: target)
      count = range.count
    }
  }

  /// Copies bytes out, as many as `target` has.
  ///
  /// - Throws: as ``read(_:)``.
  public func read(into target: inout MutableRawSpan, at offset: Int) throws(BufferError) {
    try BufferError.check(offset, target.byteCount, in: byteCount)
    let bytes = try handle.memory().map()
    unsafe target.withUnsafeMutableBytes { unsafe bytes.copy(from: offset, to: $0) }
  }

  /// A plain value that lies at `offset`, as it was at some moment, or two.
  ///
  /// - Throws: as ``read(_:)``.
  public func load<Value: PlainValue>(as type: Value.Type, at offset: Int) throws(BufferError) -> Value {
    _ = Value.layout
    let size = MemoryLayout<Value>.size
    try BufferError.check(offset, size, in: byteCount)
    let bytes = try handle.memory().map()
    return unsafe withUnsafeTemporaryAllocation(byteCount: size, alignment: MemoryLayout<Value>.alignment) { copy in
      unsafe bytes.copy(from: offset, to: copy)
      return unsafe copy.load(as: Value.self)
    }
  }

  /// Copies bytes in.
  ///
  /// - Throws: as ``read(_:)``.
  public func write(_ bytes: RawSpan, at offset: Int) throws(BufferError) {
    try BufferError.check(offset, bytes.byteCount, in: byteCount)
    try handle.memory().map().copy(bytes, to: offset)
  }

  /// Copies bytes in; see ``write(_:at:)-(RawSpan,_)``.
  public func write(_ bytes: [UInt8], at offset: Int) throws(BufferError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }

  /// Writes a plain value.
  ///
  /// - Throws: as ``read(_:)``.
  public func store<Value: PlainValue>(_ value: Value, at offset: Int) throws(BufferError) {
    _ = Value.layout
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(BufferError) in try unsafe write(bytes.bytes, at: offset) }
  }

  /// Another one for the same memory: to be kept, or to be sent elsewhere.
  ///
  /// - Throws: ``BufferError/closed``, ``BufferError/gone``.
  /// - Complexity: O(1), no system call.
  public func copy() throws(BufferError) -> UntrustedBuffer { UntrustedBuffer(try handle.copy()) }

  /// Lets go of the memory, unless it was posted or closed before.
  public func close() { handle.close() }
}

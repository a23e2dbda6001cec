/// Where a ``MessageValue`` writes itself: the end of a message's bytes.
///
/// Nothing throws here. What exceeds a limit of the coder is left out, and encoding the message throws afterwards.
///
/// Belongs to the call that it was given to.
///
/// `@safe`: an ``EntryWriter`` refers to it only while a closure runs. Code that exchanges two writers while both are in
/// use is noticed before either is used again.
@safe public struct ValueWriter: ~Copyable {
  @usableFromInline var bytes: ByteWriter
  /// Where the message began, which tells writers apart.
  @usableFromInline let identity: UnsafeRawPointer
  /// How many containers are around the next value.
  @usableFromInline var depth = 0
  @usableFromInline let maximumDepth: Int
  @usableFromInline var isTooDeep = false

  @unsafe @usableFromInline
  init(borrowing memory: UnsafeMutableRawBufferPointer, _ coder: BinaryMessageCoder) {
    bytes = unsafe ByteWriter(
      borrowing: memory, limit: coder.maximumMessageBytes, keyLimit: coder.maximumKeyBytes)
    unsafe identity = UnsafeRawPointer(bytes.base)
    maximumDepth = coder.maximumNestingDepth
    bytes.append(Tag.version)
  }

  /// Writes a keyed container, as a derived conformance to `Codable` does. `body` writes its entries.
  ///
  /// - Complexity: what `body` takes; 5 bytes beside the entries. `body` is not called if there are too many containers
  ///   around.
  @inlinable @inline(__always)
  public mutating func writeEntries(_ body: (inout EntryWriter) -> Void) {
    guard depth < maximumDepth else { return failForDepth() }
    let start = bytes.count
    bytes.append(Tag.keyed, UInt32(0))
    depth &+= 1
    unsafe withUnsafeMutablePointer(to: &self) { writer in
      var entries = unsafe EntryWriter(writer: writer)
      body(&entries)
      if unsafe entries.writer != writer { Self.failForExchange() }
    }
    depth &-= 1
    bytes.overwrite(
      at: start &+ 1, with: UInt32(truncatingIfNeeded: bytes.count &- start &- Layout.keyedHeaderBytes))
  }

  /// Writes bytes as `[UInt8]` and `Data` do.
  ///
  /// - Complexity: O(bytes): they are copied once.
  public mutating func write(bytes source: RawSpan) {
    guard depth < maximumDepth else { return failForDepth() }
    unsafe source.withUnsafeBytes { source in
      unsafe source.withMemoryRebound(to: UInt8.self) { unsafe bytes.append(array: $0) }
    }
  }

  /// Writes an unkeyed container of that many items, each of which `body` writes.
  @inlinable @inline(__always)
  mutating func writeItems(_ count: Int, _ body: (inout ValueWriter) -> Void) {
    guard depth < maximumDepth else { return failForDepth() }
    let start = bytes.count
    bytes.append(Tag.unkeyed, UInt64(truncatingIfNeeded: count) << 32)
    depth &+= 1
    body(&self)
    depth &-= 1
    // 1: the tag, 4: the length itself.
    bytes.overwrite(at: start &+ 1, with: UInt32(truncatingIfNeeded: bytes.count &- start &- 5))
  }

  /// Writes one value. One that writes nothing becomes an empty container, as with `Codable`.
  @inlinable @inline(__always)
  mutating func write<Value: MessageValue>(_ value: Value) {
    let (start, identity) = unsafe (bytes.count, identity)
    value.write(to: &self)
    if unsafe self.identity != identity { Self.failForExchange() }
    if bytes.count == start { writeNothing() }
  }

  /// Writes an array of numbers that a run can hold; false, and nothing, for arrays of other types.
  @usableFromInline
  mutating func writeRun<Element>(_ array: [Element]) -> Bool {
    let type = DirectType([Element].self)
    guard type.isArray else { return false }
    guard depth < maximumDepth else {
      failForDepth()
      return true
    }
    switch type {
    case .uint8Array: unsafe write(array, of: UInt8.self)
    case .intArray: unsafe write(array, of: Int.self)
    case .int64Array: unsafe write(array, of: Int64.self)
    case .uintArray: unsafe write(array, of: UInt.self)
    case .uint64Array: unsafe write(array, of: UInt64.self)
    case .doubleArray: unsafe write(array, of: Double.self)
    case .floatArray: unsafe write(array, of: Float.self)
    case .int32Array: unsafe write(array, of: Int32.self)
    case .uint32Array: unsafe write(array, of: UInt32.self)
    case .int16Array: unsafe write(array, of: Int16.self)
    case .uint16Array: unsafe write(array, of: UInt16.self)
    case .int8Array: unsafe write(array, of: Int8.self)
    default: return false
    }
    return true
  }

  /// The array must be of such numbers.
  @unsafe
  private mutating func write<Element, Number: PackedScalar>(_ array: [Element], of type: Number.Type) {
    unsafe unsafeBitCast(array, to: [Number].self).withUnsafeBufferPointer { unsafe bytes.append(array: $0) }
  }

  /// The memory of one of the two is gone before the other one.
  @usableFromInline @inline(never)
  static func failForExchange() -> Never { fatalError("a value writer was exchanged with another one") }

  @usableFromInline @inline(never)
  mutating func failForDepth() {
    if !bytes.hasFailed { isTooDeep = true }
    bytes.fail()
  }

  @usableFromInline @inline(never)
  mutating func writeNothing() {
    if !bytes.hasFailed { writeEntries { _ in } }
  }

  /// Writes the value of the message, and calls `body` with the bytes.
  ///
  /// In one piece: a writer that is used in several, outside of its own code, gets a box on the heap.
  @inlinable @inline(__always)
  mutating func withMessage<Value: MessageValue, Result>(
    _ value: Value, _ coder: BinaryMessageCoder, _ body: (RawSpan) throws -> Result
  ) throws -> Result {
    write(value)
    if coder.sortsKeys || coder.hasShortKeyLimit { finishSlowly(sortsKeys: coder.sortsKeys) }
    guard !bytes.hasFailed else { throw failureError(value) }
    return try unsafe body(RawSpan(_unsafeStart: bytes.base, byteCount: bytes.count))
  }

  /// The value that could not be written is the whole message: there is no path.
  @usableFromInline
  func failureError(_ value: Any) -> EncodingError {
    let reason =
      isTooDeep
      ? "The value is nested more than \(maximumDepth) containers deep." : bytes.failureReason
    return .invalidValue(value, .init(codingPath: [], debugDescription: reason))
  }

  /// Ends the message.
  @usableFromInline @inline(never)
  mutating func finishSlowly(sortsKeys: Bool) {
    bytes.checkShortKeys()
    if sortsKeys, !bytes.hasFailed { bytes.sortKeys() }
  }
}

/// Where a ``MessageValue`` writes the entries of its keyed container.
///
/// Belongs to the closure that it was given to.
///
/// `@safe`: the writer outlives the closure, and whoever lends it does not use it meanwhile.
@safe public struct EntryWriter: ~Copyable {
  @usableFromInline let writer: UnsafeMutablePointer<ValueWriter>

  @unsafe @inlinable @inline(__always)
  init(writer: UnsafeMutablePointer<ValueWriter>) { unsafe self.writer = writer }

  /// Writes a value under a key. A key is written once.
  @inlinable @inline(__always)
  public mutating func write<Value: MessageValue>(_ value: Value, forKey key: StaticString) {
    unsafe writer.pointee.bytes.append(key: key)
    unsafe writer.pointee.write(value)
  }

  /// Writes a value under a key, or nothing if it is nil.
  @inlinable @inline(__always)
  public mutating func write<Value: MessageValue>(_ value: Value?, forKey key: StaticString) {
    if let value { write(value, forKey: key) }
  }

  /// Writes a keyed container under a key, whose entries `body` writes.
  @inlinable @inline(__always)
  public mutating func writeEntries(forKey key: StaticString, _ body: (inout EntryWriter) -> Void) {
    unsafe writer.pointee.bytes.append(key: key)
    unsafe writer.pointee.writeEntries(body)
  }
}

extension ByteWriter {
  @inlinable @inline(__always)
  mutating func append(key: StaticString) {
    let byteCount = key.utf8CodeUnitCount
    if byteCount < Int(Layout.longKeyMark) {
      unsafe append(
        UInt8(truncatingIfNeeded: byteCount), UnsafeRawBufferPointer(start: key.utf8Start, count: byteCount))
    } else {
      append(longKey: key)
    }
  }

  @usableFromInline @inline(never)
  mutating func append(longKey key: StaticString) {
    unsafe append(key: KeyBytes(pointer: key.utf8Start, count: key.utf8CodeUnitCount))
  }

  /// Appends an unkeyed container that is a run of these numbers.
  @unsafe
  mutating func append<Number: PackedScalar>(array numbers: UnsafeBufferPointer<Number>) {
    let length = numbers.isEmpty ? 4 : 4 + Layout.runHeaderBytes + numbers.count * MemoryLayout<Number>.size
    // An array that is too long for four bytes is too long for the message, and left out.
    let header = UInt64(UInt32(truncatingIfNeeded: length)) | UInt64(truncatingIfNeeded: numbers.count) << 32
    append(Tag.unkeyed, header)
    if !numbers.isEmpty { unsafe append(run: numbers) }
  }

  var failureReason: String {
    hasLongKey ? "A key is longer than \(keyLimit) bytes." : "The message would be longer than \(limit) bytes."
  }
}

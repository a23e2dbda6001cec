/// Where a ``MessageValue`` reads the entries of its keyed container.
///
/// Keys are found in any order, and at once in the order in which they were written. Of a key that is there twice, one
/// counts, and it is unspecified which.
///
/// Belongs to the closure that it was given to. After an error that the closure catches, other entries can be read.
///
/// `@safe`: the reader outlives the closure, and whoever lends it does not use it meanwhile.
@safe public struct EntryReader: ~Copyable {
  @usableFromInline let reader: UnsafeMutablePointer<ValueReader>
  @usableFromInline let start: Int
  @usableFromInline let end: Int
  @usableFromInline let depth: Int

  @unsafe @inlinable @inline(__always)
  init(reader: UnsafeMutablePointer<ValueReader>, start: Int, end: Int, depth: Int) {
    unsafe self.reader = reader
    (self.start, self.end, self.depth) = (start, end, depth)
  }

  /// Reads the value of a key.
  ///
  /// - Throws: `DecodingError.keyNotFound` if there is none; what reading the value throws, with the key in its path.
  @inlinable @inline(__always)
  public mutating func read<Value: MessageValue>(
    _ type: Value.Type = Value.self, forKey key: StaticString
  ) throws -> Value {
    guard try find(key) else { throw ValueReader.notFound(key) }
    return try readFound(key) { reader in try reader.readValue(Value.self) }
  }

  /// Reads the value of a key; nil if it is nil or not there.
  ///
  /// - Throws: what reading the value throws, with the key in its path.
  @inlinable @inline(__always)
  public mutating func read<Value: MessageValue>(
    _ type: Value?.Type = Value?.self, forKey key: StaticString
  ) throws -> Value? {
    guard try find(key), unsafe !reader.pointee.readNil() else { return nil }
    return try readFound(key) { reader in try reader.readValue(Value.self) }
  }

  /// Reads a keyed container that is the value of a key.
  ///
  /// - Throws: as `read(_:forKey:)`.
  @inlinable @inline(__always)
  public mutating func readEntries<Result>(
    forKey key: StaticString, _ body: (inout EntryReader) throws -> Result
  ) throws -> Result {
    guard try find(key) else { throw ValueReader.notFound(key) }
    return try readFound(key) { reader in try reader.readEntries(body) }
  }

  /// Whether a key is there, with whatever value. Read it next: looking for a key is fastest where the last one was.
  ///
  /// - Throws: `DecodingError` if the message is malformed.
  public mutating func contains(_ key: StaticString) throws -> Bool {
    let offset = unsafe reader.pointee.offset
    let isThere = try find(key)
    unsafe reader.pointee.offset = offset
    return isThere
  }

  /// Goes to the value of a key; false, and where it was, if there is none.
  @inlinable @inline(__always)
  mutating func find(_ key: StaticString) throws -> Bool {
    let length = key.utf8CodeUnitCount
    let offset = unsafe reader.pointee.offset
    if unsafe length <= reader.pointee.shortKeyLimit, length < end &- offset,
      unsafe reader.pointee.base.load(fromByteOffset: offset, as: UInt8.self) == UInt8(truncatingIfNeeded: length),
      unsafe isEqual(reader.pointee.base + (offset &+ 1), key)
    {
      unsafe reader.pointee.offset = offset &+ 1 &+ length
      return true
    }
    return try unsafe search(key.utf8Start, length)
  }

  /// Whether there are the bytes of a key, of which as many are there.
  @unsafe @inlinable @inline(__always)
  func isEqual(_ bytes: UnsafeRawPointer, _ key: StaticString) -> Bool {
    var (offset, length) = (0, key.utf8CodeUnitCount)
    let key = unsafe UnsafeRawPointer(key.utf8Start)
    // The compiler knows how long a key is, and leaves a few comparisons with numbers.
    while length >= 8 {
      guard
        unsafe (bytes + offset).loadUnaligned(as: UInt64.self) == (key + offset).loadUnaligned(as: UInt64.self)
      else { return false }
      (offset, length) = (offset &+ 8, length &- 8)
    }
    if length & 4 != 0 {
      guard
        unsafe (bytes + offset).loadUnaligned(as: UInt32.self) == (key + offset).loadUnaligned(as: UInt32.self)
      else { return false }
      offset &+= 4
    }
    if length & 2 != 0 {
      guard
        unsafe (bytes + offset).loadUnaligned(as: UInt16.self) == (key + offset).loadUnaligned(as: UInt16.self)
      else { return false }
      offset &+= 2
    }
    return unsafe length & 1 == 0 || (bytes + offset).load(as: UInt8.self) == (key + offset).load(as: UInt8.self)
  }

  /// Reads the value that was found. After an error, the reader is behind it.
  @inlinable @inline(__always)
  mutating func readFound<Result>(
    _ key: StaticString, _ body: (inout ValueReader) throws -> Result
  ) throws -> Result {
    let offset = unsafe reader.pointee.offset
    do {
      let result = try unsafe body(&reader.pointee)
      if unsafe reader.pointee.offset == offset { try unsafe reader.pointee.skip() }
      return result
    } catch {
      throw failed(key, at: offset, error)
    }
  }

  @usableFromInline @inline(never)
  func failed(_ key: StaticString, at offset: Int, _ error: any Error) -> any Error {
    unsafe reader.pointee.restore(offset, end, depth)
    unsafe reader.pointee.isOutOfOrder = true
    // A value without an end: nothing can be found behind it.
    do { try unsafe reader.pointee.skip() } catch { unsafe reader.pointee.offset = end }
    return ValueReader.inside(key, error)
  }

  /// Looks at the entries from here to the end, then at those before: as many as there are, for each of the few keys of
  /// a type.
  @unsafe @usableFromInline @inline(never)
  mutating func search(_ key: UnsafePointer<UInt8>, _ length: Int) throws -> Bool {
    let (bytes, expected) = unsafe (reader.pointee.reader, reader.pointee.offset)
    let key = unsafe KeyBytes(pointer: key, count: length)
    for (first, last) in [(expected, end), (start, expected)] {
      var offset = first
      while offset < last {
        guard let (keyStart, keyEnd) = bytes.key(at: offset, before: end) else {
          throw ValueReader.malformed
        }
        if keyEnd &- keyStart == length, bytes.isEqual(at: keyStart, to: key) {
          unsafe reader.pointee.offset = keyEnd
          unsafe reader.pointee.isOutOfOrder = true
          return true
        }
        let value = bytes.value(at: keyEnd, before: end)
        guard value.tag != Tag.invalid else { throw ValueReader.malformed }
        offset = Int(value.end)
      }
    }
    return false
  }
}

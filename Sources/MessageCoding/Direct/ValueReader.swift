/// Where a ``MessageValue`` reads itself: at a value in a message's bytes, which a peer may have chosen.
///
/// Belongs to the call that it was given to.
///
/// `@safe`: every read is compared with `end` first, which is never beyond the bytes; these outlive the call. An
/// ``EntryReader`` refers to it only while a closure runs. Code that exchanges two readers while both are in use is
/// noticed before either is used again.
@safe public struct ValueReader: ~Copyable {
  @usableFromInline let base: UnsafeRawPointer
  @usableFromInline let count: Int
  /// Where the next value is.
  @usableFromInline var offset: Int
  /// The end of the container that it is in.
  @usableFromInline var end: Int
  /// How many containers are around it.
  @usableFromInline var depth = 0
  /// Whether something may not have been looked at: keys that are unknown, or in another order.
  @usableFromInline var isOutOfOrder = false
  @usableFromInline let maximumDepth: Int
  /// The longest key that is looked for where it is expected.
  @usableFromInline let shortKeyLimit: Int
  let maximumKeyBytes: Int

  /// Begins a message, at its value.
  @unsafe @usableFromInline
  init(message bytes: UnsafeRawBufferPointer, _ coder: BinaryMessageCoder) throws {
    guard let base = bytes.baseAddress, bytes.count > 1 else { throw unsafe Self.withoutValue(bytes) }
    guard bytes.count <= coder.maximumMessageBytes else {
      throw Self.corrupted("The message has \(bytes.count) bytes; the limit is \(coder.maximumMessageBytes).")
    }
    let version = unsafe base.load(as: UInt8.self)
    guard version == Tag.version else { throw Self.unknown(version) }
    unsafe self.base = base
    (count, offset, end) = (bytes.count, 1, bytes.count)
    (maximumDepth, maximumKeyBytes) = (coder.maximumNestingDepth, coder.maximumKeyBytes)
    shortKeyLimit = min(maximumKeyBytes, Int(Layout.longKeyMark) - 1)
  }

  /// Reads `bytes` as part of the same message.
  @unsafe @usableFromInline
  init(part bytes: UnsafeRawBufferPointer, of reader: borrowing ValueReader) {
    unsafe base = bytes.baseAddress.unsafelyUnwrapped
    (count, offset, end) = (bytes.count, 0, bytes.count)
    (depth, maximumDepth, maximumKeyBytes) = (reader.depth, reader.maximumDepth, reader.maximumKeyBytes)
    shortKeyLimit = reader.shortKeyLimit
  }

  // MARK: Containers

  /// Reads a keyed container: `body` reads its entries and returns what they make.
  ///
  /// - Throws: `DecodingError` if there is no keyed container, or it is too deep; whatever else `body` throws.
  /// - Complexity: what `body` takes.
  @inlinable @inline(__always)
  public mutating func readEntries<Result>(_ body: (inout EntryReader) throws -> Result) throws -> Result {
    let outerEnd = end
    try enterKeyed()
    let (start, innerEnd, innerDepth) = (offset, end, depth)
    let result = try unsafe withUnsafeMutablePointer(to: &self) { reader in
      var entries = unsafe EntryReader(reader: reader, start: start, end: innerEnd, depth: innerDepth)
      defer { if unsafe entries.reader != reader { Self.failForExchange() } }
      return try body(&entries)
    }
    if offset != innerEnd {
      offset = innerEnd
      isOutOfOrder = true
    }
    end = outerEnd
    depth &-= 1
    return result
  }

  @inlinable @inline(__always)
  mutating func enterKeyed() throws {
    let start = offset &+ Layout.keyedHeaderBytes
    guard start <= end, unsafe base.load(fromByteOffset: offset, as: UInt8.self) == Tag.keyed, depth < maximumDepth
    else { throw mismatch([String: Any].self, Tag.keyed) }
    let length = unsafe Int((base + (offset &+ 1)).loadUnaligned(as: UInt32.self))
    guard length <= end &- start else { throw Self.malformed }
    (offset, end) = (start, start &+ length)
    depth &+= 1
  }

  /// Enters an unkeyed container, and returns the number of its items. ``leaveUnkeyed(_:)`` comes afterwards.
  @usableFromInline
  mutating func enterUnkeyed() throws -> Int {
    guard offset < end, byte == Tag.unkeyed, depth < maximumDepth else { throw mismatch([Any].self, Tag.unkeyed) }
    let value = nextValue
    guard value.tag != Tag.invalid else { throw Self.malformed }
    guard value.end &- value.start >= 4 else { throw Self.corrupted("An unkeyed container has no count.") }
    let items = Int(reader.number(at: Int(value.start), as: UInt32.self))
    (offset, end) = (Int(value.start) &+ 4, Int(value.end))
    // An item takes a byte at least.
    guard items <= end &- offset, items > 0 || offset == end else { throw Self.wrongCount }
    depth &+= 1
    return items
  }

  /// Leaves it: all items were read.
  @usableFromInline
  mutating func leaveUnkeyed(_ outerEnd: Int) throws {
    guard offset == end else { throw Self.wrongCount }
    end = outerEnd
    depth &-= 1
  }

  /// Calls `body` for each item of an unkeyed container, with a reader that is at the item, and its index.
  @inlinable @inline(__always)
  mutating func forEachItem(_ count: Int, _ body: (inout ValueReader, Int) throws -> Void) throws {
    var index = 0
    while index < count {
      if isAtRun {
        try readRun(&index, count, body)
      } else {
        try readItem(index, body)
        index &+= 1
      }
    }
  }

  @inlinable @inline(__always)
  var isAtRun: Bool { unsafe offset < end && base.load(fromByteOffset: offset, as: UInt8.self) & 0xF0 == Tag.run }

  @inlinable @inline(__always)
  mutating func readItem(_ index: Int, _ body: (inout ValueReader, Int) throws -> Void) throws {
    let start = offset
    do { try body(&self, index) } catch { throw Self.inside(index, error) }
    if offset == start { try skip() }
  }

  /// Numbers in a run have no tag: each is given one for whoever reads it.
  @inlinable @inline(never)
  mutating func readRun(
    _ index: inout Int, _ count: Int, _ body: (inout ValueReader, Int) throws -> Void
  ) throws {
    guard let run = enterRun(count &- index) else { throw Self.wrongCount }
    try unsafe withUnsafeTemporaryAllocation(byteCount: 24, alignment: 8) { item in
      for number in 0..<run.count {
        unsafe item.storeBytes(of: Tag.scalar | run.code, as: UInt8.self)
        unsafe (item.baseAddress.unsafelyUnwrapped + 1).copyMemory(
          from: base + (run.start &+ number &* run.byteCount), byteCount: run.byteCount)
        var reader = unsafe ValueReader(
          part: UnsafeRawBufferPointer(rebasing: item[..<(1 &+ run.byteCount)]), of: self)
        try reader.readItem(index, body)
        index &+= 1
      }
    }
    offset = run.end
  }

  /// The run that is next; nil if it does not fit, or has more numbers than that.
  @usableFromInline
  func enterRun(_ most: Int) -> (code: UInt8, byteCount: Int, count: Int, start: Int, end: Int)? {
    guard let run = reader.run(at: offset, before: end), run.count <= most,
      let byteCount = ScalarCode.byteCount(run.code)
    else { return nil }
    return (run.code, byteCount, run.count, run.start, run.end)
  }

  /// The items of an unkeyed container as an array of numbers, if they are one run of such; otherwise nothing is read.
  @usableFromInline
  mutating func readRun<Element>(_ type: [Element].Type, _ count: Int) -> [Element]? {
    guard let run = enterRun(count), run.count == count, run.end == end else { return nil }
    let (direct, code) = (DirectType([Element].self), run.code)
    guard direct.isArray, let array = reader.array(direct, code, run.count, at: run.start) as [Element]? else {
      return nil
    }
    offset = run.end
    return array
  }

  /// Reads bytes as they are written by ``ValueWriter/write(bytes:)``, `[UInt8]` and `Data`.
  ///
  /// - Parameter body: is given the bytes, which are there during the call.
  /// - Throws: `DecodingError`; whatever else `body` throws.
  /// - Complexity: O(1) beside `body`, if the bytes were written as a whole; else they are copied.
  public mutating func readBytes<Result>(_ body: (RawSpan) throws -> Result) throws -> Result {
    let (start, outerEnd) = (offset, end)
    let items = try enterUnkeyed()
    if let run = enterRun(items), run.code == ScalarCode.uint8, run.count == items, run.end == end {
      let result = try unsafe body(RawSpan(_unsafeStart: base + run.start, byteCount: run.count))
      offset = run.end
      try leaveUnkeyed(outerEnd)
      return result
    }
    restore(start, outerEnd, depth &- 1)
    return try unsafe [UInt8](from: &self).withUnsafeBytes { bytes in try unsafe body(bytes.bytes) }
  }

  // MARK: Values

  /// Reads a value by its own code, which must leave the reader of this message here.
  @inlinable @inline(__always)
  mutating func readValue<Value: MessageValue>(_ type: Value.Type) throws -> Value {
    let base = unsafe base
    defer { if unsafe self.base != base { Self.failForExchange() } }
    return try Value(from: &self)
  }

  /// The tag of the next value. There must be one.
  @inlinable @inline(__always)
  var byte: UInt8 { unsafe base.load(fromByteOffset: offset, as: UInt8.self) }

  /// Whether the next value is nil; then it is read.
  @inlinable @inline(__always)
  mutating func readNil() -> Bool {
    guard offset < end, byte == Tag.null else { return false }
    offset &+= 1
    return true
  }

  @usableFromInline
  mutating func readString() throws -> String {
    let value = nextValue
    guard value.isString else { throw mismatch(String.self, value.tag) }
    guard let string = reader.string(from: Int(value.start), to: Int(value.end)) else {
      throw Self.corrupted("A string is not valid UTF-8.")
    }
    offset = Int(value.end)
    return string
  }

  /// An integer in any of its forms.
  @usableFromInline @inline(never)
  mutating func readInteger<Integer: FixedWidthInteger & Decodable>(as type: Integer.Type) throws -> Integer {
    let value = nextValue
    guard value.isScalar else { throw mismatch(type, value.tag) }
    guard let number = reader.integer(type, value) else { throw Self.notRepresentable(type) }
    offset = Int(value.end)
    return number
  }

  /// Of an integer with a tag and one, two, four or eight bytes, all that most programs have.
  @usableFromInline
  mutating func readSigned() -> Int64? {
    guard end &- offset >= 9 else { return nil }
    let start = unsafe base + (offset &+ 1)
    switch byte {
    case Tag.scalar | ScalarCode.int8:
      offset &+= 2
      return unsafe Int64(start.load(as: Int8.self))
    case Tag.scalar | ScalarCode.int16:
      offset &+= 3
      return unsafe Int64(start.loadUnaligned(as: Int16.self))
    case Tag.scalar | ScalarCode.int32:
      offset &+= 5
      return unsafe Int64(start.loadUnaligned(as: Int32.self))
    case Tag.scalar | ScalarCode.int64:
      offset &+= 9
      return unsafe start.loadUnaligned(as: Int64.self)
    default: return nil
    }
  }

  /// A floating-point number from one of another type.
  @usableFromInline @inline(never)
  mutating func readConverted<Number: BinaryFloatingPoint & Decodable>(_ type: Number.Type) throws -> Number {
    let value = nextValue
    guard value.isScalar else { throw mismatch(type, value.tag) }
    guard let number = reader.floatingPoint(type, value) else { throw Self.notRepresentable(type) }
    offset = Int(value.end)
    return number
  }

  /// Passes over a value that nobody wants. What is in it has to be looked at, once all is read.
  @usableFromInline @inline(never)
  mutating func skip() throws {
    let value = nextValue
    guard value.tag != Tag.invalid else { throw Self.malformed }
    offset = Int(value.end)
    isOutOfOrder = true
  }

  var reader: ByteReader { unsafe ByteReader(borrowing: UnsafeRawBufferPointer(start: base, count: count)) }

  var nextValue: BinaryValue { reader.value(at: offset, before: end) }

  /// Goes back to a value, whatever was done since.
  @usableFromInline
  mutating func restore(_ offset: Int, _ end: Int, _ depth: Int) {
    (self.offset, self.end, self.depth) = (offset, end, depth)
  }

  // MARK: The whole message

  /// Ends the message: throws if it is not well formed, or has more than its value.
  @inlinable @inline(__always)
  func finish() throws {
    if offset != count || isOutOfOrder { try checkStructure() }
  }

  /// Looks at all parts of the message, also those that nobody has read.
  @usableFromInline @inline(never)
  func checkStructure() throws {
    let value = reader.value(at: 1, before: count)
    guard value.tag != Tag.invalid else { throw Self.malformed }
    guard value.end == count else {
      throw Self.corrupted("The message has \(count - Int(value.end)) bytes after its value.")
    }
    var openContainers = Stack<OpenContainer>()
    if let fault = reader.fault(in: value, maximumDepth, maximumKeyBytes, &openContainers) {
      throw Self.corrupted(fault)
    }
  }

  /// The error for a message: that it is malformed, if it is, whatever its type noticed first.
  @usableFromInline @inline(never)
  func refusal(_ error: any Error) -> any Error {
    do {
      try checkStructure()
      return error
    } catch { return error }
  }
}

/// The bytes of a message while it is written.
///
/// Bytes that do not fit within the limit are left out, and the writer has failed: callers check that once per value,
/// not once per byte.
///
/// `@safe`: the memory is owned here and the pointer never leaves; every write goes through `reserve` or is checked
/// against the count.
@safe @usableFromInline struct ByteWriter: ~Copyable {
  /// How much memory is kept for the next message.
  private static let keptBytes = 64 << 10

  @usableFromInline var base: UnsafeMutableRawPointer
  private var allocatedBytes: Int
  /// Whether the memory is borrowed: then it is neither freed nor kept.
  @usableFromInline var isBorrowed = false
  /// How many bytes may be written without a look at the limit.
  @usableFromInline var capacity = 0
  private(set) var limit = 0
  private(set) var keyLimit = 0
  @usableFromInline var count = 0

  /// Whether bytes are missing, or `fail` was called. Whatever is written afterwards is useless.
  @usableFromInline var hasFailed = true
  /// Whether it failed because a key is longer than the limit.
  private(set) var hasLongKey = false

  /// Creates a writer that accepts no bytes before it is opened.
  init() {
    allocatedBytes = 512
    unsafe base = .allocate(byteCount: allocatedBytes, alignment: 16)
  }

  /// Creates a writer that begins in memory of the caller's, which outlives it, and opens it.
  @unsafe @usableFromInline
  init(borrowing memory: UnsafeMutableRawBufferPointer, limit: Int, keyLimit: Int) {
    allocatedBytes = memory.count
    // The caller has some.
    unsafe base = memory.baseAddress.unsafelyUnwrapped
    isBorrowed = true
    (self.limit, self.keyLimit) = (limit, keyLimit)
    capacity = Swift.min(allocatedBytes, limit)
    hasFailed = false
  }

  @inlinable
  deinit { if !isBorrowed { unsafe base.deallocate() } }

  /// Begins a message.
  @inline(__always)
  mutating func open(limit: Int, keyLimit: Int) {
    (self.limit, self.keyLimit) = (limit, keyLimit)
    hasLongKey = false
    capacity = Swift.min(allocatedBytes, limit)
    hasFailed = false
  }

  /// Forgets all bytes, and accepts no others.
  mutating func close() {
    (count, capacity, limit, hasFailed) = (0, 0, 0, true)
    if allocatedBytes > Self.keptBytes { reallocate(Self.keptBytes) }
  }

  @usableFromInline mutating func fail() { hasFailed = true }

  mutating func failForLongKey() {
    if !hasFailed { (hasFailed, hasLongKey) = (true, true) }
  }

  // MARK: Appending

  @inlinable @inline(__always)
  mutating func append(_ byte: UInt8) {
    guard reserve(1) else { return }
    unsafe base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
    count &+= 1
  }

  /// Appends a tag and a number.
  @inlinable @inline(__always)
  mutating func append<Number: BitwiseCopyable>(_ tag: UInt8, _ number: Number) {
    guard reserve(1 &+ MemoryLayout<Number>.size) else { return }
    unsafe base.storeBytes(of: tag, toByteOffset: count, as: UInt8.self)
    unsafe (base + (count &+ 1)).storeBytes(of: number, as: Number.self)
    count &+= 1 &+ MemoryLayout<Number>.size
  }

  /// Appends an integer in its shortest form.
  @inlinable @inline(__always)
  mutating func append(integer: Int64) {
    if integer >= 0 && integer < 0x80 {
      append(UInt8(truncatingIfNeeded: integer))
    } else {
      append(longInteger: integer)
    }
  }

  @usableFromInline
  mutating func append(longInteger integer: Int64) {
    if let number = Int8(exactly: integer) {
      append(Tag.scalar | ScalarCode.int8, number)
    } else if let number = Int16(exactly: integer) {
      append(Tag.scalar | ScalarCode.int16, number)
    } else if let number = Int32(exactly: integer) {
      append(Tag.scalar | ScalarCode.int32, number)
    } else {
      append(Tag.scalar | ScalarCode.int64, integer)
    }
  }

  /// Appends an integer of any type in its shortest form.
  @inlinable @inline(__always)
  mutating func append<Integer: FixedWidthInteger>(integer: Integer) {
    if let number = Int64(exactly: integer) {
      append(integer: number)
    } else {
      append(hugeInteger: integer)
    }
  }

  @usableFromInline @inline(never)
  mutating func append<Integer: FixedWidthInteger>(hugeInteger integer: Integer) {
    if let number = UInt64(exactly: integer) {
      append(Tag.scalar | ScalarCode.uint64, number)
    } else if let number = Int128(exactly: integer) {
      append(Tag.scalar | ScalarCode.int128, number)
    } else {
      append(Tag.scalar | ScalarCode.uint128, UInt128(truncatingIfNeeded: integer))
    }
  }

  @inlinable @inline(__always)
  mutating func append(string: String) {
    var string = string
    string.withUTF8 { utf8 in
      let byteCount = utf8.count
      if byteCount <= Layout.maximumShortStringBytes {
        let tag = Tag.shortString | UInt8(truncatingIfNeeded: byteCount)
        unsafe append(tag, UnsafeRawBufferPointer(utf8))
      } else {
        unsafe append(Tag.longString, long: UnsafeRawBufferPointer(utf8))
      }
    }
  }

  @inline(__always)
  mutating func append(key: KeyBytes) {
    let bytes = unsafe UnsafeRawBufferPointer(start: key.pointer, count: key.count)
    if key.count < Int(Layout.longKeyMark) {
      unsafe append(UInt8(truncatingIfNeeded: key.count), bytes)
    } else {
      unsafe append(longKey: bytes)
    }
  }

  @inline(never)
  private mutating func append(longKey bytes: UnsafeRawBufferPointer) {
    guard bytes.count <= keyLimit else { return failForLongKey() }
    unsafe append(Layout.longKeyMark, long: bytes)
  }

  @usableFromInline @inline(never)
  mutating func append(_ tag: UInt8, long bytes: UnsafeRawBufferPointer) {
    // The limit on messages fits into four bytes; longer ones are left out.
    guard reserve(Layout.keyedHeaderBytes &+ bytes.count) else { return }
    append(tag, UInt32(truncatingIfNeeded: bytes.count))
    unsafe append(bytes)
  }

  /// Appends a run of numbers, of which there is one at least.
  mutating func append<Number: PackedScalar>(run numbers: UnsafeBufferPointer<Number>) {
    guard let count = UInt32(exactly: numbers.count) else { return fail() }
    let bytes = UnsafeRawBufferPointer(numbers)
    guard reserve(Layout.runHeaderBytes &+ bytes.count) else { return }
    append(Tag.run | Number.scalarCode, count)
    unsafe append(bytes)
  }

  /// Appends a tag or length, and a few bytes: calling `memcpy` for them would take longer than copying them.
  @inlinable @inline(__always)
  mutating func append(_ tag: UInt8, _ bytes: UnsafeRawBufferPointer) {
    let byteCount = bytes.count
    guard reserve(1 &+ byteCount) else { return }
    unsafe base.storeBytes(of: tag, toByteOffset: count, as: UInt8.self)
    guard byteCount > 0, let source = bytes.baseAddress else {
      count &+= 1
      return
    }
    let target = unsafe base + (count &+ 1)
    if byteCount >= 8 {
      var offset = 0
      while offset <= byteCount &- 8 {
        unsafe (target + offset).storeBytes(of: (source + offset).loadUnaligned(as: UInt64.self), as: UInt64.self)
        offset &+= 8
      }
      // The last eight bytes, of which some may have been copied already.
      let last = byteCount &- 8
      unsafe (target + last).storeBytes(of: (source + last).loadUnaligned(as: UInt64.self), as: UInt64.self)
    } else {
      if byteCount >= 4 {
        let last = byteCount &- 4
        unsafe target.storeBytes(of: source.loadUnaligned(as: UInt32.self), as: UInt32.self)
        unsafe (target + last).storeBytes(of: (source + last).loadUnaligned(as: UInt32.self), as: UInt32.self)
      } else {
        for offset in 0..<byteCount {
          unsafe (target + offset).storeBytes(of: (source + offset).load(as: UInt8.self), as: UInt8.self)
        }
      }
    }
    count &+= 1 &+ byteCount
  }

  private mutating func append(_ bytes: UnsafeRawBufferPointer) {
    guard reserve(bytes.count), let source = bytes.baseAddress else { return }
    unsafe (base + count).copyMemory(from: source, byteCount: bytes.count)
    count &+= bytes.count
  }

  // MARK: Changing what is written

  /// Overwrites four bytes; does nothing if they were left out.
  @inlinable @inline(__always)
  mutating func overwrite(at offset: Int, with number: UInt32) {
    guard offset >= 0, offset &+ 4 <= count else { return }
    unsafe (base + offset).storeBytes(of: number, as: UInt32.self)
  }

  mutating func overwrite(at offset: Int, with byte: UInt8) {
    guard offset >= 0, offset < count else { return }
    unsafe base.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self)
  }

  mutating func overwrite(at offset: Int, with source: [UInt8]) {
    guard offset >= 0, source.count <= count - offset else { return }
    unsafe source.withUnsafeBytes {
      unsafe UnsafeMutableRawBufferPointer(start: base + offset, count: $0.count).copyMemory(from: $0)
    }
  }

  /// Removes ranges of bytes, which are in order and do not overlap.
  mutating func remove(_ ranges: [Range<Int>]) {
    guard var target = ranges.first?.lowerBound else { return }
    for (index, range) in ranges.enumerated() {
      let end = index + 1 < ranges.count ? ranges[index + 1].lowerBound : count
      precondition(target >= 0 && target <= range.lowerBound && range.upperBound <= end && end <= count, "bad ranges")
      let kept = end - range.upperBound
      unsafe UnsafeMutableRawBufferPointer(start: base + target, count: kept).copyMemory(
        from: UnsafeRawBufferPointer(start: base + range.upperBound, count: kept))
      target += kept
    }
    count = target
  }

  mutating func truncate(to newCount: Int) {
    if newCount >= 0 && newCount < count { count = newCount }
  }

  /// Moves the bytes from `tail` to the end so that they begin at `offset`, and removes `removed` bytes that were
  /// there.
  mutating func moveTail(from tail: Int, to offset: Int, removing removed: Int) {
    guard offset >= 0, removed >= 0, offset + removed <= tail, tail <= count else { return fail() }
    let moved = UnsafeMutableRawBufferPointer.allocate(byteCount: count - tail, alignment: 1)
    defer { unsafe moved.deallocate() }
    unsafe moved.copyMemory(from: UnsafeRawBufferPointer(start: base + tail, count: moved.count))
    unsafe (base + offset + moved.count).copyMemory(
      from: base + offset + removed, byteCount: tail - offset - removed)
    unsafe UnsafeMutableRawBufferPointer(start: base + offset, count: moved.count).copyMemory(
      from: UnsafeRawBufferPointer(moved))
    count -= removed
  }

  // MARK: Reading what is written

  func makeArray() -> [UInt8] {
    unsafe [UInt8](UnsafeRawBufferPointer(start: base, count: count))
  }

  /// The key at this offset, or nil if it was left out.
  func key(at offset: Int) -> String? {
    withReader { reader in
      reader.key(at: offset, before: count).flatMap { reader.string(from: $0.start, to: $0.end) }
    }
  }

  /// Calls `body` with a reader of the bytes, which is useless afterwards.
  func withReader<Result>(_ body: (ByteReader) -> Result) -> Result {
    unsafe body(ByteReader(borrowing: UnsafeRawBufferPointer(start: base, count: count)))
  }

  // MARK: Memory

  /// Makes room for `byteCount` more bytes, or fails.
  @inlinable @inline(__always)
  mutating func reserve(_ byteCount: Int) -> Bool {
    capacity &- count >= byteCount ? true : grow(byteCount)
  }

  @usableFromInline @inline(never)
  mutating func grow(_ byteCount: Int) -> Bool {
    guard !hasFailed, byteCount <= limit - count else {
      hasFailed = true
      return false
    }
    // The sum is within the limit, which fits into four bytes.
    capacity = Swift.min(Swift.max(allocatedBytes * 2, count + byteCount), limit)
    reallocate(capacity)
    return true
  }

  private mutating func reallocate(_ byteCount: Int) {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: 16)
    unsafe memory.copyMemory(from: base, byteCount: count)
    if !isBorrowed { unsafe base.deallocate() }
    isBorrowed = false
    unsafe base = memory
    allocatedBytes = byteCount
  }
}

/// The bytes of a message while it is read.
///
/// `@safe`: every read is checked against the count, whatever the message says. The checks never fail, because readers
/// first compare what the message says with the end of the container. The pointer is valid because whoever borrows the
/// bytes replaces the reader of a ``DecodingState`` that outlives them.
@safe struct ByteReader {
  private let base: UnsafeRawPointer?
  let count: Int

  /// A reader of nothing.
  init() {
    unsafe base = nil
    count = 0
  }

  @unsafe
  init(borrowing bytes: UnsafeRawBufferPointer) {
    unsafe base = bytes.baseAddress
    count = bytes.count
  }

  @inline(__always)
  func byte(at offset: Int) -> UInt8 { number(at: offset) }

  @inline(__always)
  func number<Number: BitwiseCopyable>(at offset: Int, as type: Number.Type = Number.self) -> Number {
    unsafe pointer(offset, MemoryLayout<Number>.size).loadUnaligned(as: type)
  }

  /// Like `number`, for bytes that are known to be within the count.
  @unsafe @inline(__always)
  func uncheckedNumber<Number: BitwiseCopyable>(at offset: Int, as type: Number.Type = Number.self) -> Number {
    unsafe (base.unsafelyUnwrapped + offset).loadUnaligned(as: type)
  }

  /// The string with these bytes, or nil if they are not UTF-8.
  @inline(__always)
  func string(from start: Int, to end: Int) -> String? {
    guard start != end else { return "" }
    if isShortASCII(start, end) {
      return unsafe String(unsafeUninitializedCapacity: end &- start) { text in
        unsafe UnsafeMutableRawBufferPointer(text).copyMemory(
          from: UnsafeRawBufferPointer(start: pointer(start, end &- start), count: end &- start))
        return end &- start
      }
    }
    let bytes = unsafe RawSpan(_unsafeStart: pointer(start, end &- start), byteCount: end &- start)
    let utf8 = Span<UInt8>(_bytes: bytes)
    guard let text = try? UTF8Span(validating: utf8) else { return nil }
    return String(copying: text)
  }

  /// Whether these bytes are ASCII, and a string has room for them in itself. False also at the message's end.
  @inline(__always)
  private func isShortASCII(_ start: Int, _ end: Int) -> Bool {
    let length = end &- start
    guard length <= 15, start &+ 16 <= count else { return false }
    let (low, high) = (number(at: start, as: UInt64.self), number(at: start &+ 8, as: UInt64.self))
    // Shifts out what is behind the string. A shift by 64 leaves nothing.
    let text =
      length < 8
      ? low << (UInt64(truncatingIfNeeded: 8 &- length) &* 8)
      : low | high << (UInt64(truncatingIfNeeded: 16 &- length) &* 8)
    return text & 0x8080_8080_8080_8080 == 0
  }

  /// Whether these bytes are UTF-8. Most keys are short and ASCII, as one look at eight bytes shows.
  @inline(__always)
  func isText(from start: Int, to end: Int) -> Bool {
    let (nonASCII, length) = (0x8080_8080_8080_8080 as UInt64, end &- start)
    guard length <= 8, start &+ 8 <= count else { return isUnicode(start, end) }
    // Shifts out what is behind the key, also if that is empty.
    let unused = UInt64(truncatingIfNeeded: 8 &- length) &* 8
    return number(at: start, as: UInt64.self) << unused & nonASCII == 0 || isUnicode(start, end)
  }

  @inline(never)
  private func isUnicode(_ start: Int, _ end: Int) -> Bool {
    let bytes = unsafe RawSpan(_unsafeStart: pointer(start, end &- start), byteCount: end &- start)
    return (try? UTF8Span(validating: Span<UInt8>(_bytes: bytes))) != nil
  }

  func array<Number: PackedScalar>(of count: Int, at offset: Int) -> [Number] {
    guard count > 0 else { return [] }
    let byteCount = count * MemoryLayout<Number>.size
    let source = unsafe pointer(offset, byteCount)
    return unsafe [Number](unsafeUninitializedCapacity: count) { buffer, initializedCount in
      unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(
        from: UnsafeRawBufferPointer(start: source, count: byteCount))
      initializedCount = count
    }
  }

  /// The bytes of the key at `offset`, or nil if it does not end before `end`.
  @inline(__always)
  func key(at offset: Int, before end: Int) -> (start: Int, end: Int)? {
    guard offset < end else { return nil }
    let length = byte(at: offset)
    if length != Layout.longKeyMark {
      let start = offset &+ 1
      return Int(length) <= end &- start ? (start, start &+ Int(length)) : nil
    }
    guard end &- offset >= Layout.keyedHeaderBytes else { return nil }
    let start = offset &+ Layout.keyedHeaderBytes
    let longLength = Int(number(at: offset &+ 1, as: UInt32.self))
    return longLength <= end &- start ? (start, start &+ longLength) : nil
  }

  /// Whether the bytes at `offset` are those of a key. There must be that many.
  @inline(__always)
  func isEqual(at offset: Int, to key: KeyBytes) -> Bool {
    guard key.count > 0 else { return true }
    _ = unsafe pointer(offset, key.count)
    return unsafe uncheckedIsEqual(at: offset, to: key)
  }

  /// Like `isEqual`, for bytes that are known to be within the count.
  @unsafe @inline(__always)
  func uncheckedIsEqual(at offset: Int, to key: KeyBytes) -> Bool {
    var count = key.count
    guard count > 0, var other = unsafe UnsafeRawPointer(key.pointer) else { return true }
    var pointer = unsafe base.unsafelyUnwrapped + offset
    // Keys are short, and `memcmp` would mean importing a C library.
    while count >= 8 {
      guard unsafe pointer.loadUnaligned(as: UInt64.self) == other.loadUnaligned(as: UInt64.self) else { return false }
      unsafe (pointer, other, count) = (pointer + 8, other + 8, count &- 8)
    }
    if count & 4 != 0 {
      guard unsafe pointer.loadUnaligned(as: UInt32.self) == other.loadUnaligned(as: UInt32.self) else { return false }
      unsafe (pointer, other) = (pointer + 4, other + 4)
    }
    if count & 2 != 0 {
      guard unsafe pointer.loadUnaligned(as: UInt16.self) == other.loadUnaligned(as: UInt16.self) else { return false }
      unsafe (pointer, other) = (pointer + 2, other + 2)
    }
    return unsafe count & 1 == 0 || pointer.load(as: UInt8.self) == other.load(as: UInt8.self)
  }

  /// The run at `offset` of an unkeyed container that ends at `end`, or nil if there is none, or one that does not fit.
  @inline(__always)
  func run(at offset: Int, before end: Int) -> (code: UInt8, count: Int, start: Int, end: Int)? {
    guard offset < end else { return nil }
    let tag = byte(at: offset)
    guard tag & 0xF0 == Tag.run, let byteCount = ScalarCode.byteCount(tag & 0x0F) else { return nil }
    let start = offset &+ Layout.runHeaderBytes
    guard start <= end else { return nil }
    let count = Int(number(at: offset &+ 1, as: UInt32.self))
    // Neither the product nor the sum overflows: the count has four bytes.
    guard count > 0, count &* byteCount <= end &- start else { return nil }
    return (tag & 0x0F, count, start, start &+ count &* byteCount)
  }

  /// Calls `body` with bytes of the message.
  @inline(__always)
  func withBytes<Result>(from start: Int, to end: Int, _ body: (UnsafeBufferPointer<UInt8>) -> Result) -> Result {
    guard start < end else { return unsafe body(UnsafeBufferPointer(start: nil, count: 0)) }
    let bytes = unsafe pointer(start, end &- start).assumingMemoryBound(to: UInt8.self)
    return unsafe body(UnsafeBufferPointer(start: bytes, count: end &- start))
  }

  /// Calls `body` with a key of the message.
  @inline(__always)
  func withKey<Result>(from start: Int, to end: Int, _ body: (KeyBytes) -> Result) -> Result {
    guard start < end else { return unsafe body(KeyBytes(pointer: nil, count: 0)) }
    let bytes = unsafe pointer(start, end &- start).assumingMemoryBound(to: UInt8.self)
    return unsafe body(KeyBytes(pointer: bytes, count: end &- start))
  }

  @inline(__always)
  private func pointer(_ offset: Int, _ byteCount: Int) -> UnsafeRawPointer {
    precondition(offset >= 0 && byteCount >= 0 && byteCount <= count &- offset, "A read out of bounds.")
    // A nonempty range within the count: there is memory.
    return unsafe base.unsafelyUnwrapped + offset
  }
}

extension ByteReader {
  /// Copies everything to `target`, which has the same size.
  @unsafe
  fileprivate func copy(to target: UnsafeMutableRawBufferPointer) {
    if let base = unsafe base { unsafe target.copyMemory(from: UnsafeRawBufferPointer(start: base, count: count)) }
  }
}

/// A copy of bytes, for a reader that must outlive the original.
///
/// `@safe`: the memory lives as long as this object, which the holder of the reader keeps.
@safe final class ByteCopy {
  private let bytes: UnsafeMutableRawBufferPointer

  init(_ original: ByteReader) {
    unsafe bytes = .allocate(byteCount: original.count, alignment: 1)
    unsafe original.copy(to: bytes)
  }

  deinit { unsafe bytes.deallocate() }

  var reader: ByteReader { unsafe ByteReader(borrowing: UnsafeRawBufferPointer(bytes)) }
}

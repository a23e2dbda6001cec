/// A value in the bytes of a message: its tag, and where the rest is.
struct BinaryValue: BitwiseCopyable {
  let tag: UInt8
  /// Behind the tag and the length, if there is one.
  let start: UInt32
  let end: UInt32

  /// Does not fit into its container, or has an invalid tag.
  static let invalid = BinaryValue(tag: Tag.invalid, start: 0, end: 0)
  /// Stands for the value of a missing key where `Codable` wants a decoder of it.
  static let null = BinaryValue(tag: Tag.null, start: 0, end: 0)

  @inline(__always)
  init(tag: UInt8, start: UInt32, end: UInt32) {
    (self.tag, self.start, self.end) = (tag, start, end)
  }

  @inline(__always)
  init(tag: UInt8, start: Int, end: Int) {
    // Messages are no longer than what four bytes can count.
    self.init(tag: tag, start: UInt32(truncatingIfNeeded: start), end: UInt32(truncatingIfNeeded: end))
  }

  var isContainer: Bool { tag & 0xFE == Tag.keyed }
  var isString: Bool { tag & 0xC0 == Tag.shortString || tag == Tag.longString }
  var isScalar: Bool { tag < 0x80 || (Tag.scalar...Tag.scalar | ScalarCode.double).contains(tag) }
  /// Of a form to which a later version of the format may have given a meaning.
  var isReserved: Bool {
    switch tag {
    case 0xC6...0xCF, 0xDC...0xDF, 0xEC...0xFD: true
    default: false
    }
  }
}

extension ByteReader {
  /// The value at `offset` of a container that ends at `end`. Looks at nothing but the tag and the length.
  @inline(__always)
  func value(at offset: Int, before end: Int) -> BinaryValue {
    precondition(offset >= 0 && end <= count, "A container out of bounds.")
    return unsafe uncheckedValue(at: offset, before: end)
  }

  /// Like `value`, if the end is known to be within the count.
  @unsafe @inline(__always)
  func uncheckedValue(at offset: Int, before end: Int) -> BinaryValue {
    guard offset < end else { return .invalid }
    let tag: UInt8 = unsafe uncheckedNumber(at: offset)
    let start = offset &+ 1
    if tag < Tag.null {
      // A small integer is all tag; a short string has its length there.
      let valueEnd = tag < Tag.shortString ? start : start &+ Int(tag & 0x3F)
      return valueEnd <= end ? BinaryValue(tag: tag, start: start, end: valueEnd) : .invalid
    }
    if tag & 0xF0 == Tag.scalar, let byteCount = ScalarCode.byteCount(tag & 0x0F) {
      return byteCount <= end &- start ? BinaryValue(tag: tag, start: start, end: start &+ byteCount) : .invalid
    }
    switch tag {
    case Tag.null, Tag.false, Tag.true:
      return BinaryValue(tag: tag, start: start, end: start)
    case Tag.run...Tag.run | ScalarCode.double, Tag.absent...Tag.invalid:
      return .invalid
    default:
      // Strings, containers, and reserved forms: whatever those will be, they can be skipped.
      guard end &- start >= 4 else { return .invalid }
      let length = unsafe Int(uncheckedNumber(at: start, as: UInt32.self))
      guard length <= end &- start &- 4 else { return .invalid }
      return BinaryValue(tag: tag, start: start &+ 4, end: start &+ 4 &+ length)
    }
  }
}

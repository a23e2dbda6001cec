/// A value in the bytes of a message: its tag, and where the rest of it is.
struct BinaryValue: BitwiseCopyable {
  let tag: UInt8
  /// Behind the tag and the length, if there is one.
  let start: UInt32
  let end: UInt32

  /// Does not fit into its container, or has a reserved tag.
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

  var isString: Bool { tag & 0xC0 == Tag.shortString || tag == Tag.longString }
  var isScalar: Bool { tag < 0x80 || tag & 0xF0 == Tag.scalar }
}

extension ByteReader {
  /// The value at `offset` of a container that ends at `end`. Only the tag and the length are looked at.
  @inline(__always)
  func value(at offset: Int, before end: Int) -> BinaryValue {
    guard offset < end else { return .invalid }
    let tag = byte(at: offset)
    let start = offset &+ 1
    if tag < Tag.null {
      // A small integer is all tag; a short string has its length there.
      let valueEnd = tag < Tag.shortString ? start : start &+ Int(tag & 0x3F)
      return valueEnd <= end ? BinaryValue(tag: tag, start: start, end: valueEnd) : .invalid
    }
    if tag & 0xF0 == Tag.scalar {
      guard let byteCount = ScalarCode.byteCount(tag & 0x0F), byteCount <= end &- start else { return .invalid }
      return BinaryValue(tag: tag, start: start, end: start &+ byteCount)
    }
    switch tag {
    case Tag.null, Tag.false, Tag.true:
      return BinaryValue(tag: tag, start: start, end: start)
    case Tag.longString, Tag.keyed, Tag.unkeyed:
      guard end &- start >= 4 else { return .invalid }
      let length = Int(number(at: start, as: UInt32.self))
      guard length <= end &- start &- 4 else { return .invalid }
      return BinaryValue(tag: tag, start: start &+ 4, end: start &+ 4 &+ length)
    default:
      return .invalid
    }
  }
}

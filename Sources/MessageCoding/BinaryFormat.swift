// The bytes of one message, version 1. All integers are little-endian and unaligned.
//
//     message   ┌─────────┬───────┐
//               │ 0xB1    │ value │                                   nothing may follow
//               └─────────┴───────┘
//     value     ┌─────────┐
//               │ 00…7F   │                                           the integer 0…127
//               ├─────────┼────────────────┐
//               │ 80…BF   │ 0…63 bytes     │                          a string in UTF-8, length in the low six bits
//               ├─────────┼────────────────┘
//               │ C0…C2   │                                           nil, false, true
//               ├─────────┼──────────────┬──────────────────┐
//               │ C3      │ length: 4 B  │ length bytes     │         a longer string in UTF-8
//               ├─────────┼──────────────┼──────────────────┤
//               │ C4      │ length: 4 B  │ entry, entry, …  │         keyed container, length is that of all entries
//               ├─────────┼──────────────┼──────────┬───────┴───────┐
//               │ C5      │ length: 4 B  │ count: 4 │ item, item, … │ unkeyed container, length is that of count and items
//               ├─────────┼──────────────┼──────────┴───────────────┘
//               │ D0…DB   │ 1…16 bytes   │                            a number, see `ScalarCode`
//               ├─────────┼──────────────┼──────────────────┐
//               │ reserved│ length: 4 B  │ length bytes     │         C6…CF, DC…DF, EC…FD: skipped, not decoded
//               └─────────┴──────────────┴──────────────────┘
//     entry     ┌─────────┬───────────────────┬───────┐
//               │ 00…FE   │ 0…254 bytes       │ value │               key in UTF-8, length before it
//               ├─────────┼─────────────┬─────┴───────┼───────┐
//               │ FF      │ length: 4 B │ key in UTF-8│ value │       a longer key
//               └─────────┴─────────────┴─────────────┴───────┘
//     item      a value, or a run of numbers of one type, which stands for as many items:
//               ┌─────────┬──────────────┬──────────────────────┐
//               │ E0…EB   │ count: 4 B   │ count numbers, no tag│      type in the low four bits, see `ScalarCode`
//               └─────────┴──────────────┴──────────────────────┘
//
// A writer uses the shortest form of an integer; a reader takes every form. A reserved tag stands for one value or item
// of a form that a later version may add: a reader that does not know it can skip it by its length, but not decode it.
// E0…EB outside of unkeyed containers, FE and FF are errors for good. A container's length makes skipping it one
// addition; it is four bytes wide so that it can be filled in after the contents.

#if !_endian(little)
  #error("Runs of numbers are copied as they are in memory, so the format needs a little-endian machine.")
#endif

/// The first bytes of values: what follows them is drawn above.
@usableFromInline enum Tag {
  @inlinable static var version: UInt8 { 0xB1 }

  @inlinable static var shortString: UInt8 { 0x80 }
  @inlinable static var null: UInt8 { 0xC0 }
  @inlinable static var `false`: UInt8 { 0xC1 }
  @inlinable static var `true`: UInt8 { 0xC2 }
  @inlinable static var longString: UInt8 { 0xC3 }
  @inlinable static var keyed: UInt8 { 0xC4 }
  @inlinable static var unkeyed: UInt8 { 0xC5 }
  @inlinable static var scalar: UInt8 { 0xD0 }
  @inlinable static var run: UInt8 { 0xE0 }

  /// Never written. A reader's mark for a value that does not fit into its container, or has an invalid tag.
  @inlinable static var invalid: UInt8 { 0xFF }
  /// Never written. A reader's mark for the value of a key that is not there.
  @inlinable static var absent: UInt8 { 0xFE }
}

/// Sizes of the parts of containers and keys.
@usableFromInline enum Layout {
  /// Tag and length.
  @inlinable static var keyedHeaderBytes: Int { 5 }
  /// Tag, length and count.
  @inlinable static var unkeyedHeaderBytes: Int { 9 }
  /// Tag and count.
  @inlinable static var runHeaderBytes: Int { 5 }
  /// The longest string whose length is part of its tag.
  @inlinable static var maximumShortStringBytes: Int { 0x3F }
  /// In place of a key's length: the length follows, as four bytes.
  @inlinable static var longKeyMark: UInt8 { 0xFF }
}

/// The type of a number, in the low four bits of its tag.
@usableFromInline enum ScalarCode {
  @inlinable static var int8: UInt8 { 0 }
  @inlinable static var int16: UInt8 { 1 }
  @inlinable static var int32: UInt8 { 2 }
  @inlinable static var int64: UInt8 { 3 }
  @inlinable static var int128: UInt8 { 4 }
  @inlinable static var uint8: UInt8 { 5 }
  @inlinable static var uint16: UInt8 { 6 }
  @inlinable static var uint32: UInt8 { 7 }
  @inlinable static var uint64: UInt8 { 8 }
  @inlinable static var uint128: UInt8 { 9 }
  @inlinable static var float: UInt8 { 10 }
  @inlinable static var double: UInt8 { 11 }

  /// The size of a number in bytes, or nil for a reserved code.
  @inlinable @inline(__always)
  static func byteCount(_ code: UInt8) -> Int? {
    code <= double ? 1 &<< Int(truncatingIfNeeded: (sizeLogarithms &>> (UInt64(code) &* 4)) & 0xF) : nil
  }

  /// Four bits for each code, from the lowest: how often a size of one byte is doubled.
  @inlinable static var sizeLogarithms: UInt64 { 0x0000_3243_2104_3210 }
}

/// A number that a run holds as it is in memory.
protocol PackedScalar: BitwiseCopyable, Codable, Sendable {
  static var scalarCode: UInt8 { get }
}

extension Int8: PackedScalar { static var scalarCode: UInt8 { ScalarCode.int8 } }
extension Int16: PackedScalar { static var scalarCode: UInt8 { ScalarCode.int16 } }
extension Int32: PackedScalar { static var scalarCode: UInt8 { ScalarCode.int32 } }
extension Int64: PackedScalar { static var scalarCode: UInt8 { ScalarCode.int64 } }
extension Int128: PackedScalar { static var scalarCode: UInt8 { ScalarCode.int128 } }
extension UInt8: PackedScalar { static var scalarCode: UInt8 { ScalarCode.uint8 } }
extension UInt16: PackedScalar { static var scalarCode: UInt8 { ScalarCode.uint16 } }
extension UInt32: PackedScalar { static var scalarCode: UInt8 { ScalarCode.uint32 } }
extension UInt64: PackedScalar { static var scalarCode: UInt8 { ScalarCode.uint64 } }
extension UInt128: PackedScalar { static var scalarCode: UInt8 { ScalarCode.uint128 } }
extension Float: PackedScalar { static var scalarCode: UInt8 { ScalarCode.float } }
extension Double: PackedScalar { static var scalarCode: UInt8 { ScalarCode.double } }

// The format has no word size: a message may cross from a process to one with another width of `Int`.
#if _pointerBitWidth(_64)
  extension Int: PackedScalar { static var scalarCode: UInt8 { ScalarCode.int64 } }
  extension UInt: PackedScalar { static var scalarCode: UInt8 { ScalarCode.uint64 } }
#else
  #error("Offsets of up to four gigabytes are computed in Int, without checks for overflow.")
#endif

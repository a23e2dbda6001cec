// A line for each type, of which the formatter would make two or more.
// swift-format-ignore
/// The types of the standard library that are coded without their own `encode(to:)` and `init(from:)`.
///
/// Those would give the same result, or for arrays an equal value in another form. A generic `encode` or `decode` often
/// gets one of these: an element of an array, the value of an optional.
enum DirectType {
  case other
  case bool, string, float, double
  case int, int8, int16, int32, int64, int128, uint, uint8, uint16, uint32, uint64, uint128
  case uint8Array, intArray, doubleArray, floatArray, int32Array, uint32Array
  case int64Array, uint64Array, uintArray, int16Array, uint16Array, int8Array

  /// Whether it is an array of numbers that a run holds.
  var isArray: Bool {
    switch self {
    case .uint8Array, .intArray, .doubleArray, .floatArray, .int32Array, .uint32Array, .int64Array, .uint64Array, .uintArray,
      .int16Array, .uint16Array, .int8Array:
      true
    default: false
    }
  }

  /// Sizes come first because they are at hand, and spare most other types all comparisons.
  @inline(__always)
  init<T>(_ type: T.Type) {
    self =
      switch MemoryLayout<T>.size {
      case 1: Self.oneByte(type)
      case 2: Self.twoBytes(type)
      case 4: Self.fourBytes(type)
      case 8: Self.eightBytes(type)
      case 16: Self.sixteenBytes(type)
      default: .other
      }
  }

  private static func oneByte(_ type: Any.Type) -> Self {
    if type == UInt8.self { .uint8 }
    else if type == Int8.self { .int8 }
    else if type == Bool.self { .bool }
    else { .other }
  }

  private static func twoBytes(_ type: Any.Type) -> Self {
    if type == UInt16.self { .uint16 }
    else if type == Int16.self { .int16 }
    else { .other }
  }

  private static func fourBytes(_ type: Any.Type) -> Self {
    if type == Float.self { .float }
    else if type == Int32.self { .int32 }
    else if type == UInt32.self { .uint32 }
    else { .other }
  }

  private static func eightBytes(_ type: Any.Type) -> Self {
    if type == Int.self { .int }
    else if type == Double.self { .double }
    else if type == Int64.self { .int64 }
    else if type == UInt64.self { .uint64 }
    else if type == UInt.self { .uint }
    else if type == [UInt8].self { .uint8Array }
    else if type == [Int].self { .intArray }
    else if type == [Double].self { .doubleArray }
    else if type == [Float].self { .floatArray }
    else if type == [Int32].self { .int32Array }
    else if type == [UInt32].self { .uint32Array }
    else if type == [Int64].self { .int64Array }
    else if type == [UInt64].self { .uint64Array }
    else if type == [UInt].self { .uintArray }
    else if type == [Int16].self { .int16Array }
    else if type == [UInt16].self { .uint16Array }
    else if type == [Int8].self { .int8Array }
    else { .other }
  }

  private static func sixteenBytes(_ type: Any.Type) -> Self {
    if type == String.self { .string }
    else if type == Int128.self { .int128 }
    else if type == UInt128.self { .uint128 }
    else { .other }
  }
}

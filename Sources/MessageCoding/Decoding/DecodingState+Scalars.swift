// Values of the types that the format knows, by the rules of Foundation's JSON coder: integers and floating-point
// numbers decode as one another if the value can be represented; everything else, only as its own kind.
extension DecodingState {
  @inline(__always)
  func boolean(_ value: BinaryValue, at place: DecodingStep) throws -> Bool {
    if value.tag == Tag.true { return true }
    if value.tag == Tag.false { return false }
    throw mismatch(Bool.self, value, at: place)
  }

  @inline(__always)
  func string(_ value: BinaryValue, at place: DecodingStep) throws -> String {
    guard value.isString else { throw mismatch(String.self, value, at: place) }
    guard let string = reader.string(from: Int(value.start), to: Int(value.end)) else {
      throw corrupted("A string is not valid UTF-8.", place)
    }
    return string
  }

  @inline(__always)
  func integer<Integer: FixedWidthInteger & Decodable>(
    _ type: Integer.Type, _ value: BinaryValue, at place: DecodingStep
  ) throws -> Integer {
    if value.tag < Tag.shortString { return Integer(truncatingIfNeeded: value.tag) }
    return try longInteger(type, value, at: place)
  }

  private func longInteger<Integer: FixedWidthInteger & Decodable>(
    _ type: Integer.Type, _ value: BinaryValue, at place: DecodingStep
  ) throws -> Integer {
    guard value.isScalar else { throw mismatch(type, value, at: place) }
    guard let result = reader.integer(type, value) else { throw notRepresentable(type, place) }
    return result
  }

  @inline(__always)
  func double(_ value: BinaryValue, at place: DecodingStep) throws -> Double {
    if value.tag == Tag.scalar | ScalarCode.double { return reader.number(at: Int(value.start)) }
    return try convertedNumber(Double.self, value, at: place)
  }

  @inline(__always)
  func float(_ value: BinaryValue, at place: DecodingStep) throws -> Float {
    if value.tag == Tag.scalar | ScalarCode.float { return reader.number(at: Int(value.start)) }
    return try convertedNumber(Float.self, value, at: place)
  }

  /// A floating-point number from one of another type, rounded if necessary.
  private func convertedNumber<Number: BinaryFloatingPoint & Decodable>(
    _ type: Number.Type, _ value: BinaryValue, at place: DecodingStep
  ) throws -> Number {
    guard value.isScalar else { throw mismatch(type, value, at: place) }
    guard let result = reader.floatingPoint(type, value) else { throw notRepresentable(type, place) }
    return result
  }

  private func notRepresentable(_ type: Any.Type, _ place: DecodingStep) -> DecodingError {
    corrupted("The number is not representable in \(type).", place)
  }
}

extension ByteReader {
  /// A scalar as an integer; nil if the type cannot represent it.
  func integer<Integer: FixedWidthInteger>(_ type: Integer.Type, _ value: BinaryValue) -> Integer? {
    if value.tag < Tag.shortString { return Integer(truncatingIfNeeded: value.tag) }
    let start = Int(value.start)
    return switch value.tag & 0x0F {
    case ScalarCode.int8: Integer(exactly: number(at: start, as: Int8.self))
    case ScalarCode.int16: Integer(exactly: number(at: start, as: Int16.self))
    case ScalarCode.int32: Integer(exactly: number(at: start, as: Int32.self))
    case ScalarCode.int64: Integer(exactly: number(at: start, as: Int64.self))
    case ScalarCode.int128: Integer(exactly: number(at: start, as: Int128.self))
    case ScalarCode.uint8: Integer(exactly: number(at: start, as: UInt8.self))
    case ScalarCode.uint16: Integer(exactly: number(at: start, as: UInt16.self))
    case ScalarCode.uint32: Integer(exactly: number(at: start, as: UInt32.self))
    case ScalarCode.uint64: Integer(exactly: number(at: start, as: UInt64.self))
    case ScalarCode.uint128: Integer(exactly: number(at: start, as: UInt128.self))
    case ScalarCode.float: Integer(exactly: number(at: start, as: Float.self))
    case ScalarCode.double: Integer(exactly: number(at: start, as: Double.self))
    default: nil
    }
  }

  /// A scalar as a floating-point number, rounded if necessary; nil if it is too large.
  func floatingPoint<Number: BinaryFloatingPoint>(_ type: Number.Type, _ value: BinaryValue) -> Number? {
    switch value.tag {
    case Tag.scalar | ScalarCode.float:
      return Number(number(at: Int(value.start), as: Float.self))
    case Tag.scalar | ScalarCode.double:
      let number = number(at: Int(value.start), as: Double.self)
      let result = Number(number)
      return result.isFinite || !number.isFinite ? result : nil
    case Tag.scalar | ScalarCode.uint128:
      return integer(UInt128.self, value).map(Number.init).flatMap { $0.isFinite ? $0 : nil }
    default:
      return integer(Int128.self, value).map(Number.init)
    }
  }
}

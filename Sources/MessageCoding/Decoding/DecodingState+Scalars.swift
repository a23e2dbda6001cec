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
    let start = Int(value.start)
    let result: Integer? =
      switch value.tag & 0x0F {
      case ScalarCode.int8: Integer(exactly: reader.number(at: start, as: Int8.self))
      case ScalarCode.int16: Integer(exactly: reader.number(at: start, as: Int16.self))
      case ScalarCode.int32: Integer(exactly: reader.number(at: start, as: Int32.self))
      case ScalarCode.int64: Integer(exactly: reader.number(at: start, as: Int64.self))
      case ScalarCode.int128: Integer(exactly: reader.number(at: start, as: Int128.self))
      case ScalarCode.uint8: Integer(exactly: reader.number(at: start, as: UInt8.self))
      case ScalarCode.uint16: Integer(exactly: reader.number(at: start, as: UInt16.self))
      case ScalarCode.uint32: Integer(exactly: reader.number(at: start, as: UInt32.self))
      case ScalarCode.uint64: Integer(exactly: reader.number(at: start, as: UInt64.self))
      case ScalarCode.uint128: Integer(exactly: reader.number(at: start, as: UInt128.self))
      case ScalarCode.float: Integer(exactly: reader.number(at: start, as: Float.self))
      case ScalarCode.double: Integer(exactly: reader.number(at: start, as: Double.self))
      default: nil
      }
    guard let result else { throw notRepresentable(type, place) }
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
    switch value.tag {
    case Tag.scalar | ScalarCode.float:
      return Number(reader.number(at: Int(value.start), as: Float.self))
    case Tag.scalar | ScalarCode.double:
      let number = reader.number(at: Int(value.start), as: Double.self)
      let result = Number(number)
      guard result.isFinite || !number.isFinite else { throw notRepresentable(type, place) }
      return result
    case Tag.scalar | ScalarCode.uint128:
      let result = Number(try integer(UInt128.self, value, at: place))
      guard result.isFinite else { throw notRepresentable(type, place) }
      return result
    default:
      guard value.isScalar else { throw mismatch(type, value, at: place) }
      return Number(try integer(Int128.self, value, at: place))
    }
  }

  private func notRepresentable(_ type: Any.Type, _ place: DecodingStep) -> DecodingError {
    corrupted("The number is not representable in \(type).", place)
  }
}

/// A value that is written as a whole, on its way from a container to the bytes.
enum Primitive {
  case null
  case boolean(Bool)
  case integer(Int64)
  case unsigned(UInt64)
  case integer128(Int128)
  case unsigned128(UInt128)
  case float(Float)
  case double(Double)
  case string(String)

  /// The value, for an error.
  var value: Any {
    switch self {
    case .null: ()
    case .boolean(let value): value
    case .integer(let value): value
    case .unsigned(let value): value
    case .integer128(let value): value
    case .unsigned128(let value): value
    case .float(let value): value
    case .double(let value): value
    case .string(let value): value
    }
  }
}

extension ByteWriter {
  @inline(__always)
  mutating func append(_ primitive: Primitive) {
    switch primitive {
    case .null: append(Tag.null)
    case .boolean(let value): append(value ? Tag.true : Tag.false)
    case .integer(let value): append(integer: value)
    case .unsigned(let value): append(integer: value)
    case .integer128(let value): append(integer: value)
    case .unsigned128(let value): append(integer: value)
    case .float(let value): append(Tag.scalar | ScalarCode.float, value)
    case .double(let value): append(Tag.scalar | ScalarCode.double, value)
    case .string(let value): append(string: value)
    }
  }
}

extension EncodingState {
  // Functions of their own, rather than a part of each method of a container: so one place keeps the state alive and
  // writes, and it is not generic.

  @inline(never)
  func encode(_ primitive: Primitive, forKey key: KeyBytes, in frame: FrameReference) throws {
    if isReady(frame) {
      bytes.append(key: key)
      bytes.append(primitive)
    } else {
      try writeOutOfOrder(frame, primitive.value) {
        bytes.append(key: key)
        bytes.append(primitive)
      }
    }
  }

  @inline(never)
  func encode(item primitive: Primitive, in frame: FrameReference) throws {
    if isReady(frame) {
      bytes.append(primitive)
      frames[Int(frame.index)].count &+= 1
    } else {
      try writeOutOfOrder(frame, primitive.value) {
        bytes.append(primitive)
        frames[Int(frame.index)].count &+= 1
      }
    }
  }

  @inline(never)
  func encode(single primitive: Primitive, in frame: FrameReference) throws {
    if isReady(frame) && frames[Int(frame.index)].kind == .empty {
      bytes.append(primitive)
      frames[Int(frame.index)].kind = .single
    } else {
      try writeSingleOutOfOrder(frame, primitive.value) { bytes.append(primitive) }
    }
  }
}

/// A value that decodes itself from another one.
struct BinarySingleValueDecodingContainer: SingleValueDecodingContainer {
  let decoder: BinaryDecoder

  var codingPath: [any CodingKey] { decoder.codingPath }

  func decodeNil() -> Bool { decoder.value.tag == Tag.null }

  func decode(_ type: Bool.Type) throws -> Bool { try state.boolean(value, at: decoder.place) }

  func decode(_ type: String.Type) throws -> String { try state.string(value, at: decoder.place) }

  func decode(_ type: Double.Type) throws -> Double { try state.double(value, at: decoder.place) }

  func decode(_ type: Float.Type) throws -> Float { try state.float(value, at: decoder.place) }

  func decode(_ type: Int.Type) throws -> Int { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: Int8.Type) throws -> Int8 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: Int16.Type) throws -> Int16 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: Int32.Type) throws -> Int32 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: Int64.Type) throws -> Int64 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: Int128.Type) throws -> Int128 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: UInt.Type) throws -> UInt { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: UInt8.Type) throws -> UInt8 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: UInt16.Type) throws -> UInt16 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: UInt32.Type) throws -> UInt32 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: UInt64.Type) throws -> UInt64 { try state.integer(type, value, at: decoder.place) }

  func decode(_ type: UInt128.Type) throws -> UInt128 { try state.integer(type, value, at: decoder.place) }

  func decode<T: Decodable>(_ type: T.Type) throws -> T {
    let direct = state.directType(type, value, depth: decoder.depth)
    if direct != .other { return try state.decode(type, as: direct, value, at: decoder.place) }
    if let string = state.byteString(type, value, depth: decoder.depth) { return state.copy(value, as: string) }
    return try T(from: decoder)
  }

  private var state: DecodingState { decoder.session.state }

  private var value: BinaryValue { decoder.value }
}

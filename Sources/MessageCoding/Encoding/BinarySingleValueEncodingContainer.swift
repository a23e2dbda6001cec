/// A value that encodes itself as another one.
struct BinarySingleValueEncodingContainer: SingleValueEncodingContainer {
  let session: EncodingSession
  let frame: FrameReference

  var codingPath: [any CodingKey] { session.state.path(frame) }

  func encodeNil() throws {
    try session.state.encode(single: .null, in: frame)
  }

  func encode(_ value: Bool) throws {
    try session.state.encode(single: .boolean(value), in: frame)
  }

  func encode(_ value: String) throws {
    try session.state.encode(single: .string(value), in: frame)
  }

  func encode(_ value: Double) throws {
    try session.state.encode(single: .double(value), in: frame)
  }

  func encode(_ value: Float) throws {
    try session.state.encode(single: .float(value), in: frame)
  }

  func encode(_ value: Int) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int8) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int16) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int32) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int64) throws {
    try session.state.encode(single: .integer(value), in: frame)
  }

  func encode(_ value: Int128) throws {
    try session.state.encode(single: .integer128(value), in: frame)
  }

  func encode(_ value: UInt) throws {
    try session.state.encode(single: .unsigned(UInt64(value)), in: frame)
  }

  func encode(_ value: UInt8) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: UInt16) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: UInt32) throws {
    try session.state.encode(single: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: UInt64) throws {
    try session.state.encode(single: .unsigned(value), in: frame)
  }

  func encode(_ value: UInt128) throws {
    try session.state.encode(single: .unsigned128(value), in: frame)
  }

  func encode<T: Encodable>(_ value: T) throws {
    try session.encode(single: value, in: frame)
  }
}

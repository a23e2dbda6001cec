/// Items of an unkeyed container.
struct BinaryUnkeyedEncodingContainer: UnkeyedEncodingContainer {
  let session: EncodingSession
  let frame: FrameReference

  private var state: EncodingState { session.state }

  var codingPath: [any CodingKey] { state.path(frame) }

  var count: Int {
    let index = Int(frame.index)
    guard index < state.frames.count, state.frames[index].serial == frame.serial else { return 0 }
    return Int(state.frames[index].count)
  }

  func encodeNil() throws {
    try session.state.encode(item: .null, in: frame)
  }

  func encode(_ value: Bool) throws {
    try session.state.encode(item: .boolean(value), in: frame)
  }

  func encode(_ value: String) throws {
    try session.state.encode(item: .string(value), in: frame)
  }

  func encode(_ value: Double) throws {
    try session.state.encode(item: .double(value), in: frame)
  }

  func encode(_ value: Float) throws {
    try session.state.encode(item: .float(value), in: frame)
  }

  func encode(_ value: Int) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int8) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int16) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int32) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: Int64) throws {
    try session.state.encode(item: .integer(value), in: frame)
  }

  func encode(_ value: Int128) throws {
    try session.state.encode(item: .integer128(value), in: frame)
  }

  func encode(_ value: UInt) throws {
    try session.state.encode(item: .unsigned(UInt64(value)), in: frame)
  }

  func encode(_ value: UInt8) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: UInt16) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: UInt32) throws {
    try session.state.encode(item: .integer(Int64(value)), in: frame)
  }

  func encode(_ value: UInt64) throws {
    try session.state.encode(item: .unsigned(value), in: frame)
  }

  func encode(_ value: UInt128) throws {
    try session.state.encode(item: .unsigned128(value), in: frame)
  }

  func encode<T: Encodable>(_ value: T) throws {
    try session.encode(item: value, in: frame)
  }

  func nestedContainer<NestedKey: CodingKey>(keyedBy keyType: NestedKey.Type) -> KeyedEncodingContainer<NestedKey> {
    session.container(keyedBy: keyType, nested(.keyed))
  }

  func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
    BinaryUnkeyedEncodingContainer(session: session, frame: nested(.unkeyed))
  }

  func superEncoder() -> any Encoder {
    let placeholder = state.begin(frame) { state.pushPlaceholder(parent: Int(frame.index), key: nextKey()) }
    return BinaryEncoder(session: session, frame: placeholder)
  }

  private func nested(_ kind: EncodingFrame.Kind) -> FrameReference {
    state.begin(frame) {
      let nested = state.push(parent: Int(frame.index), key: nextKey())
      state.open(Int(nested.index), as: kind)
      return nested
    }
  }

  /// The key of an item that is appended now.
  private func nextKey() -> FrameKey {
    let index = state.frames[Int(frame.index)].count
    state.frames[Int(frame.index)].count = index &+ 1
    return .index(index)
  }
}

/// Entries of one keyed container. Several containers of one value write into the same one.
struct BinaryKeyedEncodingContainer<Key: CodingKey>: KeyedEncodingContainerProtocol {
  let reference: CoreReference<KeyedEncodingCore>

  private var core: KeyedEncodingCore { reference.core }

  var codingPath: [any CodingKey] { core.state.path(core.frame) }

  func encodeNil(forKey key: Key) throws {
    try encode(.null, key)
  }

  func encode(_ value: Bool, forKey key: Key) throws {
    try encode(.boolean(value), key)
  }

  func encode(_ value: String, forKey key: Key) throws {
    try encode(.string(value), key)
  }

  func encode(_ value: Double, forKey key: Key) throws {
    try encode(.double(value), key)
  }

  func encode(_ value: Float, forKey key: Key) throws {
    try encode(.float(value), key)
  }

  func encode(_ value: Int, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: Int8, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: Int16, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: Int32, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: Int64, forKey key: Key) throws {
    try encode(.integer(value), key)
  }

  func encode(_ value: Int128, forKey key: Key) throws {
    try encode(.integer128(value), key)
  }

  func encode(_ value: UInt, forKey key: Key) throws {
    try encode(.unsigned(UInt64(value)), key)
  }

  func encode(_ value: UInt8, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: UInt16, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: UInt32, forKey key: Key) throws {
    try encode(.integer(Int64(value)), key)
  }

  func encode(_ value: UInt64, forKey key: Key) throws {
    try encode(.unsigned(value), key)
  }

  func encode(_ value: UInt128, forKey key: Key) throws {
    try encode(.unsigned128(value), key)
  }

  func encode<T: Encodable>(_ value: T, forKey key: Key) throws {
    try reference.withCore { core in
      try core.withSession { session in
        try key.withBytes { try session.encode(value, forKey: $0, in: core.frame) }
      }
    }
  }

  /// The default implementation does the same, but takes as much of the stack again.
  func encodeIfPresent<T: Encodable>(_ value: T?, forKey key: Key) throws {
    if let value { try encode(value, forKey: key) }
  }

  func nestedContainer<NestedKey: CodingKey>(
    keyedBy keyType: NestedKey.Type, forKey key: Key
  ) -> KeyedEncodingContainer<NestedKey> {
    core.session.container(keyedBy: keyType, nested(.keyed, key))
  }

  func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
    BinaryUnkeyedEncodingContainer(session: core.session, frame: nested(.unkeyed, key))
  }

  func superEncoder() -> any Encoder { superEncoder(for: BinaryCodingKey.super) }

  func superEncoder(forKey key: Key) -> any Encoder { superEncoder(for: key) }

  private func superEncoder(for key: some CodingKey) -> any Encoder {
    let (state, frame) = (core.state, core.frame)
    let placeholder = state.begin(frame) {
      let entryStart = UInt32(truncatingIfNeeded: state.bytes.count)
      key.withBytes { state.bytes.append(key: $0) }
      return state.pushPlaceholder(parent: Int(frame.index), key: .entry(entryStart))
    }
    return BinaryEncoder(session: core.session, frame: placeholder)
  }

  /// Borrows the core: `core` would count references to it.
  @inline(__always)
  private func encode(_ value: Primitive, _ key: Key) throws {
    try reference.withCore { core in
      try key.withBytes { try core.state.encode(value, forKey: $0, in: core.frame) }
    }
  }

  private func nested(_ kind: EncodingFrame.Kind, _ key: Key) -> FrameReference {
    let (state, frame) = (core.state, core.frame)
    return state.begin(frame) {
      let entryStart = UInt32(truncatingIfNeeded: state.bytes.count)
      key.withBytes { state.bytes.append(key: $0) }
      let nested = state.push(parent: Int(frame.index), key: .entry(entryStart))
      state.open(Int(nested.index), as: kind)
      return nested
    }
  }
}

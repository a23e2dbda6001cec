/// Entries of a keyed container.
struct BinaryKeyedDecodingContainer<Key: CodingKey>: KeyedDecodingContainerProtocol {
  let reference: CoreReference<KeyedDecodingCore>

  private var core: KeyedDecodingCore { reference.core }

  var codingPath: [any CodingKey] { core.state.path(core.step) }

  /// The keys that are valid for this type, each once.
  var allKeys: [Key] {
    var keys: [Key] = []
    core.state.forEachKey(in: core.range) { if let key = Key(stringValue: $0) { keys.append(key) } }
    return keys
  }

  func contains(_ key: Key) -> Bool {
    // An invalid value counts; decoding it throws.
    key.withBytes { core.state.entry($0, in: core.range) }.value.tag != Tag.absent
  }

  func decodeNil(forKey key: Key) throws -> Bool { try value(of: key) { _, value, _ in value.tag == Tag.null } }

  func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
    try reference.withCore { core in try decode(type, try entry(key, core), core) }
  }

  func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
    try reference.withCore { core in
      guard let entry = entryIfPresent(key, core) else { return nil }
      return try decode(type, entry, core)
    }
  }

  func nestedContainer<NestedKey: CodingKey>(
    keyedBy type: NestedKey.Type, forKey key: Key
  ) throws -> KeyedDecodingContainer<NestedKey> {
    try decoder(for: try entry(key, core)).container(keyedBy: type)
  }

  func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
    try decoder(for: try entry(key, core)).unkeyedContainer()
  }

  func superDecoder() throws -> any Decoder { superDecoder(for: BinaryCodingKey.super) }

  func superDecoder(forKey key: Key) throws -> any Decoder { superDecoder(for: key) }

  /// As with Foundation's coders, the decoder of a missing key decodes nil.
  private func superDecoder(for key: some CodingKey) -> any Decoder {
    let entry = key.withBytes { core.state.entry($0, in: core.range) }
    guard entry.value.tag == Tag.absent else { return decoder(for: entry) }
    return core.session.makeDecoder(.null, at: place(.missingSuper), depth: core.depth)
  }

  private func decoder(for entry: KeyedEntry) -> BinaryDecoder {
    core.session.makeDecoder(entry.value, at: place(.entry(entry.keyOffset)), depth: core.depth)
  }

  private func place(_ key: DecodingStep.Key) -> DecodingStep { DecodingStep(parent: core.step, key: key) }

  // MARK: Looking up

  // These are called for each value. They borrow the core: `core` would count references to it.

  /// Calls `body` with the value of a key, which must be there.
  @inline(__always)
  func value<Result>(
    of key: Key, _ body: (DecodingState, BinaryValue, DecodingStep) throws -> Result
  ) throws -> Result {
    try reference.withCore { core in
      let entry = try entry(key, core)
      return try body(core.state, entry.value, core.place(entry))
    }
  }

  /// Calls `body` with the value of a key, unless it is nil or not there.
  @inline(__always)
  func valueIfPresent<Result>(
    of key: Key, _ body: (DecodingState, BinaryValue, DecodingStep) throws -> Result
  ) throws -> Result? {
    try reference.withCore { core in
      guard let entry = entryIfPresent(key, core) else { return nil }
      return try body(core.state, entry.value, core.place(entry))
    }
  }

  @inline(__always)
  private func decode<T: Decodable>(_ type: T.Type, _ entry: KeyedEntry, _ core: KeyedDecodingCore) throws -> T {
    let result = try core.withSession { session in
      try session.decode(type, entry.value, at: core.place(entry), depth: core.depth)
    }
    core.state.expectKey(after: entry.value, in: core.range)
    return result
  }

  @inline(__always)
  private func entry(_ key: Key, _ core: KeyedDecodingCore) throws -> KeyedEntry {
    let entry = key.withBytes { core.state.entry($0, in: core.range) }
    guard entry.value.tag != Tag.absent else { throw notFound(key) }
    return entry
  }

  /// The entry of a key, or nil if there is none or its value is nil.
  @inline(__always)
  private func entryIfPresent(_ key: Key, _ core: KeyedDecodingCore) -> KeyedEntry? {
    let entry = key.withBytes { core.state.entry($0, in: core.range) }
    return entry.value.tag == Tag.absent || entry.value.tag == Tag.null ? nil : entry
  }

  @inline(never)
  private func notFound(_ key: Key) -> DecodingError {
    .keyNotFound(
      key, .init(codingPath: codingPath, debugDescription: "No value for the key \"\(key.stringValue)\"."))
  }
}

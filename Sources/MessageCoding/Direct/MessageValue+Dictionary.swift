// A dictionary is what its `Codable` conformance makes of it: entries if its keys are strings, integers, or conform to
// `CodingKeyRepresentable`; otherwise keys and values in turn.

extension Dictionary: MessageValue where Key: MessageValue, Value: MessageValue {
  @inlinable
  public func write(to writer: inout ValueWriter) {
    if Key.self == String.self || Key.self == Int.self || Key.self is any CodingKeyRepresentable.Type {
      writer.writeEntries { entries in
        for (key, value) in self {
          unsafe entries.writer.pointee.writeKey(of: key)
          unsafe entries.writer.pointee.write(value)
        }
      }
    } else {
      writer.writeItems(count &* 2) { writer in
        for (key, value) in self {
          writer.write(key)
          writer.write(value)
        }
      }
    }
  }

  @inlinable
  public init(from reader: inout ValueReader) throws {
    self = [:]
    if Key.self == String.self || Key.self == Int.self || Key.self is any CodingKeyRepresentable.Type {
      let outerEnd = reader.end
      try reader.enterKeyed()
      var seen = reader.makeSeenKeys()
      while reader.offset < reader.end {
        guard let text = try reader.readKey(&seen) else { continue }
        let key: Key = try ValueReader.key(text)
        let offset = reader.offset
        do { self[key] = try reader.readValue(Value.self) } catch { throw ValueReader.inside(text, error) }
        if reader.offset == offset { try reader.skip() }
      }
      reader.end = outerEnd
      reader.depth &-= 1
    } else {
      let outerEnd = reader.end
      let count = try reader.enterUnkeyed()
      guard count & 1 == 0 else { throw ValueReader.corrupted("A key has no value.") }
      var key: Key?
      try reader.forEachItem(count) { reader, _ in
        if let last = key.take() {
          self[last] = try reader.readValue(Value.self)
        } else {
          key = try reader.readValue(Key.self)
        }
      }
      try reader.leaveUnkeyed(outerEnd)
    }
  }
}

extension ValueWriter {
  @usableFromInline
  mutating func writeKey<Key>(of key: Key) {
    if let key = key as? String { return BinaryCodingKey(stringValue: key).withBytes { bytes.append(key: $0) } }
    // An integer is a `CodingKeyRepresentable`, too.
    guard let key = key as? any CodingKeyRepresentable else { return bytes.fail() }
    key.codingKey.withBytes { bytes.append(key: $0) }
  }
}

extension ValueReader {
  @usableFromInline
  func makeSeenKeys() -> SeenKeys { SeenKeys(reader) }

  /// Reads a key; nil, and passes over its value, if it was there before.
  @usableFromInline
  mutating func readKey(_ seen: inout SeenKeys) throws -> String? {
    guard let key = reader.key(at: offset, before: end) else { throw Self.malformed }
    guard key.end &- key.start <= maximumKeyBytes else {
      throw Self.corrupted("A key is longer than \(maximumKeyBytes) bytes.")
    }
    let isNew = seen.insert(UInt32(truncatingIfNeeded: offset), from: key.start, to: key.end)
    guard let text = reader.string(from: key.start, to: key.end) else {
      throw Self.corrupted("A key is not valid UTF-8.")
    }
    offset = key.end
    if isNew { return text }
    try skip()
    return nil
  }

  /// The key of a dictionary that this is the text of.
  @usableFromInline
  static func key<Key>(_ text: String) throws -> Key {
    if let key = text as? Key { return key }
    let key = DictionaryKey(stringValue: text)
    if Key.self == Int.self {
      guard let number = key.intValue as? Key else {
        throw DecodingError.typeMismatch(
          Int.self, .init(codingPath: [key], debugDescription: "Expected Int key but found String key instead."))
      }
      return number
    }
    guard let type = Key.self as? any CodingKeyRepresentable.Type, let made = type.init(codingKey: key) as? Key else {
      throw inside(text, corrupted("The key is none of the dictionary."))
    }
    return made
  }

  @usableFromInline @inline(never)
  static func inside(_ key: String, _ error: any Error) -> any Error {
    inside(BinaryCodingKey(stringValue: key), error)
  }
}

/// A key of a dictionary, which may be the text of a number.
private struct DictionaryKey: CodingKey {
  let stringValue: String
  var intValue: Int? { Int(stringValue) }

  init(stringValue: String) { self.stringValue = stringValue }

  init(intValue: Int) { stringValue = "\(intValue)" }
}

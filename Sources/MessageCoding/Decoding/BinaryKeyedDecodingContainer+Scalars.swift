// The types that the format knows.
extension BinaryKeyedDecodingContainer {
  func decode(_ type: Bool.Type, forKey key: Key) throws -> Bool {
    let entry = try entry(key)
    return try core.state.boolean(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: String.Type, forKey key: Key) throws -> String {
    let entry = try entry(key)
    return try core.state.string(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Double.Type, forKey key: Key) throws -> Double {
    let entry = try entry(key)
    return try core.state.double(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Float.Type, forKey key: Key) throws -> Float {
    let entry = try entry(key)
    return try core.state.float(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Int.Type, forKey key: Key) throws -> Int {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Int8.Type, forKey key: Key) throws -> Int8 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Int16.Type, forKey key: Key) throws -> Int16 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Int32.Type, forKey key: Key) throws -> Int32 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Int64.Type, forKey key: Key) throws -> Int64 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: Int128.Type, forKey key: Key) throws -> Int128 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: UInt.Type, forKey key: Key) throws -> UInt {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: UInt8.Type, forKey key: Key) throws -> UInt8 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: UInt16.Type, forKey key: Key) throws -> UInt16 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: UInt32.Type, forKey key: Key) throws -> UInt32 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: UInt64.Type, forKey key: Key) throws -> UInt64 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decode(_ type: UInt128.Type, forKey key: Key) throws -> UInt128 {
    let entry = try entry(key)
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Bool.Type, forKey key: Key) throws -> Bool? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.boolean(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: String.Type, forKey key: Key) throws -> String? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.string(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Double.Type, forKey key: Key) throws -> Double? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.double(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Float.Type, forKey key: Key) throws -> Float? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.float(entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Int.Type, forKey key: Key) throws -> Int? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Int8.Type, forKey key: Key) throws -> Int8? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Int16.Type, forKey key: Key) throws -> Int16? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Int32.Type, forKey key: Key) throws -> Int32? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Int64.Type, forKey key: Key) throws -> Int64? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: Int128.Type, forKey key: Key) throws -> Int128? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: UInt.Type, forKey key: Key) throws -> UInt? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: UInt8.Type, forKey key: Key) throws -> UInt8? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: UInt16.Type, forKey key: Key) throws -> UInt16? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: UInt32.Type, forKey key: Key) throws -> UInt32? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: UInt64.Type, forKey key: Key) throws -> UInt64? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }

  func decodeIfPresent(_ type: UInt128.Type, forKey key: Key) throws -> UInt128? {
    guard let entry = entryIfPresent(key) else { return nil }
    return try core.state.integer(type, entry.value, at: place(.entry(entry.keyOffset)))
  }
}

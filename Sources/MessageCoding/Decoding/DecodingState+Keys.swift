// Finding the value of a key.
//
// Three ways, from fast to general:
// 1. The key is where the last one ended: keys are decoded in the order in which they were encoded.
// 2. A search from there to the end, then from the start: a few keys are out of order, missing, or additional.
// 3. An index of the container. The searches in one message may skip a number of entries proportional to its size; from
//    then on, each container that is searched gets an index, so that no message takes quadratic time.
//
// Keys are compared and hashed as bytes everywhere: comparing them as `String` takes time quadratic in their combining
// marks, and finds texts equal that are two keys here.

/// The place of a keyed container.
struct KeyedRange: BitwiseCopyable {
  let start: UInt32
  let end: UInt32
}

/// The value of a key, and where the key is.
struct KeyedEntry: BitwiseCopyable {
  let keyOffset: UInt32
  /// Has the tag `absent` if there is no such key, `invalid` if the container is malformed.
  let value: BinaryValue

  static let absent = KeyedEntry(keyOffset: 0, value: BinaryValue(tag: Tag.absent, start: UInt32(0), end: 0))
  static let invalid = KeyedEntry(keyOffset: 0, value: .invalid)
}

extension DecodingState {
  /// Finds a key, and expects the next one behind its value.
  @inline(never)
  func entry(_ key: KeyBytes, in container: KeyedRange) -> KeyedEntry {
    let reader = reader  // A copy stays in registers.
    let expected = expectedKeyContainer == container.start ? expectedKeyOffset : container.start
    let (offset, end, length) = (Int(expected), Int(container.end), key.count)
    precondition(end <= reader.count, "A container out of bounds.")
    if length <= shortKeyLimit, length < end &- offset,
      unsafe reader.uncheckedNumber(at: offset) == UInt8(truncatingIfNeeded: length),
      unsafe reader.uncheckedIsEqual(at: offset &+ 1, to: key)
    {
      let value = unsafe reader.uncheckedValue(at: offset &+ 1 &+ length, before: end)
      expectKey(after: value, in: container)
      pass(expected, value)
      return KeyedEntry(keyOffset: expected, value: value)
    }
    return search(key, in: container, from: expected)
  }

  /// Expects the next key behind a value. To be said again once a part of the container was decoded.
  @inline(__always)
  func expectKey(after value: BinaryValue, in container: KeyedRange) {
    expectedKeyContainer = container.start
    // An invalid value ends at zero, before the container.
    expectedKeyOffset = value.end >= container.start ? value.end : container.start
  }

  @inline(never)
  private func search(_ key: KeyBytes, in container: KeyedRange, from expected: UInt32) -> KeyedEntry {
    let entry =
      if remainingSearchSteps <= 0 {
        indexed(key, in: container)
      } else if let found = scan(for: key, from: Int(expected), to: Int(container.end), in: container) {
        found
      } else if let found = scan(for: key, from: Int(container.start), to: Int(expected), in: container) {
        found
      } else {
        KeyedEntry.absent
      }
    if entry.value.tag < Tag.absent { expectKey(after: entry.value, in: container) }
    return entry
  }

  /// Looks at the entries from one to another; nil if the key is not among them.
  private func scan(
    for key: KeyBytes, from start: Int, to end: Int, in container: KeyedRange
  ) -> KeyedEntry? {
    var offset = start
    while offset < end {
      remainingSearchSteps &-= 1
      guard let (keyStart, keyEnd) = reader.key(at: offset, before: Int(container.end)) else { return .invalid }
      let value = reader.value(at: keyEnd, before: Int(container.end))
      if value.tag == Tag.invalid { return .invalid }
      if keyEnd &- keyStart == key.count {
        if reader.isEqual(at: keyStart, to: key) {
          return KeyedEntry(keyOffset: UInt32(truncatingIfNeeded: offset), value: value)
        }
        // Long keys may be equal up to the end.
        remainingSearchSteps &-= key.count / 16
      }
      offset = Int(value.end)
    }
    return nil
  }

  private func indexed(_ key: KeyBytes, in container: KeyedRange) -> KeyedEntry {
    guard let offset = index(of: container).offset(of: key, in: reader) else { return .absent }
    return entry(at: Int(offset), in: container)
  }

  /// The entry at an offset, which is one of the container.
  private func entry(at offset: Int, in container: KeyedRange) -> KeyedEntry {
    guard let key = reader.key(at: offset, before: Int(container.end)) else { return .invalid }
    return KeyedEntry(
      keyOffset: UInt32(truncatingIfNeeded: offset), value: reader.value(at: key.end, before: Int(container.end)))
  }

  private func index(of container: KeyedRange) -> KeyIndex {
    if let index = keyIndexes[container.start] { return index }
    var index = KeyIndex()
    forEachEntry(in: container) { offset, start, end in
      _ = reader.withKey(from: start, to: end) { index.insert(offset, $0, in: reader) }
    }
    keyIndexes[container.start] = index
    return index
  }

  /// Calls `body` with the text of each key, once.
  func forEachKey(in container: KeyedRange, _ body: (String) -> Void) {
    var seen = SeenKeys(reader)
    forEachEntry(in: container) { offset, start, end in
      guard seen.insert(offset, from: start, to: end) else { return }
      if let text = reader.string(from: start, to: end) { body(text) }
    }
  }

  /// Calls `body` with the offset of each entry, and where its key begins and ends.
  private func forEachEntry(in container: KeyedRange, _ body: (UInt32, Int, Int) -> Void) {
    var offset = Int(container.start)
    while offset < Int(container.end) {
      guard let key = reader.key(at: offset, before: Int(container.end)) else { return }
      let value = reader.value(at: key.end, before: Int(container.end))
      if value.tag == Tag.invalid { return }
      body(UInt32(truncatingIfNeeded: offset), key.start, key.end)
      offset = Int(value.end)
    }
  }
}

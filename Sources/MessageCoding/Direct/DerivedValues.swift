// What the code calls that `@MessageValue` derives, so that it is what the compiler derives for `Codable`. Code that is
// written by hand may call it as well.

extension ValueWriter {
  /// Writes a keyed container that stands for `value`: as ``writeEntries(_:)``.
  ///
  /// A value that has a raw value is written as that. Which of the two it is, the compiler knows.
  @inlinable @inline(__always)
  public mutating func writeEntries<Value: MessageValue>(of value: Value, _ body: (inout EntryWriter) -> Void) {
    writeEntries(body)
  }

  /// Writes the raw value of `value`, as its `Codable` conformance does; `body` is not called.
  @inlinable @inline(__always)
  public mutating func writeEntries<Value: MessageValue & RawRepresentable>(
    of value: Value, _ body: (inout EntryWriter) -> Void
  ) where Value.RawValue: MessageValue {
    value.rawValue.write(to: &self)
  }
}

extension MessageValue {
  /// Reads a keyed container that stands for the value: as ``ValueReader/readEntries(_:)``.
  ///
  /// A value that has a raw value is read from that. Which of the two it is, the compiler knows. This is an initializer
  /// because that of a struct with a constant can call another one, and cannot assign to `self`.
  ///
  /// - Throws: `DecodingError` if there is no keyed container, or it is too deep; whatever else `body` throws.
  @inlinable @inline(__always)
  public init(fromEntriesOf reader: inout ValueReader, _ body: (inout EntryReader) throws -> Self) throws {
    self = try reader.readEntries(body)
  }
}

extension MessageValue where Self: RawRepresentable, RawValue: MessageValue {
  /// Reads the value from its raw value, as its `Codable` conformance does; `body` is not called.
  ///
  /// - Throws: `DecodingError`; `dataCorrupted` for a raw value that is none.
  @inlinable @inline(__always)
  public init(fromEntriesOf reader: inout ValueReader, _ body: (inout EntryReader) throws -> Self) throws {
    try self.init(rawValueFrom: &reader)
  }
}

extension EntryReader {
  /// Goes to the entry that has one of these keys, and returns the index of the key. Read its value next.
  ///
  /// This is how an enum with associated values tells its cases apart. Entries with other keys are passed over.
  ///
  /// - Throws: `DecodingError.typeMismatch`, for `type`, if none of the keys is there, or several are.
  /// - Complexity: O(entries · keys); mostly there is one entry.
  @inlinable @inline(__always)
  public mutating func findOnly<let count: Int>(of keys: [count of StaticString], for type: Any.Type) throws -> Int {
    try findOnly(keys.span, type)
  }

  @usableFromInline @inline(never)
  mutating func findOnly(_ keys: Span<StaticString>, _ type: Any.Type) throws -> Int {
    let bytes = unsafe reader.pointee.reader
    var (offset, place, found) = (start, start, Int?.none)
    while offset < end {
      guard let key = bytes.key(at: offset, before: end) else { throw ValueReader.malformed }
      if let index = bytes.match(from: key.start, to: key.end, among: keys), index != found {
        guard found == nil else { throw ValueReader.wrongCases(type) }
        (place, found) = (offset, index)
      }
      let value = bytes.value(at: key.end, before: end)
      guard value.tag != Tag.invalid else { throw ValueReader.malformed }
      offset = Int(value.end)
    }
    guard let found else { throw ValueReader.wrongCases(type) }
    unsafe reader.pointee.offset = place
    // What was passed over has to be looked at, once all is read.
    if place != start { unsafe reader.pointee.isOutOfOrder = true }
    return found
  }
}

extension ByteReader {
  /// The index of the key that has the bytes between `start` and `end`.
  fileprivate func match(from start: Int, to end: Int, among keys: Span<StaticString>) -> Int? {
    for index in keys.indices where keys[index].utf8CodeUnitCount == end &- start {
      let key = unsafe KeyBytes(pointer: keys[index].utf8Start, count: end &- start)
      if isEqual(at: start, to: key) { return index }
    }
    return nil
  }
}

extension ValueReader {
  @inline(never)
  fileprivate static func wrongCases(_ type: Any.Type) -> DecodingError {
    .typeMismatch(type, .init(codingPath: [], debugDescription: "Invalid number of keys found, expected one."))
  }
}

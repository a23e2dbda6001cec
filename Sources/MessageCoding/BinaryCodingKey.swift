/// A key of a coding path: the path is read back from the bytes, where no trace is left of the type of the key.
struct BinaryCodingKey: CodingKey {
  let stringValue: String
  let intValue: Int?

  init(stringValue: String) {
    self.stringValue = stringValue
    intValue = nil
  }

  /// An index of an unkeyed container; the text is that of Foundation's coders.
  init(intValue index: Int) {
    stringValue = "Index \(index)"
    intValue = index
  }

  /// The key of `superEncoder()` and `superDecoder()`, by convention of `Codable`.
  static let `super` = BinaryCodingKey(stringValue: "super")
}

/// A key of a coding path: the path is read back from the bytes, which do not tell the type of the key.
///
/// It has room in an `any CodingKey`, and an index becomes text only when somebody looks: a path of many indexes is
/// made, and copied, without allocating memory for each.
struct BinaryCodingKey: CodingKey {
  private let text: String
  /// An index of an unkeyed container, or -1.
  private let index: Int

  init(stringValue: String) { (text, index) = (stringValue, -1) }

  init(intValue index: Int) { (text, self.index) = ("", index) }

  /// The text of an index is that of Foundation's coders.
  var stringValue: String { index < 0 ? text : "Index \(index)" }

  var intValue: Int? { index < 0 ? nil : index }

  /// The key of `superEncoder()` and `superDecoder()`, by convention of `Codable`.
  static let `super` = BinaryCodingKey(stringValue: "super")
}

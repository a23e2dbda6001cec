/// A `Codable` value that also writes itself into a message, and reads itself out of it, without an encoder or decoder.
///
/// The bytes are the same as those of ``BinaryMessageCoder`` for the `Codable` conformance: one end of a channel may use
/// this way and the other one `Codable`, in different versions of a program or for different types. What this saves is
/// time: the compiler sees the whole way from a property to the bytes, which it cannot through an `Encoder`.
///
/// ```swift
/// struct Order { var id: Int, name: String, note: String? }
///
/// extension Order: MessageValue {
///   func write(to writer: inout ValueWriter) {
///     writer.writeEntries { entries in
///       entries.write(id, forKey: "id")
///       entries.write(name, forKey: "name")
///       entries.write(note, forKey: "note")
///     }
///   }
///
///   init(from reader: inout ValueReader) throws {
///     self = try reader.readEntries { entries in
///       Order(
///         id: try entries.read(forKey: "id"), name: try entries.read(forKey: "name"),
///         note: try entries.read(forKey: "note"))
///     }
///   }
/// }
/// ```
///
/// The rules are those of derived `Codable` code: an optional that is nil is left out, and one that is missing is nil; a
/// missing key otherwise is `DecodingError.keyNotFound`; additional keys are ignored; keys may be in any order, and the
/// order in which they are written is the fastest one to read.
///
/// The types of the standard library that a message often has conform: `Bool`, the integers, `Float`, `Double`,
/// `String`; optionals, arrays, sets and dictionaries of values that conform. A type with a raw value that conforms, such
/// as an enum, needs no more than the declaration. A type whose `Codable` conformance is a single value writes and reads
/// that value.
///
/// The macro `@MessageValue` of the product `MessagePortsMacros` derives all that.
public protocol MessageValue: Codable {
  /// Writes exactly one value: the one that `encode(to:)` would encode.
  ///
  /// Two values instead of one make a message that its receiver refuses. (None count as a container without entries.)
  func write(to writer: inout ValueWriter)

  /// Reads exactly one value, which `init(from:)` would decode.
  ///
  /// The bytes are those of a peer, and may be anything. (If nothing is read, the value is skipped.)
  ///
  /// - Throws: `DecodingError`, or an error of its own for a value that it does not want.
  init(from reader: inout ValueReader) throws
}

extension MessageValue where Self: RawRepresentable, RawValue: MessageValue {
  /// Writes the raw value, as the `Codable` conformance does.
  @inlinable
  public func write(to writer: inout ValueWriter) { rawValue.write(to: &writer) }

  /// Reads the raw value.
  ///
  /// - Throws: `DecodingError`; `dataCorrupted` for a raw value that is none.
  @inlinable
  public init(from reader: inout ValueReader) throws { try self.init(rawValueFrom: &reader) }

  @inlinable @inline(__always)
  init(rawValueFrom reader: inout ValueReader) throws {
    let rawValue = try RawValue(from: &reader)
    guard let value = Self(rawValue: rawValue) else { throw ValueReader.invalidRawValue(Self.self, rawValue) }
    self = value
  }
}

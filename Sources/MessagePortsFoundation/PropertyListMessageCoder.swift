public import Foundation
public import MessagePorts

/// Encodes values as property lists, through Foundation. A property list has no top-level fragments: wrap them.
///
/// Decoding takes the format that was set and no other. Bytes of a peer are looked at before Foundation parses them: what
/// is nested more than 128 containers deep, or has a container in two places, is a `DecodingError`.
///
/// Thread safety: a value; each call uses coders of its own.
public struct PropertyListMessageCoder: MessageCoder {
  private let format: PropertyListSerialization.PropertyListFormat

  /// - Parameter format: what to write; any format is read.
  public init(format: PropertyListSerialization.PropertyListFormat = .binary) { self.format = format }

  public func encode<Value: Encodable>(_ value: Value) throws -> [UInt8] {
    let encoder = PropertyListEncoder()
    encoder.outputFormat = format
    return [UInt8](try encoder.encode(value))
  }

  public func decode<Value: Decodable>(_ type: Value.Type, from bytes: RawSpan) throws -> Value {
    let copy = unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) }
    try PropertyListStructure(bytes: copy).check(format)
    return try PropertyListDecoder().decode(type, from: Data(copy))
  }
}

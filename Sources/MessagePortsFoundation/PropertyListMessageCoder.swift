public import Foundation
public import MessagePorts

/// Encodes values as property lists, through Foundation. The value has to be a dictionary or an array, or encode itself
/// as one: a property list is never a number or a string alone.
///
/// Decoding takes the format that was set and no other. Bytes are checked before Foundation parses them: containers
/// nested more than 128 deep, or a container in two places, are a `DecodingError`.
///
/// Thread safety: a value; each call uses coders of its own.
public struct PropertyListMessageCoder: MessageCoder {
  private let format: PropertyListSerialization.PropertyListFormat

  /// - Parameter format: what to write and to read.
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

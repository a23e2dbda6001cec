public import Foundation
public import MessagePorts

/// Encodes values as property lists, through Foundation. A property list has no top-level fragments: wrap them.
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
    try PropertyListDecoder().decode(type, from: Data(copying: bytes))
  }
}

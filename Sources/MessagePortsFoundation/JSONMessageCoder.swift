public import Foundation
public import MessagePorts

/// Encodes values as JSON, through Foundation.
///
/// Readable, and understood by other languages; several times slower than the default coder, and larger.
///
/// Thread safety: a value; each call uses coders of its own.
public struct JSONMessageCoder: MessageCoder {
  private let configureEncoder: @Sendable (JSONEncoder) -> Void
  private let configureDecoder: @Sendable (JSONDecoder) -> Void

  /// - Parameters:
  ///   - configureEncoder: sets the strategies of each new encoder.
  ///   - configureDecoder: sets the strategies of each new decoder.
  public init(
    configureEncoder: @escaping @Sendable (JSONEncoder) -> Void = { _ in },
    configureDecoder: @escaping @Sendable (JSONDecoder) -> Void = { _ in }
  ) {
    self.configureEncoder = configureEncoder
    self.configureDecoder = configureDecoder
  }

  public func encode<Value: Encodable>(_ value: Value) throws -> [UInt8] {
    let encoder = JSONEncoder()
    configureEncoder(encoder)
    return [UInt8](try encoder.encode(value))
  }

  public func decode<Value: Decodable>(_ type: Value.Type, from bytes: RawSpan) throws -> Value {
    let decoder = JSONDecoder()
    configureDecoder(decoder)
    return try decoder.decode(type, from: Data(copying: bytes))
  }
}

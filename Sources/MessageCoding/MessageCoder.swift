/// Turns values into the bytes of a message, and the bytes of a message into values.
///
/// The library's own coder is ``BinaryMessageCoder``. Another format is one type that conforms to this protocol; the
/// two ends of a channel must use the same one.
///
/// **Thread safety.** Several threads use one coder at the same time, hence `Sendable`: a conforming type keeps no
/// state between calls, or protects it.
///
/// **User code.** Both methods run the `encode(to:)` or `init(from:)` of the values, which may do anything, such as
/// throw, block, or use a coder again. Callers hold no locks.
public protocol MessageCoder: Sendable {
  /// Returns the bytes of a message that ``decode(_:from:)`` turns into an equal value.
  ///
  /// - Throws: `EncodingError` if the format cannot represent the value; whatever else `value.encode(to:)` throws. No
  ///   state is left behind.
  /// - Complexity: O(bytes) for types whose `encode(to:)` is linear.
  func encode<T: Encodable>(_ value: T) throws -> [UInt8]

  /// Returns the value that `bytes` contain, which must be one whole message.
  ///
  /// - Parameter bytes: Untrusted; read only during the call. Nothing that is returned refers to them.
  /// - Throws: `DecodingError` if the bytes are not a message of this format, or not one of a `T`; whatever else
  ///   `T.init(from:)` throws. Bytes never cause a trap.
  /// - Complexity: O(bytes) for types whose `init(from:)` is linear.
  func decode<T: Decodable>(_ type: T.Type, from bytes: RawSpan) throws -> T
}

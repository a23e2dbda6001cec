// Values that write and read themselves: the same messages, limits and errors as for `Codable`.
extension BinaryMessageCoder {
  /// Memory of the stack that a small message is written in.
  @inlinable static var stackBytes: Int { 1024 }

  /// Calls `body` with the bytes of a message, which are there during the call: those that `encode(_:)`
  /// would return. A message of up to a kilobyte allocates nothing.
  ///
  /// - Throws: `EncodingError.invalidValue` if the value exceeds a limit; whatever else `body` throws.
  /// - Complexity: O(bytes).
  @inlinable @inline(__always)
  public func withEncoded<Value: MessageValue, Result>(
    _ value: Value, _ body: (RawSpan) throws -> Result
  ) throws -> Result {
    try unsafe withUnsafeTemporaryAllocation(byteCount: Self.stackBytes, alignment: 16) { memory in
      var writer = unsafe ValueWriter(borrowing: memory, self)
      return try writer.withMessage(value, self, body)
    }
  }

  /// Keys whose length takes one byte are not compared with the limit when they are written.
  @inlinable var hasShortKeyLimit: Bool { maximumKeyBytes < Int(Layout.longKeyMark) - 1 }

  /// Returns the bytes of a message: the same as those of the value's `Codable` conformance.
  ///
  /// - Throws: `EncodingError.invalidValue` if the value exceeds a limit.
  /// - Complexity: O(bytes).
  @inlinable
  public func encode<Value: MessageValue>(_ value: Value) throws -> [UInt8] {
    try withEncoded(value) { bytes in unsafe bytes.withUnsafeBytes { unsafe [UInt8]($0) } }
  }

  /// Returns the value that `bytes` contain, which must be one whole message.
  ///
  /// - Parameter bytes: Untrusted; read only during the call.
  /// - Throws: `DecodingError` as the value's `Codable` conformance would, also for parts that nobody reads; whatever
  ///   else reading the value throws.
  /// - Complexity: O(bytes), with as many looks at an entry as a type has keys if they are in another order.
  @inlinable
  public func decode<Value: MessageValue>(_ type: Value.Type, from bytes: RawSpan) throws -> Value {
    try unsafe bytes.withUnsafeBytes { bytes in
      var reader = try unsafe ValueReader(message: bytes, self)
      do {
        let value = try reader.readValue(Value.self)
        try reader.finish()
        return value
      } catch {
        throw reader.refusal(error)
      }
    }
  }
}

// Errors begin without a path. On their way out, each container adds the key or index at which they came by.
extension ValueReader {
  /// The memory of one of the two is gone before the other one.
  @usableFromInline @inline(never)
  static func failForExchange() -> Never { fatalError("a value reader was exchanged with another one") }

  @usableFromInline
  static func corrupted(_ description: String) -> DecodingError {
    .dataCorrupted(.init(codingPath: [], debugDescription: description))
  }

  @usableFromInline
  static var malformed: DecodingError { corrupted(ByteReader.malformed) }

  @usableFromInline
  static var wrongCount: DecodingError { corrupted("An unkeyed container has a wrong count.") }

  /// The error for a message of one byte or none, which even a value that reads nothing refuses.
  @unsafe @inline(never)
  static func withoutValue(_ bytes: UnsafeRawBufferPointer) -> DecodingError {
    guard let version = unsafe bytes.first else { return corrupted("The message is empty.") }
    return version == Tag.version ? malformed : unknown(version)
  }

  static func unknown(_ version: UInt8) -> DecodingError {
    let (found, known) = (String(version, radix: 16), String(Tag.version, radix: 16))
    return corrupted("The message has format version 0x\(found); this coder reads version 0x\(known).")
  }

  @usableFromInline
  static func notRepresentable(_ type: Any.Type) -> DecodingError {
    corrupted("The number is not representable in \(type).")
  }

  @usableFromInline @inline(never)
  static func invalidRawValue(_ type: Any.Type, _ value: Any) -> DecodingError {
    corrupted("\(value) is no raw value of \(type).")
  }

  @usableFromInline @inline(never)
  static func notFound(_ key: StaticString) -> DecodingError {
    .keyNotFound(
      BinaryCodingKey(stringValue: "\(key)"),
      .init(codingPath: [], debugDescription: "No value for the key \"\(key)\"."))
  }

  /// The error for the next value, which is not the one that was wanted.
  ///
  /// - Parameter tag: If the value has this tag, it was wanted, and is too deep or has no end.
  @usableFromInline @inline(never)
  func mismatch(_ type: Any.Type, _ tag: UInt8) -> DecodingError {
    let value = nextValue
    switch value.tag {
    case Tag.invalid: return Self.malformed
    case Tag.keyed where tag == Tag.keyed, Tag.unkeyed where tag == Tag.unkeyed:
      return Self.corrupted(ByteReader.tooDeep(maximumDepth))
    case Tag.null:
      return .valueNotFound(type, .init(codingPath: [], debugDescription: "Found nil instead of a value."))
    default:
      if value.isReserved {
        return Self.corrupted("A value has a form that this version of the format does not have.")
      }
      return .typeMismatch(type, .init(codingPath: [], debugDescription: value.descriptionForErrors))
    }
  }

  @usableFromInline @inline(never)
  static func inside(_ key: StaticString, _ error: any Error) -> any Error {
    inside(BinaryCodingKey(stringValue: "\(key)"), error)
  }

  @usableFromInline @inline(never)
  static func inside(_ index: Int, _ error: any Error) -> any Error {
    inside(BinaryCodingKey(intValue: index), error)
  }

  static func inside(_ key: BinaryCodingKey, _ error: any Error) -> any Error {
    func inside(_ context: DecodingError.Context) -> DecodingError.Context {
      .init(
        codingPath: [key] + context.codingPath, debugDescription: context.debugDescription,
        underlyingError: context.underlyingError)
    }
    switch error {
    case DecodingError.dataCorrupted(let context): return DecodingError.dataCorrupted(inside(context))
    case DecodingError.keyNotFound(let missing, let context):
      return DecodingError.keyNotFound(missing, inside(context))
    case DecodingError.typeMismatch(let type, let context): return DecodingError.typeMismatch(type, inside(context))
    case DecodingError.valueNotFound(let type, let context):
      return DecodingError.valueNotFound(type, inside(context))
    default: return error
    }
  }
}

/// What stands in front of each message of a connection: what kind it is, and for whom.
///
///     | kind and length: 2 bytes | number: 8 bytes, unless the kind is 0 | name | body |
///
/// The upper four bits of the first word (little-endian) are the kind, the lower twelve the length of the name, in UTF-8. The
/// number says which request is meant: whoever asks has chosen it, and never uses it again on this connection.
struct NamedEnvelope: Sendable {
  struct Malformed: Error {}

  enum Kind: UInt16, CaseIterable, Sendable {
    case message = 0
    case request = 1
    /// The outcome of a request: the value. No name.
    case reply = 2
    /// The outcome of a request: why there is no value; see ``RequestFailure``. No name.
    case failure = 3
    /// Nobody waits for the outcome of a request any more. No name, no body.
    case cancel = 4

    /// Bytes before the name.
    fileprivate var headerBytes: Int { self == .message ? 2 : 10 }
  }

  let kind: Kind
  /// 0 for a message.
  let number: UInt64
  let name: String
  let body: MessageEvent

  private static let nameBits = 12

  /// A message; `nil` if the name is too long.
  static func make(name: String, _ bytes: RawSpan) -> [UInt8]? { make(.message, 0, name: name, bytes) }

  /// `nil` if the name is too long.
  static func make(_ kind: Kind, _ number: UInt64, name: String = "", _ bytes: RawSpan) -> [UInt8]? {
    let nameBytes = name.utf8.count
    guard nameBytes <= Connection.maximumNameBytes else { return nil }
    let header = kind.headerBytes
    return unsafe [UInt8](unsafeUninitializedCapacity: header + nameBytes + bytes.byteCount) { buffer, count in
      let first = kind.rawValue << nameBits | UInt16(nameBytes)
      unsafe buffer[0] = UInt8(truncatingIfNeeded: first)
      unsafe buffer[1] = UInt8(truncatingIfNeeded: first >> 8)
      for index in 2..<header { unsafe buffer[index] = UInt8(truncatingIfNeeded: number >> ((index - 2) * 8)) }
      _ = unsafe UnsafeMutableBufferPointer(rebasing: buffer[header...]).update(fromContentsOf: name.utf8)
      unsafe bytes.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[(header + nameBytes)...])
          .copyMemory(from: source)
      }
      count = header + nameBytes + bytes.byteCount
    }
  }

  /// `nil` if it is no UTF-8. Names are nearly always in ASCII, for which there is nothing to validate.
  @unsafe private static func text(_ bytes: UnsafeRawBufferPointer) -> String? {
    guard unsafe bytes.allSatisfy({ $0 < 0x80 }) else { return unsafe String(validating: bytes, as: UTF8.self) }
    return unsafe String(unsafeUninitializedCapacity: bytes.count) { buffer in
      unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(from: bytes)
      return bytes.count
    }
  }

  /// Takes an envelope apart; `nil` if it is none.
  static func open(_ event: MessageEvent) -> NamedEnvelope? {
    let opened = event.withBytes { bytes -> (Kind, UInt64, String, Int)? in
      guard bytes.byteCount >= 2 else { return nil }
      let first = unsafe bytes.unsafeLoadUnaligned(as: UInt16.self).littleEndian
      let nameBytes = Int(first & (1 << nameBits - 1))
      guard let kind = Kind(rawValue: first >> nameBits), nameBytes <= Connection.maximumNameBytes,
        bytes.byteCount >= kind.headerBytes + nameBytes
      else { return nil }
      switch kind {
      case .message, .request: break
      case .reply, .failure: guard nameBytes == 0 else { return nil }
      case .cancel: guard bytes.byteCount == kind.headerBytes else { return nil }
      }
      let number =
        kind == .message ? 0 : unsafe bytes.unsafeLoadUnaligned(fromByteOffset: 2, as: UInt64.self).littleEndian
      let end = kind.headerBytes + nameBytes
      let name = unsafe bytes.extracting(kind.headerBytes..<end).withUnsafeBytes { unsafe Self.text($0) }
      return name.map { (kind, number, $0, end) }
    }
    return opened.map { NamedEnvelope(kind: $0.0, number: $0.1, name: $0.2, body: event.droppingFirst($0.3)) }
  }
}

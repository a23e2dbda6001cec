/// A message with a channel name in front: the name's length (2 bytes, little-endian), the name in UTF-8, the message.
enum NamedEnvelope {
  struct Malformed: Error {}

  /// `nil` if the name is too long.
  static func make(name: String, _ bytes: RawSpan) -> [UInt8]? {
    let nameBytes = name.utf8.count
    guard nameBytes <= Connection.maximumNameBytes else { return nil }
    return unsafe [UInt8](unsafeUninitializedCapacity: 2 + nameBytes + bytes.byteCount) { buffer, count in
      unsafe buffer[0] = UInt8(truncatingIfNeeded: nameBytes)
      unsafe buffer[1] = UInt8(truncatingIfNeeded: nameBytes >> 8)
      _ = unsafe UnsafeMutableBufferPointer(rebasing: buffer[2...]).update(fromContentsOf: name.utf8)
      unsafe bytes.withUnsafeBytes { source in
        unsafe UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(buffer)[(2 + nameBytes)...])
          .copyMemory(from: source)
      }
      count = 2 + nameBytes + bytes.byteCount
    }
  }

  /// Takes name and message apart; `nil` if it is no envelope.
  static func open(_ event: MessageEvent) -> (name: String, body: MessageEvent)? {
    let opened = event.withBytes { bytes -> (String, Int)? in
      guard bytes.byteCount >= 2 else { return nil }
      let nameBytes = unsafe Int(bytes.unsafeLoadUnaligned(as: UInt16.self).littleEndian)
      guard nameBytes <= Connection.maximumNameBytes, bytes.byteCount - 2 >= nameBytes else { return nil }
      let name = unsafe bytes.extracting(2..<2 + nameBytes).withUnsafeBytes {
        unsafe String(validating: $0, as: UTF8.self)
      }
      return name.map { ($0, 2 + nameBytes) }
    }
    return opened.map { ($0.0, event.droppingFirst($0.1)) }
  }
}

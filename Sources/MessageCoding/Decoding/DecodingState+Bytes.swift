import Synchronization

// `Data`, which decodes itself one byte at a time.
//
// The coder does without Foundation, and knows of `Data` by its name, and as a collection of bytes that can be made of
// others: of those of a run it is made by copying them.

extension DecodingState {
  /// What the value is to be made as, if its type is `Data` and it is a long run of bytes; nil: it has to decode itself.
  @inline(__always)
  func byteString(_ type: Any.Type, _ value: BinaryValue, depth: UInt16) -> ByteString? {
    value.tag == Tag.unkeyed && value.end &- value.start >= ByteString.leastCopied
      ? longByteString(type, value, depth: depth) : nil
  }

  @inline(never)
  private func longByteString(_ type: Any.Type, _ value: BinaryValue, depth: UInt16) -> ByteString? {
    // What is too deep, or is no run, is left to the containers.
    depth < maximumDepth && isRun(of: UInt8.self, value) ? ByteString(type) : nil
  }

  /// Makes such a value, which is of type `T`.
  @inline(never)
  func copy<T>(_ value: BinaryValue, as string: ByteString) -> T {
    let start = Int(value.start) + 4 + Layout.runHeaderBytes
    passHeader(value, to: value.end)
    return unsafe reader.withBytes(from: start, to: Int(value.end)) { unsafe make(string.type, $0) } as! T
  }

  private func make<Bytes: RangeReplaceableCollection<UInt8>>(
    _ type: Bytes.Type, _ bytes: UnsafeBufferPointer<UInt8>
  ) -> Any {
    unsafe Bytes(bytes)
  }
}

/// The type `Data`.
struct ByteString {
  /// From here on, looking for the type's name is not worth mentioning.
  static var leastCopied: UInt32 { 128 }

  /// Which type `Data` is, once one was met. Relaxed: an address that is compared, and nothing else.
  private static let known = Atomic<UInt>(0)

  /// As what can be made of bytes.
  let type: any RangeReplaceableCollection<UInt8>.Type

  init?(_ type: Any.Type) {
    let identity = UInt(bitPattern: ObjectIdentifier(type))
    if Self.known.load(ordering: .relaxed) != identity {
      // A type of the same name in another module may decode itself in another way.
      guard ["FoundationEssentials.Data", "Foundation.Data"].contains(String(reflecting: type)) else { return nil }
      Self.known.store(identity, ordering: .relaxed)
    }
    guard let type = type as? any RangeReplaceableCollection<UInt8>.Type else { return nil }
    self.type = type
  }
}

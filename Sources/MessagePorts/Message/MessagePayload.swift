import Glibc
public import SharedRing

/// A message's bytes, owned: small ones inside the value, larger ones on the heap.
@usableFromInline struct MessagePayload: Sendable {
  /// What fits without an allocation: a small encoded value, while the event is still cheap to pass around.
  static let inlineCapacity = 112

  /// A tuple, because it is copied as plain bytes; a generic array goes through its type's metadata.
  @usableFromInline typealias InlineBytes = (
    UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64,
    UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64
  )
  @usableFromInline private(set) var inline: InlineBytes = (0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
  @usableFromInline private(set) var heap: OwnedBytes?
  @usableFromInline private(set) var byteCount = 0

  /// No bytes.
  init() {}

  /// Copies `bytes`; `nil` if there is no memory.
  init?(copying bytes: RawSpan) {
    guard assign(bytes) else { return nil }
  }

  static func copy(of bytes: RawSpan) throws(PortError) -> MessagePayload {
    guard let copy = MessagePayload(copying: bytes) else { throw .system(SystemError(call: "malloc", errno: ENOMEM)) }
    return copy
  }

  /// Becomes a copy of `bytes`; `false`, and unchanged, if there is no memory.
  @inline(__always)
  mutating func assign(_ bytes: RawSpan) -> Bool {
    if bytes.byteCount <= Self.inlineCapacity {
      if heap != nil { heap = nil }
      if bytes.byteCount == 8 {
        unsafe inline.0 = bytes.unsafeLoadUnaligned(as: UInt64.self)
      } else {
        unsafe bytes.withUnsafeBytes { source in
          unsafe withUnsafeMutableBytes(of: &inline) { unsafe $0.copyMemory(from: source) }
        }
      }
    } else {
      guard let copy = OwnedBytes(byteCount: bytes.byteCount) else { return false }
      copy.write(bytes, at: 0)
      heap = copy
    }
    byteCount = bytes.byteCount
    return true
  }

  init(_ bytes: OwnedBytes) {
    byteCount = bytes.byteCount
    heap = bytes
  }

  @inlinable @inline(__always)
  func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    if let heap { return try heap.withBytes(body) }
    return try unsafe withUnsafeBytes(of: inline) { (bytes) throws(Failure) -> Result in
      try unsafe body(UnsafeRawBufferPointer(start: bytes.baseAddress, count: byteCount).bytes)
    }
  }
}

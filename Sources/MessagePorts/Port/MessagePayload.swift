import SharedRing

/// A message's bytes, owned: small ones inside the value, larger ones on the heap.
struct MessagePayload: Sendable {
  /// What fits without an allocation: a small encoded value, with the event still cheap to pass around.
  static let inlineCapacity = 48

  private var inline: InlineArray<6, UInt64>
  private let heap: OwnedBytes?
  let byteCount: Int

  /// Copies `bytes`, or fails for want of memory.
  @inline(__always)
  init?(copying bytes: RawSpan) {
    byteCount = bytes.byteCount
    inline = InlineArray(repeating: 0)
    if bytes.byteCount <= Self.inlineCapacity {
      heap = nil
      unsafe bytes.withUnsafeBytes { source in
        unsafe withUnsafeMutableBytes(of: &inline) { unsafe $0.copyMemory(from: source) }
      }
    } else {
      guard let heap = OwnedBytes(byteCount: bytes.byteCount) else { return nil }
      heap.write(bytes, at: 0)
      self.heap = heap
    }
  }

  init(_ bytes: OwnedBytes) {
    byteCount = bytes.byteCount
    inline = InlineArray(repeating: 0)
    heap = bytes
  }

  @inline(__always)
  func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    if let heap { return try heap.withBytes(body) }
    return try unsafe withUnsafeBytes(of: inline) { (bytes) throws(Failure) -> Result in
      try unsafe body(UnsafeRawBufferPointer(start: bytes.baseAddress, count: byteCount).bytes)
    }
  }
}

/// A message that waits in this process.
struct QueuedMessage: Sendable {
  let payload: MessagePayload
  /// The ports it carries, already as the objects that the receiver will get. Dropping the message closes them.
  let ports: [MessagePort]

  /// What it counts for in a limit on unread data: the same here as in shared memory.
  var recordBytes: Int { RecordHeader.recordBytes(payloadBytes: payload.byteCount) }
}

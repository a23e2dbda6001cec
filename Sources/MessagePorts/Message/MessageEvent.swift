public import MessageCoding

/// A message that has arrived: its bytes, and the ports, descriptors and buffers that came with it.
///
/// The bytes are a copy that belongs to the event; nothing that the sender does changes them. Ports,
/// descriptors and buffers that nobody keeps close when the last copy of the event goes away.
///
/// Thread safety: an immutable value.
public struct MessageEvent: Sendable {
  @usableFromInline private(set) var payload: MessagePayload
  /// Where the message itself begins: behind a connection's channel name.
  @usableFromInline private(set) var bodyOffset = 0

  /// One reference for all of it: most messages have none, and events are copied.
  let cargo: MessageCargo?

  /// The received ports in the order of the sender's transfer list, open and not started; empty if there were none.
  public var ports: [MessagePort] { cargo?.ports ?? [] }

  /// The received descriptors in the order of the sender's list; empty if there were none. They are close-on-exec, and of
  /// any kind: see ``Descriptor``.
  public var descriptors: [Descriptor] { cargo?.freight.descriptors ?? [] }

  /// The received buffers in the order of the sender's list; empty if there were none. Each is what it says: see
  /// ``MessageBuffer``. None is mapped yet.
  public var buffers: [MessageBuffer] { cargo?.freight.buffers ?? [] }

  @inline(__always)
  init(payload: MessagePayload, cargo: MessageCargo?) {
    self.payload = payload
    self.cargo = cargo
  }

  /// For a message to come, or an empty one.
  @inline(__always)
  init() { self.init(payload: MessagePayload(), cargo: nil) }

  /// Becomes a message of these bytes; `false`, and unchanged, if there is no memory. Nothing has come with it.
  @inline(__always)
  mutating func assign(_ bytes: RawSpan) -> Bool { payload.assign(bytes) }

  /// The message's size in bytes.
  @inlinable public var byteCount: Int { payload.byteCount - bodyOffset }

  /// The same message without its first bytes.
  func droppingFirst(_ count: Int) -> MessageEvent {
    var event = self
    event.bodyOffset += count
    return event
  }

  /// Calls `body` with the message's bytes, without copying them.
  @inlinable @inline(__always)
  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try payload.withBytes { (bytes) throws(Failure) -> Result in try body(bytes.extracting(droppingFirst: bodyOffset)) }
  }

  /// The message's bytes, copied.
  ///
  /// - Complexity: O(bytes).
  public var bytes: [UInt8] {
    withBytes { span in
      unsafe [UInt8](unsafeUninitializedCapacity: span.byteCount) { buffer, count in
        unsafe span.withUnsafeBytes { unsafe UnsafeMutableRawBufferPointer(buffer).copyMemory(from: $0) }
        count = span.byteCount
      }
    }
  }

  /// The message as a plain value, as posted with ``MessagePort/postMessage(bitwise:transfer:)``.
  ///
  /// Safe whatever a peer has sent.
  ///
  /// - Throws: ``PortError/decodingFailed(_:)`` with ``BitwiseSizeMismatch`` if the size differs.
  @inlinable
  public func load<Value: PlainValue>(as type: Value.Type) throws(PortError) -> Value {
    _ = Value.layout
    return try unsafe unsafeLoad(as: type)
  }

  /// The message as a value of any type that is copied bit by bit, as posted with
  /// ``MessagePort/postMessage(unsafeBitwise:transfer:)``.
  ///
  /// Unsafe: bytes that are no value of the type, such as those of an enum with another case, lead to undefined behaviour.
  /// Only for peers who can be trusted never to send such bytes. Otherwise as ``load(as:)``.
  @inlinable
  @unsafe
  public func unsafeLoad<Value: BitwiseCopyable>(as type: Value.Type) throws(PortError) -> Value {
    let size = MemoryLayout<Value>.size
    guard byteCount == size else {
      throw .decodingFailed(BitwiseSizeMismatch(expectedByteCount: size, actualByteCount: byteCount))
    }
    // The common case: to lend out all of what a payload holds in itself, the compiler copies it.
    if size <= 8, bodyOffset == 0, payload.heap == nil {
      return unsafe withUnsafeBytes(of: payload.inline.0) { unsafe $0.loadUnaligned(as: Value.self) }
    }
    return withBytes { span in
      unsafe span.withUnsafeBytes { unsafe $0.loadUnaligned(as: Value.self) }
    }
  }

  /// The message as a value encoded by the same coder, as posted with `MessagePort/postMessage(_:transfer:)`.
  ///
  /// - Parameters:
  ///   - type: what the message is expected to be.
  ///   - coder: the process's coder by default; see ``MessageCoders``.
  /// - Throws: ``PortError/decodingFailed(_:)`` with the coder's `DecodingError`.
  /// - Complexity: the coder's: O(bytes) for `BinaryMessageCoder`, if `init(from:)` is linear.
  public func decode<Value: Decodable>(
    _ type: Value.Type, coder: any MessageCoder = MessageCoders.current
  ) throws(PortError) -> Value {
    do {
      return try withBytes { (span) throws -> Value in try coder.decode(type, from: span) }
    } catch {
      throw .decodingFailed(error)
    }
  }

  /// The message as a value that reads itself, encoded by the process's coder; see ``decode(_:coder:)``.
  ///
  /// - Throws: ``PortError/decodingFailed(_:)`` with the coder's `DecodingError`.
  /// - Complexity: O(bytes), and no allocation but those of the value.
  @inlinable
  public func decode<Value: MessageValue>(_ type: Value.Type) throws(PortError) -> Value {
    do {
      return try withBytes { (span) throws -> Value in try MessageCoders.decode(type, from: span) }
    } catch {
      throw .decodingFailed(error)
    }
  }
}

extension MessageEvent {
  /// The message as a value, of a type that may read itself: see `MessageCoders.encode(_:)`.
  func value<Value: Decodable>(_ type: Value.Type) throws(PortError) -> Value {
    do {
      return try withBytes { (span) throws -> Value in try MessageCoders.decode(type, from: span) }
    } catch {
      throw .decodingFailed(error)
    }
  }
}

/// A message was to be read as a plain value, and has another size.
public struct BitwiseSizeMismatch: Error, Hashable, Sendable {
  /// The size of the value's type, in bytes.
  public let expectedByteCount: Int
  /// The size of the message, in bytes.
  public let actualByteCount: Int

  @usableFromInline init(expectedByteCount: Int, actualByteCount: Int) {
    self.expectedByteCount = expectedByteCount
    self.actualByteCount = actualByteCount
  }
}

public import MessageCoding
import SharedRing

/// Memory that nobody changes any more: neither this process, nor whoever made it, nor anybody it is sent to. The kernel sees
/// to that, and a received one was looked at before it is handed out.
///
/// So it is read where it is. It moves with a message; to keep it, or to send it to many, list a ``copy()``, which costs a
/// descriptor in the process that receives it, and no memory: the pages are there once, for all.
///
/// ```swift
/// func publish(_ model: FrozenBuffer, to workers: [MessagePort]) throws {
///   for worker in workers { try worker.postMessage("model", buffers: [.frozen(try model.copy())]) }
/// }
/// ```
///
/// The memory is freed when the last holder is gone: buffers and their bytes in whatever process, and unread messages.
///
/// Thread safety: any thread may use any member. In a process that was forked without an exec, buffers that existed before are
/// closed; bytes that were mapped can still be read.
public final class FrozenBuffer: Sendable {
  let handle: BufferHandle

  init(_ memory: BufferMemory) { handle = BufferHandle(memory) }
  private init(_ handle: BufferHandle) { self.handle = handle }

  /// Makes a buffer of a copy of some bytes, at least one.
  ///
  /// - Throws: ``BufferError/invalidByteCount(_:)``, ``BufferError/system(_:)``.
  /// - Complexity: O(bytes), and some system calls. To spare the copy, write into a ``SharedBuffer``.
  public convenience init(copying bytes: RawSpan) throws(BufferError) {
    var buffer = try SharedBuffer(byteCount: bytes.byteCount)
    try buffer.write(bytes)
    self.init(try buffer.freeze().handle)
  }

  /// Makes a buffer of a copy of some bytes; see ``init(copying:)-(RawSpan)``.
  public convenience init(copying bytes: [UInt8]) throws(BufferError) {
    try unsafe self.init(copying: bytes.span.bytes)
  }

  /// How large it is. The kernel's word, not the sender's.
  public var byteCount: Int { handle.byteCount }

  /// Whether this has its memory: it was not closed or posted.
  public var isOpen: Bool { handle.isOpen }

  /// The bytes, mapped when they are first asked for, and as long as anybody has them.
  ///
  /// - Parameter limit: the largest buffer that the caller wants to have here: a sender may choose any size, and mapping costs
  ///   addresses, tables, and whatever memory is not there any more.
  /// - Throws: ``BufferError/tooLarge(byteCount:limit:)``, ``BufferError/closed``, ``BufferError/gone``,
  ///   ``BufferError/system(_:)``.
  /// - Complexity: the first time, O(bytes), and two system calls: all pages are made ready. Then, one lock.
  public func bytes(upTo limit: Int = .max) throws(BufferError) -> FrozenBytes {
    guard byteCount <= limit else { throw .tooLarge(byteCount: byteCount, limit: limit) }
    return FrozenBytes(try handle.memory().map())
  }

  /// Reads a value where it lies, as ``MessageEvent/decode(_:coder:)`` does from a message.
  ///
  /// - Throws: ``PortError/decodingFailed(_:)`` with the coder's error; ``BufferError``, as ``bytes(upTo:)``.
  /// - Complexity: the coder's, and that of ``bytes(upTo:)``. The bytes are not copied.
  public func decode<Value: Decodable>(
    _ type: Value.Type, upTo limit: Int = .max, coder: any MessageCoder = MessageCoders.current
  ) throws -> Value {
    let bytes = try bytes(upTo: limit)
    do {
      return try bytes.withBytes { (span) throws -> Value in try coder.decode(type, from: span) }
    } catch {
      throw PortError.decodingFailed(error)
    }
  }

  /// Reads a value that reads itself where it lies; for the rest see `decode(_:upTo:coder:)`.
  ///
  /// - Throws: ``PortError/decodingFailed(_:)`` with the coder's error; ``BufferError``, as ``bytes(upTo:)``.
  /// - Complexity: O(bytes), and that of ``bytes(upTo:)``.
  @inlinable
  public func decode<Value: MessageValue>(_ type: Value.Type, upTo limit: Int = .max) throws -> Value {
    let bytes = try bytes(upTo: limit)
    do {
      return try bytes.withBytes { (span) throws -> Value in try MessageCoders.decode(type, from: span) }
    } catch {
      throw PortError.decodingFailed(error)
    }
  }

  /// Another one for the same memory: to be kept, or to be sent elsewhere.
  ///
  /// - Throws: ``BufferError/closed``, ``BufferError/gone``.
  /// - Complexity: O(1), no system call.
  public func copy() throws(BufferError) -> FrozenBuffer { FrozenBuffer(try handle.copy()) }

  /// Lets go of the memory, unless it was posted or closed before. Bytes that somebody has stay as they are.
  public func close() { handle.close() }
}

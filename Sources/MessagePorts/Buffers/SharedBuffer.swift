import Glibc
import SharedRing

/// Memory that is about to be handed to other processes: written here first, by one owner, while nobody else has it.
///
/// ```swift
/// func makeTable(of numbers: [UInt64]) throws -> FrozenBuffer {
///   var buffer = try SharedBuffer(byteCount: numbers.count * 8)
///   for (index, number) in numbers.enumerated() { try buffer.store(number, at: index * 8) }
///   return try buffer.freeze()
/// }
/// ```
///
/// Then it becomes one of two things, for good. Frozen, nobody can write it any more, neither here nor elsewhere: readers need
/// not copy it, and however many processes have it, its pages are there once. Shared, everybody who has it can write it, and
/// its bytes are nobody's word for anything.
///
/// Whoever owns this can use it on one thread at a time. In a process that was forked without an exec, one that existed before
/// is closed.
public struct SharedBuffer: ~Copyable, Sendable {
  private var memory: WritableMemory?
  private let mark = ProcessMark.current
  /// How large it is.
  public let byteCount: Int

  /// Makes a buffer of zeros.
  ///
  /// Its memory is there when this returns, so that nobody who writes it is killed by a lack of it later.
  ///
  /// - Parameters:
  ///   - byteCount: at least 1.
  ///   - prefersHugePages: asks the kernel for larger pages (of 2 MiB on x86-64) as far as they fit: large buffers are faster
  ///     to make and to use then. The system decides, by its setting `transparent_hugepage/shmem_enabled`, which has to be
  ///     `advise` at least; nothing else depends on it.
  /// - Throws: ``BufferError/invalidByteCount(_:)``, ``BufferError/system(_:)``.
  /// - Complexity: O(bytes): the kernel clears each page. A few system calls.
  public init(byteCount: Int, prefersHugePages: Bool = false) throws(BufferError) {
    guard byteCount > 0 else { throw .invalidByteCount(byteCount) }
    do throws(SystemError) {
      memory = try WritableMemory(byteCount: byteCount, wantsHugePages: prefersHugePages)
    } catch {
      throw .system(error)
    }
    self.byteCount = byteCount
  }

  // MARK: Writing

  /// Lends the bytes to `body`, to be read and written.
  ///
  /// - Throws: ``BufferError/gone``, ``BufferError/closed``; or what `body` throws.
  public mutating func withMutableBytes<Result: ~Copyable>(
    _ body: (inout MutableRawSpan) throws -> Result
  ) throws -> Result {
    try check()
    guard let bytes = unsafe memory?.mutableBytes else { throw BufferError.gone }
    var span = unsafe bytes.mutableBytes
    return try body(&span)
  }

  /// Copies bytes in.
  ///
  /// - Throws: ``BufferError/outOfBounds(offset:byteCount:bufferByteCount:)``, ``BufferError/gone``, ``BufferError/closed``.
  /// - Complexity: O(bytes).
  public mutating func write(_ bytes: RawSpan, at offset: Int = 0) throws(BufferError) {
    try BufferError.check(offset, bytes.byteCount, in: byteCount)
    try check()
    memory?.copy(bytes, to: offset)
  }

  /// Copies bytes in; see ``write(_:at:)-(RawSpan,_)``.
  public mutating func write(_ bytes: [UInt8], at offset: Int = 0) throws(BufferError) {
    try unsafe write(bytes.span.bytes, at: offset)
  }

  /// Writes a plain value, as its bytes in memory, wherever `offset` is.
  ///
  /// - Throws: as ``write(_:at:)-(RawSpan,_)``.
  public mutating func store<Value: PlainValue>(_ value: Value, at offset: Int) throws(BufferError) {
    _ = Value.layout
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(BufferError) in try unsafe write(bytes.bytes, at: offset) }
  }

  private func check() throws(BufferError) {
    if mark.isInherited { throw .closed }
    if memory == nil { throw .gone }
  }

  // MARK: Handing it out

  /// Seals the bytes as they are: from now on nobody can change them, whoever gets them, this process included. This buffer
  /// stands for nothing afterwards.
  ///
  /// - Returns: what can be read and sent.
  /// - Throws: ``BufferError/isBeingWritten``, ``BufferError/gone``, ``BufferError/closed``, ``BufferError/system(_:)``. The
  ///   buffer is as it was. (Should its memory not even be there for it any more, it is ``BufferError/gone`` next time.)
  /// - Complexity: O(bytes): the kernel looks at each page. If something writes into the buffer, it waits for that, for 150 ms
  ///   or so.
  public mutating func freeze() throws(BufferError) -> FrozenBuffer { FrozenBuffer(try seal(as: .frozen)) }

  /// Lets everybody who gets the buffer write it. This one stands for nothing afterwards.
  ///
  /// - Returns: what can be read, written and sent.
  /// - Throws: as ``freeze()``, but never ``BufferError/isBeingWritten``.
  public mutating func share() throws(BufferError) -> UntrustedBuffer { UntrustedBuffer(try seal(as: .shared)) }

  private mutating func seal(as kind: BufferFile.Kind) throws(BufferError) -> BufferMemory {
    try check()
    guard let memory else { throw .gone }
    do throws(SystemError) {
      let file = try memory.seal(as: kind)
      self.memory = nil
      return BufferMemory(file)
    } catch {
      if !memory.isMapped { self.memory = nil }
      throw error.errno == EBUSY ? .isBeingWritten : .system(error)
    }
  }
}

import CSupport

/// A buffer's memory, mapped until this goes away.
///
/// Thread safety: immutable. Others may write the bytes of a shared one at any time.
@safe
package final class BufferBytes: Sendable {
  private let mapping: BufferMapping
  package let byteCount: Int

  init(of file: BufferFile) throws(SystemError) {
    mapping = try file.makeMapping()
    byteCount = file.byteCount
  }

  /// The bytes themselves. Only of frozen ones: those of others change while they are looked at.
  package func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try unsafe body(UnsafeRawBufferPointer(start: mapping.address, count: byteCount).bytes)
  }

  /// Copies bytes out. The range has to lie within the buffer.
  @unsafe package func copy(from offset: Int, to target: UnsafeMutableRawBufferPointer) {
    precondition(offset >= 0 && target.count <= byteCount - offset, "copy from beyond the buffer")
    if let to = target.baseAddress { unsafe csupport_copy_shared(to, mapping.address + offset, target.count) }
  }

  /// Copies bytes in. The range has to lie within the buffer.
  package func copy(_ bytes: RawSpan, to offset: Int) {
    precondition(offset >= 0 && bytes.byteCount <= byteCount - offset, "copy beyond the buffer")
    unsafe bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { unsafe csupport_copy_shared(mapping.address + offset, from, source.count) }
    }
  }
}

/// One mapping of a buffer, given back when this goes away.
@safe
struct BufferMapping: ~Copyable, @unchecked Sendable {  // owns a fixed range of addresses, no state
  let address: UnsafeMutableRawPointer
  private let byteCount: Int
  private let use: csupport_buffer_use

  init(_ fd: CInt, _ byteCount: Int, _ use: csupport_buffer_use) throws(SystemError) {
    var address: UnsafeMutableRawPointer?
    let result = unsafe csupport_buffer_map(fd, byteCount, use, &address)
    guard result >= 0, let address = unsafe address else { throw SystemError(call: "mmap", errno: -result) }
    unsafe self.address = unsafe address
    self.byteCount = byteCount
    self.use = use
  }

  deinit { _ = unsafe csupport_buffer_unmap(address, byteCount, use) }
}

import CSupport

/// Memory that only this process has, to be written before it is frozen or shared.
///
/// One owner, and one thread at a time. A class, because the compiler of Swift 6.3 crashes on optional noncopyable values
/// inside another one, when it optimises.
@safe
package final class WritableMemory: @unchecked Sendable {  // its one owner is the only one to use it
  private var fd: CInt
  private var address: UnsafeMutableRawPointer?
  package let byteCount: Int

  /// Makes memory of so many bytes, all zero. All of it is there: a system that has not so much says so now, and not by a
  /// signal later.
  package init(byteCount: Int, wantsHugePages: Bool) throws(SystemError) {
    self.byteCount = byteCount
    unsafe address = nil
    fd = -1
    // From here on, `deinit` gives back what there is.
    fd = try check("memfd_create") { csupport_buffer_create(UInt64(byteCount)) }
    try map()
    try check("madvise") { unsafe csupport_buffer_populate(fd, address, byteCount, wantsHugePages) }
  }

  deinit {
    unmap()
    // After the mapping, so that freeing much memory is left to those who close the file.
    if fd >= 0 { csupport_memory_close(fd) }
  }

  private func map() throws(SystemError) {
    let result = unsafe csupport_buffer_map(fd, byteCount, CSUPPORT_BUFFER_FOR_ITS_MAKER, &address)
    guard result >= 0 else { throw SystemError(call: "mmap", errno: -result) }
  }

  private func unmap() {
    if let mapped = unsafe address {
      _ = unsafe csupport_buffer_unmap(mapped, byteCount, CSUPPORT_BUFFER_FOR_ITS_MAKER)
    }
    unsafe address = nil
  }

  /// Not once it was sealed; nor if it could not be mapped again after ``seal(as:)`` had failed.
  package var isMapped: Bool { unsafe address != nil }

  /// The bytes, for as long as this is neither sealed nor gone. `nil`: see ``isMapped``.
  @unsafe package var mutableBytes: UnsafeMutableRawBufferPointer? {
    unsafe address.map { unsafe UnsafeMutableRawBufferPointer(start: $0, count: byteCount) }
  }

  /// Copies bytes in. The range has to lie within it.
  package func copy(_ bytes: RawSpan, to offset: Int) {
    precondition(offset >= 0 && bytes.byteCount <= byteCount - offset, "copy beyond the buffer")
    guard let to = unsafe address else { return }
    unsafe bytes.withUnsafeBytes { source in
      if let from = source.baseAddress { unsafe csupport_copy(to + offset, from, source.count) }
    }
  }

  /// Makes this what it is for good, and hands it over: this has nothing any more. On failure it is as it was; or, if it
  /// cannot even be mapped again, is not mapped.
  package func seal(as kind: BufferFile.Kind) throws(SystemError) -> BufferFile {
    unmap()
    crashPoint(.bufferWritten)
    do throws(SystemError) {
      switch kind {
      case .frozen: try check("fcntl") { csupport_buffer_freeze(fd) }
      case .shared: try check("fcntl") { csupport_buffer_share(fd) }
      }
    } catch {
      try? map()
      throw error
    }
    crashPoint(.bufferSealed)
    defer { fd = -1 }
    return BufferFile(owning: MemoryFile(owning: fd), byteCount: byteCount, kind: kind)
  }
}

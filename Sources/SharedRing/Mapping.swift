import CSupport

/// One mapping of a part of a file, unmapped when this goes away.
@safe
@usableFromInline package struct Mapping: ~Copyable, @unchecked Sendable {  // owns a fixed range of addresses, no state
  package let address: UnsafeMutableRawPointer
  package let byteCount: Int
  /// Where in the file it begins.
  package let fileOffset: UInt64

  package init(fd: CInt, fileOffset: UInt64, byteCount: Int) throws(SystemError) {
    var address: UnsafeMutableRawPointer?
    let result = unsafe csupport_memory_map(fd, fileOffset, byteCount, &address)
    guard result >= 0, let address = unsafe address else { throw SystemError(call: "mmap", errno: -result) }
    unsafe self.address = unsafe address
    self.byteCount = byteCount
    self.fileOffset = fileOffset
  }

  deinit { _ = unsafe csupport_memory_unmap(address, byteCount) }
}

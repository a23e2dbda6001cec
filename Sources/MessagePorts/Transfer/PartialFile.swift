import CSupport
import SharedRing

/// The part of a large message that had come when its port moved on, in a file that moves with it.
enum PartialFile {
  /// Makes a file of the first `filled` bytes. The caller owns the descriptor.
  static func make(_ bytes: OwnedBytes, filled: Int) throws(SystemError) -> CInt {
    let fd = try check("memfd_create") { csupport_memory_create_sealed(UInt64(max(filled, 1))) }
    do throws(SystemError) {
      try check("fallocate") { csupport_memory_reserve(fd, 0, UInt64(max(filled, 1))) }
      let mapping = try Mapping(fd: fd, fileOffset: 0, byteCount: max(filled, 1))
      bytes.withBytes { span in
        unsafe span.extracting(first: filled).withUnsafeBytes { source in
          unsafe UnsafeMutableRawBufferPointer(start: mapping.address, count: filled).copyMemory(from: source)
        }
      }
      return fd
    } catch {
      _ = csupport_close(fd)
      throw error
    }
  }

  /// Reads such a file into a message of `byteCount` bytes; `nil` if it is not one, or there is no memory for it.
  static func read(_ fd: CInt, byteCount: Int, filled: Int, acceptsUnsealed: Bool) -> OwnedBytes? {
    // Seals first: what has none may shrink after it was measured.
    // A hole would be filled by reading it: a peer could make us allocate memory that it never had itself.
    guard acceptsUnsealed || csupport_memory_is_shrink_sealed(fd) == 1,
      let facts = try? ChannelMemory.fileFacts(fd), facts.is_regular, facts.size_bytes >= UInt64(max(filled, 1)),
      facts.allocated_bytes >= UInt64(filled), let bytes = OwnedBytes(byteCount: byteCount),
      let mapping = try? Mapping(fd: fd, fileOffset: 0, byteCount: max(filled, 1))
    else { return nil }
    unsafe bytes.write(UnsafeRawBufferPointer(start: mapping.address, count: filled).bytes, at: 0)
    return bytes
  }
}

import CSupport

/// The memory of a buffer: made here, or what a peer has sent, after the kernel has said that it is one.
///
/// Thread safety: immutable.
package final class BufferFile: Sendable {
  package enum Kind: Sendable {
    /// Nobody can write it any more.
    case frozen
    /// Everybody who has it can write it.
    case shared
  }

  private let file: MemoryFile
  package let byteCount: Int
  package let kind: Kind
  /// Which memory this is, by whatever descriptor it has come. Of what was made here, it is asked for.
  private let knownIdentity: ChannelMemory.Identity?

  init(owning file: consuming MemoryFile, byteCount: Int, kind: Kind, identity: ChannelMemory.Identity? = nil) {
    self.file = file
    self.byteCount = byteCount
    self.kind = kind
    knownIdentity = identity
  }

  /// Which memory this is, as long as anybody has it.
  package func identity() throws(SystemError) -> ChannelMemory.Identity {
    if let knownIdentity { return knownIdentity }
    var facts = csupport_file_facts()
    try check("fstat") { unsafe csupport_file_facts(file.fd, &facts) }
    return ChannelMemory.Identity(device: facts.device, inode: facts.inode)
  }

  /// Takes over `fd`, which a peer sent, whatever it is. On failure it is closed, elsewhere. Does not block.
  package convenience init(received fd: CInt) throws(AttachError) {
    var facts = csupport_file_facts()
    let found = unsafe csupport_buffer_inspect(fd, &facts)
    let refusal: AttachError? =
      switch found {
      case CInt(CSUPPORT_BUFFER_SHARED), CInt(CSUPPORT_BUFFER_FROZEN):
        if facts.size_bytes == 0 || facts.size_bytes > UInt64(Int.max) {
          .tooShort(byteCount: facts.size_bytes)
        } else if found == CInt(CSUPPORT_BUFFER_FROZEN), facts.allocated_bytes < facts.size_bytes {
          // Whoever reads a hole takes a page that its sender never had.
          .hasHoles(byteCount: facts.size_bytes, allocated: facts.allocated_bytes)
        } else {
          nil
        }
      case ..<0: .system(SystemError(call: "fcntl", errno: -found))
      default: .notABuffer
      }
    if let refusal {
      csupport_close_elsewhere(fd)
      throw refusal
    }
    self.init(
      owning: MemoryFile(owning: fd), byteCount: Int(facts.size_bytes),
      kind: found == CInt(CSUPPORT_BUFFER_FROZEN) ? .frozen : .shared,
      identity: ChannelMemory.Identity(device: facts.device, inode: facts.inode))
  }

  /// For those who send it away. It stays this object's.
  package var descriptor: CInt { file.fd }

  /// Maps all of it.
  package func map() throws(SystemError) -> BufferBytes { try BufferBytes(of: self) }

  func makeMapping() throws(SystemError) -> BufferMapping {
    try BufferMapping(file.fd, byteCount, kind == .frozen ? CSUPPORT_BUFFER_FOR_READING : CSUPPORT_BUFFER_FOR_ALL)
  }
}

/// A descriptor of memory, closed when this goes away: elsewhere, if there is much of it to be freed.
struct MemoryFile: ~Copyable, Sendable {
  let fd: CInt
  init(owning fd: CInt) { self.fd = fd }
  deinit { csupport_memory_close(fd) }
}

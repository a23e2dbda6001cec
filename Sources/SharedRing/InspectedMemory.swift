import CSupport

/// Memory that a peer sent, after the kernel has said that it is of a kind that this library makes.
///
/// The one way in for files of others: a channel's memory, and the file of a message that arrived in part.
package struct InspectedMemory: ~Copyable, Sendable {
  private let fd: CInt
  /// Sealed memory is never shorter than this again.
  package let byteCount: UInt64
  /// How much of it there really is.
  package let allocatedByteCount: UInt64
  package let identity: ChannelMemory.Identity

  /// Takes over `fd`, whatever it is, and finds out. Does not block.
  ///
  /// - Parameter trustingUnsealed: also takes memory that its sender can shrink.
  /// - Throws: why it is refused. The descriptor is closed then, elsewhere: that may take as long as its sender likes.
  package init(owning fd: CInt, trustingUnsealed: Bool) throws(AttachError) {
    var facts = csupport_file_facts()
    let kind = unsafe csupport_memory_inspect(fd, &facts)
    let refusal: AttachError? =
      switch kind {
      case CInt(CSUPPORT_MEMORY_SEALED): nil
      case CInt(CSUPPORT_MEMORY_UNSEALED): trustingUnsealed ? nil : .notSealed
      case ..<0: .system(SystemError(call: "fcntl", errno: -kind))
      default: trustingUnsealed ? .notMemory : .notSealed
      }
    if let refusal {
      csupport_close_elsewhere(fd)
      throw refusal
    }
    self.fd = fd
    byteCount = facts.size_bytes
    allocatedByteCount = facts.allocated_bytes
    identity = ChannelMemory.Identity(device: facts.device, inode: facts.inode)
  }

  deinit { csupport_memory_close(fd) }

  /// Hands the descriptor on to an owner who closes it as memory.
  package consuming func take() -> CInt {
    let fd = self.fd
    discard self
    return fd
  }

  /// Maps its beginning.
  func map(byteCount: Int) throws(AttachError) -> Mapping {
    do throws(SystemError) {
      return try Mapping(fd: fd, fileOffset: 0, byteCount: byteCount)
    } catch {
      throw .system(error)
    }
  }
}

/// Why a descriptor that a peer sent is not a channel's memory, or a buffer.
package enum AttachError: Error, Hashable {
  /// Not memory of the kind that this library makes.
  case notMemory
  /// The same, or memory that its sender can take away: where that is not accepted, what else it is does not matter.
  case notSealed
  case tooShort(byteCount: UInt64)
  case notAChannel
  case versionDiffers(theirs: UInt32)
  case implausibleCapacity(UInt64)
  /// Neither frozen nor shared: its size or its bytes may change in a way that those of no buffer do.
  case notABuffer
  /// Frozen memory of which less is there than it is long.
  case hasHoles(byteCount: UInt64, allocated: UInt64)
  case system(SystemError)

  /// Whether the sender is to blame: nothing is lacking here that may be there the next time.
  package var isViolation: Bool { if case .system(let error) = self { !error.mayPass } else { true } }
}

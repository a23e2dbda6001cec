/// Why a descriptor that a peer sent is not a channel's memory.
package enum AttachError: Error, Hashable {
  case notAFile
  case notSealed
  case tooShort(byteCount: UInt64)
  case notAChannel
  case versionDiffers(theirs: UInt32)
  case implausibleCapacity(UInt64)
  case system(SystemError)
}

/// Why a lane could not take a message, or can no longer be read.
package enum RingError: Error, Hashable {
  /// The peer wrote something that no correct peer writes; the text says what. The lane must not be used any further.
  case corruptPeer(String)
  /// The kernel refused memory for a bigger segment; the lane is as it was.
  case system(SystemError)
  /// The unread data would exceed the lane's limit; the lane is as it was.
  case limitReached
  /// Nobody will ever read this lane; nothing was written.
  case consumerGone
}

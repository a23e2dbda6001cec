/// Which kind of memory a channel lies in.
public enum MemoryBacking: String, Sendable, Hashable, CaseIterable {
  /// `memfd_create`, sealed against shrinking: no peer can pull it from under us.
  case memfd
  /// A file without a name where `shm_open` keeps its own: for systems or policies without memfd. A peer could shrink
  /// it and so kill whoever reads it, so a receiver takes it only if told to trust the peer.
  case posixSharedMemory
}

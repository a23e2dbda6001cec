import Synchronization

/// Whether descriptors that came through one channel had to be closed because nobody wanted them. They outlive the channel,
/// and tell it here.
final class WasteMark: Sendable {
  /// Relaxed: it only says where to be careful.
  private let flag = Atomic<Bool>(false)

  var isSet: Bool { flag.load(ordering: .relaxed) }
  func note() { flag.store(true, ordering: .relaxed) }
}

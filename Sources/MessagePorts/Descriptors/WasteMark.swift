import CSupport
import Synchronization

/// Whether descriptors that came through one channel had to be closed because nobody wanted them. They outlive the channel,
/// and tell it here.
///
/// A channel that comes while closing is behind is marked from the start: otherwise, whoever opens new ones all the time would
/// have a packet free with each.
final class WasteMark: Sendable {
  /// Relaxed: it only says where to be careful.
  private let flag = Atomic<Bool>(csupport_closing_is_behind(true))

  var isSet: Bool { flag.load(ordering: .relaxed) }
  func note() { flag.store(true, ordering: .relaxed) }
}

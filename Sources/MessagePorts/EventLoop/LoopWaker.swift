import CSupport
import Synchronization

/// What wakes a sleeping loop from within its own process.
@safe
final class LoopWaker: @unchecked Sendable {  // an atomic word at a fixed address, and a descriptor
  /// For a loop on io_uring, which sleeps on this word among others. Counts the wake-ups.
  private let word: UnsafeMutablePointer<Atomic<UInt32>>
  /// For a loop on epoll.
  let eventfd: CInt

  init() {
    unsafe word = .allocate(capacity: 1)
    unsafe word.initialize(to: Atomic(0))
    eventfd = csupport_eventfd_create()
    precondition(eventfd >= 0, "no descriptor left for an event loop")
  }

  deinit {
    unsafe word.deallocate()
    _ = csupport_close(eventfd)
  }

  @unsafe var address: UnsafeRawPointer { unsafe UnsafeRawPointer(word) }
  /// Read before looking whether there is anything to do; the sleep ends at once if it has changed by then.
  var count: UInt32 { unsafe word.pointee.load(ordering: .acquiring) }

  func wake(_ driver: EventLoop.Driver) {
    switch driver {
    case .uring:
      unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
      _ = unsafe csupport_futex_wake_all(word)
    case .epoll: _ = csupport_eventfd_signal(eventfd)
    }
  }

  func drain() { _ = csupport_eventfd_drain(eventfd) }
}

import CSupport
import SharedRing
import Synchronization

/// What wakes a sleeping loop from within its own process.
@safe
final class LoopWaker: @unchecked Sendable {  // an atomic word at a fixed address, and a descriptor
  /// For a loop on io_uring, which sleeps on this word among others. Counts the wake-ups.
  private let word: UnsafeMutablePointer<Atomic<UInt32>>
  /// For a loop on epoll; -1 until ``open()``.
  private let eventfd = Atomic<CInt>(-1)

  init() {
    unsafe word = .allocate(capacity: 1)
    unsafe word.initialize(to: Atomic(0))
  }

  deinit {
    unsafe word.deallocate()
    let fd = descriptor
    if fd >= 0 { _ = csupport_close(fd) }
  }

  /// Relaxed: set once, under the loop's lock, before the thread starts.
  var descriptor: CInt { eventfd.load(ordering: .relaxed) }

  /// Makes the descriptor, unless it is there.
  func open() throws(SystemError) {
    if descriptor >= 0 { return }
    eventfd.store(try check("eventfd") { csupport_eventfd_create() }, ordering: .relaxed)
  }

  @unsafe var address: UnsafeRawPointer { unsafe UnsafeRawPointer(word) }
  /// [loop-woken] Acquire: pairs with the release in `wake`; what was put into the inbox before it is seen.
  ///
  /// Read before looking whether there is anything to do; the sleep ends at once if it has changed by then.
  var count: UInt32 { unsafe word.pointee.load(ordering: .acquiring) }

  func wake(_ driver: EventLoop.Driver) {
    switch driver {
    case .uring:
      // [loop-woken] Release: pairs with the acquire of `count`. (An eventfd is the kernel's own order.)
      unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
      _ = unsafe csupport_futex_wake_all(word)
    case .epoll: _ = csupport_eventfd_signal(descriptor)
    }
  }

  func drain() { _ = csupport_eventfd_drain(descriptor) }
}

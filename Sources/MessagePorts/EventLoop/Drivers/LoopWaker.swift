import CSupport
import Synchronization

/// The word that wakes a loop on io_uring from within its own process: the loop sleeps on it among others.
@safe
final class LoopWaker: @unchecked Sendable {  // an atomic word at a fixed address
  /// Counts the wake-ups.
  private let word: UnsafeMutablePointer<Atomic<UInt32>>

  init() {
    unsafe word = .allocate(capacity: 1)
    unsafe word.initialize(to: Atomic(0))
  }

  deinit { unsafe word.deallocate() }

  @unsafe var address: UnsafeRawPointer { unsafe UnsafeRawPointer(word) }
  /// [loop-woken] Acquire: pairs with the release in `wake`; what was put into the inbox before it is seen.
  ///
  /// Read before looking whether there is anything to do; the sleep ends at once if it has changed by then.
  var count: UInt32 { unsafe word.pointee.load(ordering: .acquiring) }

  func wake() {
    // [loop-woken] Release: pairs with the acquire of `count`.
    unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
    _ = unsafe csupport_futex_wake_all(word)
  }
}

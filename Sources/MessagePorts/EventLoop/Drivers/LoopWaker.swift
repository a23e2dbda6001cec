import CSupport
import Synchronization

/// The word by which its own process wakes a loop on io_uring: the loop sleeps on it, among others.
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
  /// Read it before looking for work: a sleep ends at once if it has changed since.
  ///
  /// [loop-woken] Acquire: pairs with the release in `wake`; what was put into the inbox before that is seen.
  var count: UInt32 { unsafe word.pointee.load(ordering: .acquiring) }

  func wake() {
    // [loop-woken] Release: pairs with the acquire of `count`.
    unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
    _ = unsafe csupport_futex_wake_all(word)
  }
}

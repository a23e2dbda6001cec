import CSupport
import Synchronization

/// Where threads of this process sleep until something happens on a lane. Counts the events, so that none is missed
/// between looking and sleeping.
@safe
final class Parker: @unchecked Sendable {  // one atomic word at a fixed address
  private let word: UnsafeMutablePointer<Atomic<UInt32>>

  init() {
    unsafe word = .allocate(capacity: 1)
    unsafe word.initialize(to: Atomic(0))
  }

  deinit { unsafe word.deallocate() }

  /// [lane-event] Acquire: pairs with the release in `wakeAll`; the event that it tells of is seen.
  ///
  /// What to give to ``wait(since:timeoutNanoseconds:)``; read it before looking whether there is anything to do.
  var ticket: UInt32 { unsafe word.pointee.load(ordering: .acquiring) }

  func wait(since ticket: UInt32, timeoutNanoseconds: Int64) {
    _ = unsafe csupport_futex_wait(word, ticket, timeoutNanoseconds)
  }

  func wakeAll() {
    // [lane-event] Release: pairs with the acquire of `ticket`.
    unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
    _ = unsafe csupport_futex_wake_all(word)
  }
}

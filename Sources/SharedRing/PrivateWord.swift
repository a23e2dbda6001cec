import CSupport
import Synchronization

/// A word of this process, on which its threads sleep besides a doorbell: what this process wants of its own threads does
/// not depend on a word that a peer can reach. Counts the events, so that none is missed between looking and sleeping.
@safe
package final class PrivateWord: @unchecked Sendable {  // one atomic word at a fixed address
  private let word: UnsafeMutablePointer<Atomic<UInt32>>

  package init() {
    unsafe word = .allocate(capacity: 1)
    unsafe word.initialize(to: Atomic(0))
  }

  deinit { unsafe word.deallocate() }

  /// What a thread has to have before it looks whether there is anything to do: it sleeps only if nothing has happened
  /// since.
  package struct Ticket: Sendable {
    package let word: PrivateWord
    fileprivate let count: UInt32
  }

  /// [local-event] Acquire: pairs with the release in ``ring()``; what the ring was about is seen.
  package var ticket: Ticket { Ticket(word: self, count: unsafe word.pointee.load(ordering: .acquiring)) }

  /// Makes all threads look again. What there is to be seen is written before; no lock is held.
  package func ring() {
    // [local-event] Release: pairs with the acquire of `ticket`.
    unsafe word.pointee.wrappingAdd(1, ordering: .releasing)
    _ = unsafe csupport_private_wake_all(word)
  }
}

extension PrivateWord.Ticket {
  /// Sleeps until the word is rung, at most so long (< 0: without limit). May return for no reason.
  package func wait(timeoutNanoseconds: Int64) {
    _ = unsafe csupport_private_wait(word.word, count, timeoutNanoseconds)
  }

  /// The same; also ends when the doorbell does not say any more that this side sleeps on its futex.
  @unsafe package func wait(orFor doorbell: UnsafeMutableRawPointer, timeoutNanoseconds: Int64) {
    _ = unsafe csupport_futex_wait_either(
      doorbell, Doorbell.asleepOnFutex, word.word, count, timeoutNanoseconds)
  }
}

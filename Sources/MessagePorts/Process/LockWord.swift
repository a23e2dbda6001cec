import CSupport
import Synchronization

/// A lock without a value. In a forked child it is free, whoever had it in the parent.
///
/// The standard library's `Mutex` will not do: it knows its owner by a thread's number, which it keeps for the thread that
/// forks, and traps when that is another's in the child.
///
///     bits 2…31  the mark of the process that last used it
///     bits 0…1   0 free, 1 taken, 2 taken, and perhaps awaited
///
/// Other threads than the one that forked never give back what they had. But their lock has the parent's mark, and so it
/// counts as free in the child, which is told that it is the first to take it.
struct LockWord: ~Copyable, Sendable {
  private let word = Atomic<UInt32>(csupport_process_mark())

  private static let taken: UInt32 = 1
  private static let awaited: UInt32 = 2
  private static let stateMask = UInt32(CSUPPORT_PROCESS_MARK_STEP) - 1
  /// How often a thread looks before it sleeps: most locks are given back at once.
  private static let looks = 100

  /// - Returns: whether this process was forked since the lock was last used: what it guards may be in disorder.
  @inline(__always)
  borrowing func take() -> Bool {
    let free = csupport_process_mark()
    // [lock] Acquire: pairs with the release in `giveBack`; what the last owner wrote is seen.
    if word.compareExchange(
      expected: free, desired: free | Self.taken, successOrdering: .acquiring, failureOrdering: .relaxed
    ).exchanged {
      return false
    }
    return wait()
  }

  /// `nil`: somebody has it.
  @inline(__always)
  borrowing func takeIfFree() -> Bool? {
    let free = csupport_process_mark()
    // [lock] Acquire: pairs with the release in `giveBack`.
    let (isTaken, found) = word.compareExchange(
      expected: free, desired: free | Self.taken, successOrdering: .acquiring, failureOrdering: .relaxed)
    if isTaken { return false }
    return found & ~Self.stateMask == free ? nil : wait()
  }

  @inline(__always)
  borrowing func giveBack() {
    let free = csupport_process_mark()
    // [lock] Release: pairs with the acquires in `take`, `takeIfFree` and `wait`.
    if word.exchange(free, ordering: .releasing) & Self.awaited != 0 { wakeOne() }
  }

  @inline(never)
  private borrowing func wait() -> Bool {
    let free = csupport_process_mark()
    for _ in 0..<Self.looks {
      // Relaxed: a look.
      let found = word.load(ordering: .relaxed)
      if found & ~Self.stateMask != free { return takeInherited() }
      // [lock] Acquire: pairs with the release in `giveBack`.
      if found == free,
        word.compareExchange(
          expected: free, desired: free | Self.taken, successOrdering: .acquiring, failureOrdering: .relaxed
        ).exchanged
      {
        return false
      }
      csupport_cpu_relax()
    }
    // [lock] Acquire: pairs with the release in `giveBack`. Whoever has slept does not know whether others still do, and says
    // that they do.
    while true {
      let found = word.exchange(free | Self.awaited, ordering: .acquiring)
      if found & ~Self.stateMask != free { return true }
      if found == free { return false }
      unsafe withUnsafePointer(to: word) { word in
        _ = unsafe csupport_private_wait(word, free | Self.awaited, -1)
      }
    }
  }

  /// Takes a lock that was last used before the fork, unless another thread of this process is quicker.
  private borrowing func takeInherited() -> Bool {
    let free = csupport_process_mark()
    // Relaxed: a look.
    let found = word.load(ordering: .relaxed)
    // [lock] Acquire: pairs with the release in `giveBack`.
    if found & ~Self.stateMask != free,
      word.compareExchange(
        expected: found, desired: free | Self.taken, successOrdering: .acquiring, failureOrdering: .relaxed
      ).exchanged
    {
      return true
    }
    return wait()
  }

  @inline(never)
  private borrowing func wakeOne() {
    unsafe withUnsafePointer(to: word) { word in
      _ = unsafe csupport_private_wake_one(UnsafeMutableRawPointer(mutating: word))
    }
  }
}

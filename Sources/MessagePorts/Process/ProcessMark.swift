import CSupport
import Glibc

/// Which process something belongs to: this one, or one that this one was forked from without an exec.
///
/// What was made before the fork is closed in the child. Descriptors and shared memory are gone by the time `fork`
/// returns (see `fork.c`), so nothing there reaches the parent's channels. The marks are for the rest: they let whoever
/// uses an inherited object hear of it, and keep everyone away from state that another thread may have been changing at
/// the moment of the fork.
@usableFromInline struct ProcessMark: Equatable, Sendable {
  @usableFromInline let value: UInt32

  @inlinable @inline(__always)
  init(_ value: UInt32) { self.value = value }

  /// This process's. One load.
  @inlinable @inline(__always)
  static var current: ProcessMark { ProcessMark(csupport_process_mark()) }

  /// Whether this is another process's.
  @inlinable @inline(__always)
  var isInherited: Bool { value != csupport_process_mark() }

  /// Where a count begins whose numbers must not be those of another process: inherited objects remember theirs.
  static var firstNumber: UInt64 { UInt64(csupport_process_mark()) << 32 }

  /// For a loop that has called user code: if that has forked, the child came back with it, alone, to work that is not its
  /// own. It ends here as any thread does that forks and returns: being the child's last, with `exit(0)`.
  @inline(__always)
  func endProcessIfInherited() { if isInherited { exit(0) } }
}

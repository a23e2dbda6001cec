import Synchronization

/// A value, and the lock that guards it: the standard library's `Mutex`, but of use in a forked child as well.
///
/// There the lock is free. The value is what it was, and may be in disorder if another thread was changing it: fit for
/// what belongs to an object that is not used in the child. For what is, see ``PerProcess``.
///
/// The address of the value is taken before the value is: in `&cell._address.pointee`, the compiler tells the thread
/// sanitizer that all of this is modified, the word included, which other threads look at.
///
/// `@safe`, `@unchecked Sendable`: only the lock's owner reaches the value.
@safe
struct Lock<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
  private let word = LockWord()
  private let cell: _Cell<Value>

  @inline(__always)
  init(_ value: consuming sending Value) { cell = _Cell(value) }

  @inline(__always)
  borrowing func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    _ = word.take()
    defer { word.giveBack() }
    let value = unsafe cell._address
    return try unsafe body(&value.pointee)
  }

  /// `nil`: somebody has the lock.
  @inline(__always)
  borrowing func withLockIfAvailable<Result: ~Copyable, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result? {
    guard word.takeIfFree() != nil else { return nil }
    defer { word.giveBack() }
    let value = unsafe cell._address
    return try unsafe body(&value.pointee)
  }
}

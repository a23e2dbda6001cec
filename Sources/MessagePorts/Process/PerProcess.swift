import Synchronization

/// A value behind a lock that a forked child does not inherit: there, it begins anew.
///
/// The parent's value is left as it is, never to be looked at or released: another thread may have been changing it.
///
/// `@safe`, `@unchecked Sendable`: only the lock's owner reaches the value.
@safe
struct PerProcess<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
  private let word = LockWord()
  private let cell: _Cell<Value>
  private let makeInChild: @Sendable () -> Value

  /// - Parameter makeInChild: what a forked child begins with. Is called with the lock.
  init(_ value: consuming sending Value, inChild makeInChild: @escaping @Sendable () -> Value) {
    cell = _Cell(value)
    self.makeInChild = makeInChild
  }

  /// A child begins with what this process begins with.
  init(_ make: @escaping @Sendable () -> sending Value) { self.init(make(), inChild: make) }

  borrowing func withLock<Result: ~Copyable, Failure: Error>(
    _ body: (inout sending Value) throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    if word.take() { unsafe cell._address.initialize(to: makeInChild()) }
    defer { word.giveBack() }
    // By itself: see ``Lock``.
    let value = unsafe cell._address
    return try unsafe body(&value.pointee)
  }
}

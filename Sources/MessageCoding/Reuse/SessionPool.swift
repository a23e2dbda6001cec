import Synchronization

/// Sessions between messages: the next message that a thread codes uses the one of the last.
///
/// This saves allocating a session, and the containers in it (``ContainerCache``). A few sessions stay allocated for good,
/// with little memory each.
///
/// There are 16 slots for one session each. A thread uses the slot that belongs to the addresses of its stack, so that
/// threads rarely meet; if they do, one of them makes a new session.
///
/// `@safe`: a slot owns the session that it refers to. `@unchecked Sendable`: a session is in a slot or has one owner, and
/// whoever puts it there has no other reference.
@safe final class SessionPool<Session: AnyObject>: @unchecked Sendable {
  /// Slots are apart by more than a cache line, so that threads do not slow down one another.
  private static var slotStride: Int { 16 }

  private let slots: InlineArray<256, Atomic<Unmanaged<Session>?>>

  init() {
    unsafe slots = InlineArray { _ in unsafe Atomic(nil) }
  }

  /// Removes a session from the slot, which the caller then owns.
  ///
  /// [session-handed-over] Acquire: pairs with the release in `put`; what the last owner wrote to the session is seen.
  @inline(__always)
  func take(_ slot: Int) -> Session? {
    unsafe slots[slot].exchange(nil, ordering: .acquiring)?.takeRetainedValue()
  }

  /// Gives a session away, to the slot or to no one. The caller has the only reference.
  ///
  /// [session-handed-over] Release: pairs with the acquire in `take`.
  @inline(__always)
  func put(_ session: consuming Session, _ slot: Int) {
    let reference = unsafe Unmanaged.passRetained(session)
    let (isStored, _) = unsafe slots[slot].compareExchange(
      expected: nil, desired: reference, successOrdering: .releasing, failureOrdering: .relaxed)
    if !isStored { unsafe reference.release() }
  }

  /// The slot of the calling thread.
  @inline(__always)
  static func currentSlot() -> Int {
    var local: UInt8 = 0
    // Stacks are far apart, and a thread uses few pages of its own at different depths.
    let page = unsafe withUnsafeMutablePointer(to: &local) { UInt(bitPattern: $0) >> 16 }
    let hash = UInt64(page) &* 0x9E37_79B9_7F4A_7C15
    return Int(truncatingIfNeeded: hash >> 60) &* slotStride
  }
}

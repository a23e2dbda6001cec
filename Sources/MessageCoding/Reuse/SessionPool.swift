import Synchronization

/// Sessions between messages: a thread codes its next message with the session of its last one.
///
/// This saves allocating a session, and the containers in it (``ContainerCache``). A few sessions stay allocated for
/// good, with little memory each.
///
/// There are 16 slots for one session each. The addresses of its stack give a thread its slot, so threads rarely meet;
/// if they do, one of them makes a new session.
///
/// `@safe`: a slot owns the session that it refers to. `@unchecked Sendable`: a session is in a slot or has one owner,
/// and whoever puts it there has no other reference.
@safe final class SessionPool<Session: AnyObject>: @unchecked Sendable {
  /// Slots are more than a cache line apart, so that threads do not slow each other down.
  private static var slotStride: Int { 16 }

  private let slots: InlineArray<256, Atomic<Unmanaged<Session>?>>

  init() {
    unsafe slots = InlineArray { _ in unsafe Atomic(nil) }
  }

  /// Takes the session out of the slot, or makes one. The caller owns it.
  ///
  /// [session-handed-over] Acquire: pairs with the release in `put`; what the last owner wrote to the session is seen.
  @inline(__always)
  func take(_ slot: Int, orMake make: () -> Session) -> OwnedSession<Session> {
    if let session = unsafe slots[slot].exchange(nil, ordering: .acquiring) { return unsafe OwnedSession(session) }
    return unsafe OwnedSession(.passRetained(make()))
  }

  /// Puts a session into the slot, or releases it. The caller has the only reference.
  ///
  /// [session-handed-over] Release: pairs with the acquire in `take`.
  @inline(__always)
  func put(_ session: consuming OwnedSession<Session>, _ slot: Int) {
    let reference = unsafe session.takeReference()
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

/// A session while a message is coded: a reference that is handed on without counting.
///
/// `@safe`: the reference is owned here.
@safe struct OwnedSession<Session: AnyObject>: ~Copyable {
  private var reference: Unmanaged<Session>

  @unsafe
  fileprivate init(_ reference: Unmanaged<Session>) { unsafe self.reference = reference }

  deinit { unsafe reference.release() }

  @inline(__always)
  func withSession<Result>(_ body: (Session) throws -> Result) rethrows -> Result {
    try unsafe reference._withUnsafeGuaranteedRef(body)
  }

  /// Whether nobody else has a reference.
  var isUnique: Bool {
    @inline(__always) mutating get {
      // An `Unmanaged` consists of a reference; read out of it, it would be one more.
      unsafe withUnsafeMutablePointer(to: &reference) {
        unsafe isKnownUniquelyReferenced(&UnsafeMutableRawPointer($0).assumingMemoryBound(to: Session.self).pointee)
      }
    }
  }

  @unsafe @inline(__always)
  fileprivate consuming func takeReference() -> Unmanaged<Session> {
    let reference = unsafe self.reference
    discard self
    return unsafe reference
  }
}

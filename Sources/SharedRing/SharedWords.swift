public import CSupport
public import Synchronization

/// The words of one lane that two processes share. Every atomic access to memory that a peer can write is in this file.
/// The labels are those of the article MemoryOrdering: each stands at the two ends of an ordering, and nowhere else.
///
/// The words are shared with a process that may write anything at any time, so each is loaded once into a local, and
/// the local is checked.
@safe
@usableFromInline package struct SharedWords {
  /// The lane's header group, inside a mapping that outlives this value.
  @usableFromInline let base: UnsafeMutableRawPointer

  package init(base: UnsafeMutableRawPointer) { unsafe self.base = unsafe base }

  @unsafe @inlinable @inline(__always)
  func word64(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  @unsafe @inlinable @inline(__always)
  func word32(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
    unsafe (base + offset).assumingMemoryBound(to: Atomic<UInt32>.self)
  }
}

// MARK: - Identity

extension SharedWords {
  /// The channel's identity, for `base` at the start of the channel. Relaxed: the creator wrote it before it sent the
  /// descriptor. Atomic all the same, so that each word is fetched once.
  func loadIdentity() -> (magic: UInt64, version: UInt32, laneCapacity: UInt64) {
    unsafe (
      word64(CSUPPORT_IDENTITY_MAGIC).pointee.load(ordering: .relaxed),
      word32(CSUPPORT_IDENTITY_VERSION).pointee.load(ordering: .relaxed),
      word64(CSUPPORT_IDENTITY_LANE_CAPACITY).pointee.load(ordering: .relaxed)
    )
  }
}

// MARK: - Positions

extension SharedWords {
  /// [space-visible] Acquire: pairs with the release in ``storeReleased(_:)``; the consumer's last reads of the bytes
  /// below this position happened before we overwrite them.
  @inlinable package func loadReleased() -> UInt64 {
    unsafe word64(CSUPPORT_LANE_RELEASED).pointee.load(ordering: .acquiring)
  }

  /// [space-visible] Release: see ``loadReleased()``.
  @inlinable package func storeReleased(_ position: UInt64) {
    unsafe word64(CSUPPORT_LANE_RELEASED).pointee.store(position, ordering: .releasing)
  }

  /// Relaxed: a number for inspection; nothing is read on its word.
  @inlinable package func storePosted(_ position: UInt64) {
    unsafe word64(CSUPPORT_LANE_POSTED).pointee.store(position, ordering: .relaxed)
  }

  /// Relaxed: see ``storePosted(_:)``.
  package func loadPosted() -> UInt64 {
    unsafe word64(CSUPPORT_LANE_POSTED).pointee.load(ordering: .relaxed)
  }

  /// Relaxed: read only after the kernel reported the hang-up that follows this store.
  package func storeClosedByOwner() {
    unsafe word32(CSUPPORT_LANE_IS_CLOSED).pointee.store(1, ordering: .relaxed)
  }

  package func loadClosedByOwner() -> Bool {
    unsafe word32(CSUPPORT_LANE_IS_CLOSED).pointee.load(ordering: .relaxed) == 1
  }

  /// The end that posts here is in a message, or is not any more. Relaxed: see ``storeClosedByOwner()``.
  package func storeIsInMessage(_ isInMessage: Bool) {
    let (before, after): (UInt32, UInt32) = isInMessage ? (0, 2) : (2, 0)
    _ = unsafe word32(CSUPPORT_LANE_IS_CLOSED).pointee
      .compareExchange(expected: before, desired: after, ordering: .relaxed)
  }

  package func loadIsInMessage() -> Bool {
    unsafe word32(CSUPPORT_LANE_IS_CLOSED).pointee.load(ordering: .relaxed) == 2
  }
}

// MARK: - Doorbells

extension SharedWords {
  /// The word to sleep on.
  @unsafe package func doorbellWord(_ kind: DoorbellKind) -> UnsafeMutableRawPointer { unsafe base + kind.offset }

  /// Relaxed: what orders it is the fence of the `[sleep]` protocol that precedes it (or, for `polling`, the barrier the
  /// sleeper will issue in our process).
  @inlinable package func loadDoorbell(_ kind: DoorbellKind) -> UInt32 {
    unsafe word32(kind.offset).pointee.load(ordering: .relaxed)
  }

  /// Relaxed: the caller fences after an announcement; taking one back needs no order, a late signal is harmless.
  @inlinable package func storeDoorbell(_ kind: DoorbellKind, _ value: UInt32) {
    unsafe word32(kind.offset).pointee.store(value, ordering: .relaxed)
  }

  /// Takes the sleeper's announcement back in its name, so that one signal answers it. Relaxed: the futex call or the
  /// packet that follows is the synchronisation.
  package func takeDoorbell(_ kind: DoorbellKind, _ announced: UInt32) -> Bool {
    unsafe word32(kind.offset).pointee.compareExchange(
      expected: announced, desired: Doorbell.awake, ordering: .relaxed
    ).exchanged
  }
}

extension SharedWords {
  /// A place for pointers that point nowhere: never read, never written.
  @unsafe static var nowhere: UnsafeMutableRawPointer { unsafe UnsafeMutableRawPointer(bitPattern: 8)! }
}

// MARK: - Record headers

extension RecordHeader {
  /// [payload-visible] Acquire: pairs with ``commit(at:)``; once the header is there, so is all that was written before.
  @inlinable @inline(__always)
  package static func load(at address: UnsafeRawPointer) -> UInt64 {
    unsafe UnsafeMutableRawPointer(mutating: address).assumingMemoryBound(to: Atomic<UInt64>.self).pointee
      .load(ordering: .acquiring)
  }

  /// [payload-visible] Release: see ``load(at:)``. The payload, and the zero behind it, come first.
  @inlinable @inline(__always)
  package func commit(at address: UnsafeMutableRawPointer) {
    unsafe address.assumingMemoryBound(to: Atomic<UInt64>.self).pointee.store(rawValue, ordering: .releasing)
  }

  /// Relaxed: of a batch, only the first header is released, after all others.
  @inlinable @inline(__always)
  package func store(at address: UnsafeMutableRawPointer) {
    unsafe address.assumingMemoryBound(to: Atomic<UInt64>.self).pointee.store(rawValue, ordering: .relaxed)
  }

  /// Writes the "not yet" that follows a record. Relaxed: the commit of the record before it releases it.
  @inlinable @inline(__always)
  package static func terminate(at address: UnsafeMutableRawPointer) {
    unsafe address.assumingMemoryBound(to: Atomic<UInt64>.self).pointee.store(0, ordering: .relaxed)
  }
}

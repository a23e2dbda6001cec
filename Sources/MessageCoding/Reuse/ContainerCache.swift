/// Keyed containers that are used again.
///
/// `KeyedEncodingContainer` and `KeyedDecodingContainer` keep the coder's container in an object of a generic class.
/// Looking that class up by its type of keys takes a third of the time of coding a small value, and allocating the
/// object a good part of the rest. So objects are kept, and used for another container with the same type of keys as
/// soon as nobody else refers to them. What changes from one container to the next is in the core, to which the object
/// refers.
///
/// `@safe`: the memory is owned here, and its first `count` entries are initialized. It is not an `Array`: to read what
/// is beside an object, that would retain the object, which would then be in use. Only ``insert(_:_:for:)`` makes
/// entries, with objects that refer to the entry's core.
@safe struct ContainerCache<Core: AnyObject>: ~Copyable {
  private struct Entry {
    let keyType: ObjectIdentifier
    // Optional, since the check for other references copies a plain `AnyObject`, and so makes one more.
    var object: AnyObject?
    let core: Core
    let copier: AnyObject
  }

  /// Recursive types use as many as they are deep; but the search among them should be short.
  private static var capacity: Int { 16 }

  private let entries = UnsafeMutablePointer<Entry>.allocate(capacity: Self.capacity)
  private var count = 0
  private var isRetired = false

  deinit {
    unsafe entries.deinitialize(count: count)
    unsafe entries.deallocate()
  }

  /// Finds a container that is out of use, and calls `body` to change its core; or returns nil.
  @inline(__always)
  mutating func claim(_ keyType: ObjectIdentifier, _ body: (Core) -> Void) -> Int? {
    var index = 0
    while index < count {
      if unsafe entries[index].keyType == keyType && isKnownUniquelyReferenced(&entries[index].object) {
        unsafe body(entries[index].core)
        return index
      }
      index &+= 1
    }
    return nil
  }

  /// The container that was claimed. Its type must be the one that was inserted for this type of keys.
  @inline(__always)
  func container<Container>(at index: Int, as type: Container.Type) -> Container {
    precondition(index < count, "No container has this index.")
    let copier = unsafe Unmanaged.passUnretained(
      unsafeDowncast(entries[index].copier, to: ContainerCopier<Container>.self))
    return unsafe copier._withUnsafeGuaranteedRef { unsafe $0.copy(from: &entries[index].object) }
  }

  /// Keeps a new container, which borrows its core. There must be room.
  mutating func insert<Container>(_ container: Container, _ core: Core, for keyType: ObjectIdentifier) {
    precondition(hasRoom, "There is no room for another container.")
    let object = unsafe unsafeBitCast(container, to: AnyObject.self)
    unsafe (entries + count).initialize(
      to: Entry(keyType: keyType, object: object, core: core, copier: ContainerCopier<Container>()))
    count += 1
  }

  /// Whether a container that borrows its core can be kept.
  var hasRoom: Bool { count < Self.capacity && !isRetired && ContainerLayout.isKnown }

  /// Gives up the objects that others still refer to, after `body` for the core of each. From now on they own their
  /// cores.
  @inline(__always)
  mutating func removeUsed(_ body: (Core) -> Void) {
    var index = 0
    while index < count {
      if unsafe isKnownUniquelyReferenced(&entries[index].object) {
        index &+= 1
      } else {
        unsafe body(entries[index].core)
        unsafe ContainerLayout.ownCore(&entries[index].object, as: Core.self)
        remove(index)
      }
    }
  }

  /// Gives up everything for good, when nothing is in use. Containers made from now on own their cores.
  mutating func retire() {
    isRetired = true
    while count > 0 { remove(count - 1) }
  }

  @inline(never)
  private mutating func remove(_ index: Int) {
    count -= 1
    let removed = unsafe (entries + index).move()
    if index < count { unsafe (entries + index).moveInitialize(from: entries + count, count: 1) }
    // Released when the entries are in order again: this may run the `deinit` of anything.
    withExtendedLifetime(removed) {}
  }
}

/// Copies containers of one type.
///
/// Code that is generic over the type of keys has to look up the container's type for that, which takes 500
/// instructions. An object knows its type.
private final class ContainerCopier<Container> {
  /// - Parameter reference: A reference to an object is all that a container is, see ``ContainerLayout``.
  @unsafe @inline(never)
  func copy(from reference: UnsafeMutablePointer<AnyObject?>) -> Container {
    unsafe UnsafeRawPointer(reference).assumingMemoryBound(to: Container.self).pointee
  }
}

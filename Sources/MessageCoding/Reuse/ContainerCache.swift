/// Keyed containers that are used again.
///
/// `KeyedEncodingContainer` and `KeyedDecodingContainer` keep the coder's container in an object of a generic class. The
/// lookups of that class by its key type take a third of the time of coding a small value, and its allocation is a good
/// part of the rest. Therefore objects are kept, and used for another container with the same type of keys as soon as
/// nobody else refers to them. What changes from one container to the next is in the core, which the object refers to.
///
/// `@safe`: the memory is owned here, and the first `count` entries of it are initialized. It is not an `Array`, which
/// would retain objects in order to read what is beside them, and then they are not unused.
@safe struct ContainerCache<Core: AnyObject>: ~Copyable {
  private struct Entry {
    let keyType: ObjectIdentifier
    // Optional, since the check for other references copies a plain `AnyObject`, and so makes another one.
    var object: AnyObject?
    let core: Core
  }

  /// Recursive types use as many as they are deep; the search among them should be short.
  private static var capacity: Int { 16 }

  private let entries = UnsafeMutablePointer<Entry>.allocate(capacity: Self.capacity)
  private var count = 0

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

  /// The container that was claimed. Its type must be the one whose object was inserted for this type of keys.
  @inline(__always)
  func container<Container>(at index: Int, as type: Container.Type) -> Container {
    precondition(index < count, "No container has this index.")
    // A reference to an object is all that a container is, see `ContainerLayout`. This retains it once; casting a copy of
    // the reference would do so twice.
    return unsafe withUnsafeMutablePointer(to: &entries[index].object) {
      unsafe UnsafeMutableRawPointer($0).assumingMemoryBound(to: type).pointee
    }
  }

  /// Keeps the object of a new container; false if there is no room.
  mutating func insert(_ keyType: ObjectIdentifier, _ object: AnyObject, _ core: Core) -> Bool {
    guard count < Self.capacity else { return false }
    unsafe (entries + count).initialize(to: Entry(keyType: keyType, object: object, core: core))
    count += 1
    return true
  }

  /// Gives up the objects that others still refer to, after `body` for the core of each.
  @inline(__always)
  mutating func removeUsed(_ body: (Core) -> Void) {
    var index = 0
    while index < count {
      if unsafe isKnownUniquelyReferenced(&entries[index].object) {
        index &+= 1
      } else {
        unsafe body(entries[index].core)
        remove(index)
      }
    }
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

/// Whether containers of the standard library are what ``ContainerCache`` takes them for.
package enum ContainerLayout {
  /// Whether keyed containers consist of a reference to an object, and nothing else. This is a detail of the standard
  /// library; where it is not so, nothing is kept, and coding takes longer.
  package static let isObject: Bool = {
    let encoding = BinaryKeyedEncodingContainer<BinaryCodingKey>(core: KeyedEncodingCore(EncodingSession()))
    let decoding = BinaryKeyedDecodingContainer<BinaryCodingKey>(core: KeyedDecodingCore(DecodingSession()))
    return isObject(KeyedEncodingContainer(encoding)) && isObject(KeyedDecodingContainer(decoding))
  }()

  private static func isObject<Container>(_ container: Container) -> Bool {
    let properties = Mirror(reflecting: container).children.map(\.value)
    guard properties.count == 1, MemoryLayout<Container>.size == MemoryLayout<AnyObject>.size else { return false }
    // What is not an object becomes another one here, at another address.
    let bits = unsafe unsafeBitCast(container, to: UInt.self)
    return unsafe bits == UInt(bitPattern: Unmanaged.passUnretained(properties[0] as AnyObject).toOpaque())
  }
}

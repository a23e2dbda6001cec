/// Keyed containers that are used again.
///
/// `KeyedEncodingContainer` and `KeyedDecodingContainer` keep the coder's container in an object of a generic class. The
/// lookups of that class by its key type are half of the time that coding a small value takes, and its allocation is a
/// good part of the rest. Therefore objects are kept, and used for another container with the same type of keys as soon
/// as nobody else refers to them. What changes from one container to the next is in the core, which the object refers to.
struct ContainerCache<Core: AnyObject> {
  // Three arrays in parallel: reading another property of an element would be a second reference to its object.
  private var keyTypes: [ObjectIdentifier] = []
  // Optional, since the check for other references would copy a plain `AnyObject`, and so make another one.
  private var objects: [AnyObject?] = []
  private var cores: [Core] = []

  /// Recursive types use as many as they are deep; the search among them should be short.
  private static var maximumCount: Int { 16 }

  /// The object of a container that is out of use, after `body` has changed its core; or nil.
  @inline(__always)
  mutating func take(_ keyType: ObjectIdentifier, _ body: (Core) -> Void) -> AnyObject? {
    for index in keyTypes.indices where keyTypes[index] == keyType {
      if isKnownUniquelyReferenced(&objects[index]) {
        body(cores[index])
        return objects[index]
      }
    }
    return nil
  }

  /// Keeps the object of a new container; false if there is no room.
  mutating func insert(_ keyType: ObjectIdentifier, _ object: AnyObject, _ core: Core) -> Bool {
    guard keyTypes.count < Self.maximumCount else { return false }
    keyTypes.append(keyType)
    objects.append(object)
    cores.append(core)
    return true
  }

  /// Gives up the objects that others still refer to.
  @inline(__always)
  mutating func removeUsed(_ body: (Core) -> Void) {
    var index = 0
    while index < objects.count {
      if isKnownUniquelyReferenced(&objects[index]) {
        index &+= 1
      } else {
        keyTypes.remove(at: index)
        objects.remove(at: index)
        body(cores.remove(at: index))
      }
    }
  }
}

/// Whether containers of the standard library are what ``ContainerCache`` takes them for.
enum ContainerLayout {
  /// Whether keyed containers consist of a reference to an object, and nothing else. This is a detail of the standard
  /// library; where it is not so, nothing is kept, and coding takes longer.
  static let isObject: Bool =
    isObject(KeyedEncodingContainer(BinaryKeyedEncodingContainer<BinaryCodingKey>(core: KeyedEncodingCore(EncodingSession()))))
    && isObject(KeyedDecodingContainer(BinaryKeyedDecodingContainer<BinaryCodingKey>(core: KeyedDecodingCore(DecodingSession()))))

  private static func isObject<Container>(_ container: Container) -> Bool {
    let properties = Mirror(reflecting: container).children.map(\.value)
    guard properties.count == 1, MemoryLayout<Container>.size == MemoryLayout<AnyObject>.size else { return false }
    // What is not an object becomes another one here, at another address.
    let bits = unsafe unsafeBitCast(container, to: UInt.self)
    return unsafe bits == UInt(bitPattern: Unmanaged.passUnretained(properties[0] as AnyObject).toOpaque())
  }
}

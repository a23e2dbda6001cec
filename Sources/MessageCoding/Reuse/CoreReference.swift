/// All that a coder's keyed container consists of.
///
/// The standard library copies the container for each value that is decoded, and would count an owning reference up and
/// down each time. The core of a container in a ``ContainerCache`` belongs to the cache instead; when the cache gives
/// the container up, the container becomes the owner.
///
/// `@safe`: as long as nobody owns the core here, the cache does.
@safe struct CoreReference<Core: AnyObject> {
  private let borrowed: Unmanaged<Core>
  private var owner: Core?

  init(borrowing core: Core) { unsafe borrowed = .passUnretained(core) }

  init(owning core: Core) {
    unsafe borrowed = .passUnretained(core)
    owner = core
  }

  var core: Core { unsafe borrowed.takeUnretainedValue() }

  /// Like `core`, but counts no references.
  @inline(__always)
  func withCore<Result>(_ body: (Core) throws -> Result) rethrows -> Result {
    try unsafe borrowed._withUnsafeGuaranteedRef(body)
  }

  fileprivate mutating func own() { owner = core }
}

/// Whether containers of the standard library are what ``ContainerCache`` takes them for.
package enum ContainerLayout {
  /// Whether a keyed container is a reference to an object and nothing else, and the object holds the coder's container
  /// and nothing else. This is a detail of the standard library; if it changes, nothing is kept, and coding takes
  /// longer.
  package static let isKnown: Bool = {
    let encodingCore = KeyedEncodingCore(EncodingSession())
    let encoding = BinaryKeyedEncodingContainer<BinaryCodingKey>(reference: CoreReference(borrowing: encodingCore))
    let decodingCore = KeyedDecodingCore(DecodingSession())
    let decoding = BinaryKeyedDecodingContainer<BinaryCodingKey>(reference: CoreReference(borrowing: decodingCore))
    return withExtendedLifetime((encodingCore, decodingCore)) {
      isKnown(KeyedEncodingContainer(encoding), encodingCore) && isKnown(KeyedDecodingContainer(decoding), decodingCore)
    }
  }()

  /// What is before the properties of an object.
  private static var headerBytes: Int { 16 }

  private static func isKnown<Container, Core: AnyObject>(_ container: Container, _ core: Core) -> Bool {
    let properties = Mirror(reflecting: container).children.map(\.value)
    guard properties.count == 1, MemoryLayout<Container>.size == MemoryLayout<AnyObject>.size else { return false }
    // Anything but an object is boxed here, at another address.
    let object = properties[0] as AnyObject
    let bits = unsafe unsafeBitCast(container, to: UInt.self)
    guard unsafe bits == UInt(bitPattern: Unmanaged.passUnretained(object).toOpaque()) else { return false }
    let parts = Mirror(reflecting: object).children
    guard parts.count == 1, let part = parts.first.map({ Mirror(reflecting: $0.value).children }), part.count == 1,
      part.first?.value is CoreReference<Core>
    else { return false }
    return unsafe reference(in: object, as: Core.self).pointee.core === core
  }

  /// Makes the container whose object this is the owner of its core.
  @unsafe
  static func ownCore<Core: AnyObject>(_ object: inout AnyObject?, as type: Core.Type) {
    if let object { unsafe reference(in: object, as: type).pointee.own() }
  }

  @unsafe
  private static func reference<Core: AnyObject>(
    in object: AnyObject, as type: Core.Type
  ) -> UnsafeMutablePointer<CoreReference<Core>> {
    let address = unsafe Unmanaged.passUnretained(object).toOpaque() + headerBytes
    return unsafe address.assumingMemoryBound(to: CoreReference<Core>.self)
  }
}

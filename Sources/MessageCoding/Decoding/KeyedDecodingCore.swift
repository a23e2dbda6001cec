/// What is variable about a keyed container: which value it is of. See ``ContainerCache``.
///
/// `@safe`: a core does not retain its session, which has the core in its cache. When a message is finished and the core
/// is still in use, or if there was no room in the cache, `owner` does.
@safe final class KeyedDecodingCore {
  let state: DecodingState
  private unowned(unsafe) let unownedSession: DecodingSession
  private var owner: DecodingSession?
  @safe @exclusivity(unchecked) var range = KeyedRange(start: 0, end: 0)
  /// The step to the container.
  @safe @exclusivity(unchecked) var step: UInt32 = 0
  /// How many containers are around the entries.
  @safe @exclusivity(unchecked) var depth: UInt16 = 0

  init(_ session: DecodingSession) {
    state = session.state
    unsafe unownedSession = session
  }

  @inline(__always)
  var session: DecodingSession { unsafe unownedSession }

  @inline(__always)
  func set(_ range: KeyedRange, step: UInt32, depth: UInt16) {
    (self.range, self.step, self.depth) = (range, step, depth)
  }

  func retainSession() { owner = session }
}

extension KeyedDecodingContainer {
  /// A container that reads a range of the message.
  @inline(__always)
  init(_ session: DecodingSession, _ range: KeyedRange, step: UInt32, depth: UInt16) {
    let keyType = ObjectIdentifier(Key.self)
    if let index = session.containers.claim(keyType, { $0.set(range, step: step, depth: depth) }) {
      self = session.containers.container(at: index, as: Self.self)
    } else {
      self.init(newFor: session, range, step: step, depth: depth, keyType)
    }
  }

  @inline(never)
  private init(
    newFor session: DecodingSession, _ range: KeyedRange, step: UInt32, depth: UInt16, _ keyType: ObjectIdentifier
  ) {
    let core = KeyedDecodingCore(session)
    core.set(range, step: step, depth: depth)
    self.init(BinaryKeyedDecodingContainer<Key>(core: core))
    if !ContainerLayout.isObject
      || !session.containers.insert(keyType, unsafe unsafeBitCast(self, to: AnyObject.self), core)
    {
      core.retainSession()
    }
  }
}

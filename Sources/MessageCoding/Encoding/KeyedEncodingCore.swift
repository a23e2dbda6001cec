/// What is variable about a keyed container: which value it is of. See ``ContainerCache``.
///
/// `@safe`: a core does not retain its session, which has the core in its cache. When a message is finished and the core
/// is still in use, or if there was no room in the cache, `owner` does.
@safe final class KeyedEncodingCore {
  let state: EncodingState
  private unowned(unsafe) let unownedSession: EncodingSession
  private var owner: EncodingSession?
  @safe @exclusivity(unchecked) var frame = FrameReference.none

  init(_ session: EncodingSession) {
    state = session.state
    unsafe unownedSession = session
  }

  @inline(__always)
  var session: EncodingSession { unsafe unownedSession }

  func retainSession() { owner = session }
}

extension KeyedEncodingContainer {
  /// A container that writes to a frame.
  @inline(__always)
  init(_ session: EncodingSession, _ frame: FrameReference) {
    let keyType = ObjectIdentifier(Key.self)
    if let index = session.containers.claim(keyType, { $0.frame = frame }) {
      self = session.containers.container(at: index, as: Self.self)
    } else {
      self.init(newFor: session, frame, keyType)
    }
  }

  @inline(never)
  private init(newFor session: EncodingSession, _ frame: FrameReference, _ keyType: ObjectIdentifier) {
    let core = KeyedEncodingCore(session)
    core.frame = frame
    self.init(BinaryKeyedEncodingContainer<Key>(core: core))
    if !ContainerLayout.isObject
      || !session.containers.insert(keyType, unsafe unsafeBitCast(self, to: AnyObject.self), core)
    {
      core.retainSession()
    }
  }
}

/// What is variable about a keyed container: which value it is of. See ``ContainerCache``.
///
/// `@safe`: a core does not retain its session, which has the core in its cache. When a message is finished and the core
/// is still in use, or if there was no room in the cache, `owner` does.
@safe final class KeyedEncodingCore {
  let state: EncodingState
  private let unownedSession: Unmanaged<EncodingSession>
  private var owner: EncodingSession?
  @safe @exclusivity(unchecked) var frame = FrameReference.none

  init(_ session: EncodingSession) {
    state = session.state
    unsafe unownedSession = .passUnretained(session)
  }

  var session: EncodingSession { unsafe unownedSession.takeUnretainedValue() }

  /// Like `session`, but counts no references.
  @inline(__always)
  func withSession<Result>(_ body: (EncodingSession) throws -> Result) rethrows -> Result {
    try unsafe unownedSession._withUnsafeGuaranteedRef(body)
  }

  func retainSession() { owner = session }
}

extension EncodingSession {
  /// A container that writes to a frame.
  @inline(__always)
  func container<Key: CodingKey>(keyedBy type: Key.Type, _ frame: FrameReference) -> KeyedEncodingContainer<Key> {
    if let index = containers.claim(ObjectIdentifier(type), { $0.frame = frame }) {
      return containers.container(at: index, as: KeyedEncodingContainer<Key>.self)
    }
    return newContainer(frame)
  }

  @inline(never)
  private func newContainer<Key: CodingKey>(_ frame: FrameReference) -> KeyedEncodingContainer<Key> {
    let core = KeyedEncodingCore(self)
    core.frame = frame
    if containers.hasRoom {
      let container = KeyedEncodingContainer(
        BinaryKeyedEncodingContainer<Key>(reference: CoreReference(borrowing: core)))
      containers.insert(container, core, for: ObjectIdentifier(Key.self))
      return container
    }
    core.retainSession()
    return KeyedEncodingContainer(BinaryKeyedEncodingContainer<Key>(reference: CoreReference(owning: core)))
  }
}

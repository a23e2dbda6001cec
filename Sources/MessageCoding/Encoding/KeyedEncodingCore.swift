/// What changes when a keyed container is used again: which value it belongs to. See ``ContainerCache``.
///
/// `@safe`: a core does not retain its session, whose cache has the core. If the core is still in use when the message
/// is finished, or the cache has no room, `owner` does.
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

/// What changes when a keyed container is used again: which value it belongs to. See ``ContainerCache``.
///
/// `@safe`: a core does not retain its session, whose cache has the core. If the core is still in use when the message
/// is finished, or the cache has no room, `owner` does.
@safe final class KeyedDecodingCore {
  let state: DecodingState
  private let unownedSession: Unmanaged<DecodingSession>
  private var owner: DecodingSession?
  @safe @exclusivity(unchecked) var range = KeyedRange(start: 0, end: 0)
  /// The step to the container.
  @safe @exclusivity(unchecked) var step: UInt32 = 0
  /// How many containers are around the entries.
  @safe @exclusivity(unchecked) var depth: UInt16 = 0

  init(_ session: DecodingSession) {
    state = session.state
    unsafe unownedSession = .passUnretained(session)
  }

  var session: DecodingSession { unsafe unownedSession.takeUnretainedValue() }

  /// Like `session`, but counts no references.
  @inline(__always)
  func withSession<Result>(_ body: (DecodingSession) throws -> Result) rethrows -> Result {
    try unsafe unownedSession._withUnsafeGuaranteedRef(body)
  }

  @inline(__always)
  func place(_ entry: KeyedEntry) -> DecodingStep { DecodingStep(parent: step, key: .entry(entry.keyOffset)) }

  @inline(__always)
  func set(_ range: KeyedRange, step: UInt32, depth: UInt16) {
    (self.range, self.step, self.depth) = (range, step, depth)
  }

  func retainSession() { owner = session }
}

extension DecodingSession {
  /// A container that reads a range of the message.
  @inline(__always)
  func container<Key: CodingKey>(
    keyedBy type: Key.Type, _ range: KeyedRange, step: UInt32, depth: UInt16
  ) -> KeyedDecodingContainer<Key> {
    if let index = containers.claim(ObjectIdentifier(type), { $0.set(range, step: step, depth: depth) }) {
      return containers.container(at: index, as: KeyedDecodingContainer<Key>.self)
    }
    return newContainer(range, step: step, depth: depth)
  }

  @inline(never)
  private func newContainer<Key: CodingKey>(
    _ range: KeyedRange, step: UInt32, depth: UInt16
  ) -> KeyedDecodingContainer<Key> {
    let core = KeyedDecodingCore(self)
    core.set(range, step: step, depth: depth)
    if containers.hasRoom {
      let container = KeyedDecodingContainer(
        BinaryKeyedDecodingContainer<Key>(reference: CoreReference(borrowing: core)))
      containers.insert(container, core, for: ObjectIdentifier(Key.self))
      return container
    }
    core.retainSession()
    return KeyedDecodingContainer(BinaryKeyedDecodingContainer<Key>(reference: CoreReference(owning: core)))
  }
}

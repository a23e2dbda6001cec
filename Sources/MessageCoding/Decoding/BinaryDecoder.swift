/// What a value gets when it decodes itself: a container, or a single value.
struct BinaryDecoder: Decoder {
  let session: DecodingSession
  // The parts of a `BinaryValue`, which as a property would leave a gap: an `any Decoder` has room for three words, and
  // allocates memory for more.
  private let start: UInt32
  private let end: UInt32
  /// The step to this value.
  let step: UInt32
  /// How many containers are around this value.
  let depth: UInt16
  private let tag: UInt8

  @inline(__always)
  init(session: DecodingSession, value: BinaryValue, step: UInt32, depth: UInt16) {
    (self.session, start, end, tag) = (session, value.start, value.end, value.tag)
    (self.step, self.depth) = (step, depth)
  }

  @inline(__always)
  var value: BinaryValue { BinaryValue(tag: tag, start: start, end: end) }

  private var state: DecodingState { session.state }

  var codingPath: [any CodingKey] { state.path(step) }

  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
    guard value.tag == Tag.keyed else { throw state.mismatch([String: Any].self, value, at: place) }
    let depth = try innerDepth()
    state.passHeader(value, to: value.start)
    return session.container(keyedBy: type, KeyedRange(start: value.start, end: value.end), step: step, depth: depth)
  }

  func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
    guard value.tag == Tag.unkeyed else { throw state.mismatch([Any].self, value, at: place) }
    return try BinaryUnkeyedDecodingContainer(session: session, value: value, step: step, depth: innerDepth())
  }

  func singleValueContainer() -> any SingleValueDecodingContainer {
    BinarySingleValueDecodingContainer(decoder: self)
  }

  var place: DecodingStep { DecodingStep(parent: step, key: .none) }

  @inline(__always)
  private func innerDepth() throws -> UInt16 {
    guard depth < state.maximumDepth else {
      throw state.corrupted(state.tooDeep, place)
    }
    return depth &+ 1
  }
}

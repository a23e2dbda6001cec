/// What a value gets when it encodes itself: a way to become a container, or a single value.
struct BinaryEncoder: Encoder {
  let session: EncodingSession
  let frame: FrameReference

  var codingPath: [any CodingKey] { session.state.path(frame) }

  var userInfo: [CodingUserInfoKey: Any] { [:] }

  func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
    session.state.open(frame, as: .keyed)
    return session.container(keyedBy: type, frame)
  }

  func unkeyedContainer() -> any UnkeyedEncodingContainer {
    session.state.open(frame, as: .unkeyed)
    return BinaryUnkeyedEncodingContainer(session: session, frame: frame)
  }

  func singleValueContainer() -> any SingleValueEncodingContainer {
    BinarySingleValueEncodingContainer(session: session, frame: frame)
  }
}

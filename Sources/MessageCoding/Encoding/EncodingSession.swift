/// What the encoder and all containers of one message share: the state, and containers for the next message.
///
/// Encoders and containers retain the session, except for keyed containers, which belong to it and retain the state
/// only. When a message is encoded and something else retains the session, it is not used again.
final class EncodingSession {
  let state = EncodingState()

  @safe @exclusivity(unchecked) var containers = ContainerCache<KeyedEncodingCore>()

  /// Encodes one message. Afterwards, if nobody else has a reference to the session, it can be used for another one.
  func encodeMessage<T: Encodable>(
    _ value: T, _ limits: BinaryMessageCoder.Limits, sortsKeys: Bool
  ) throws -> [UInt8] {
    state.open(limits)
    defer {
      state.close()
      containers.removeUsed { $0.retainSession() }
    }
    let root = state.push(parent: -1, key: .none)
    if !state.writeDirectly(value, depth: 1) {
      try value.encode(to: BinaryEncoder(session: self, frame: root))
      if state.frames[0].kind == .empty && !state.bytes.hasFailed {
        state.fail("Top-level \(T.self) did not encode any values.")
      }
      state.finish(0)
    }
    if limits.keyBytes < Int(Layout.longKeyMark) - 1 { state.bytes.checkShortKeys() }
    guard !state.bytes.hasFailed else { throw state.failureError(value, path: []) }
    if sortsKeys { state.bytes.sortKeys() }
    return state.bytes.makeArray()
  }

  // MARK: Parts

  // A recursive type has one of these functions on the stack for each level of its value. Writes out of order are
  // closures elsewhere, to keep the frame small.

  @inline(never)
  func encode<T: Encodable>(_ value: T, forKey key: KeyBytes, in frame: FrameReference) throws {
    guard state.isReady(frame) else {
      return try state.writeOutOfOrder(frame, value) { try appendEntry(value, key, in: frame) }
    }
    try appendEntry(value, key, in: frame)
  }

  @inline(never)
  func encode<T: Encodable>(item value: T, in frame: FrameReference) throws {
    guard state.isReady(frame) else {
      return try state.writeOutOfOrder(frame, value) { try appendItem(value, in: frame) }
    }
    try appendItem(value, in: frame)
  }

  @inline(never)
  func encode<T: Encodable>(single value: T, in frame: FrameReference) throws {
    try state.writeSingle(frame, value) {
      // Another frame, though the value has the same place: if encoding fails, nothing of the value may remain.
      let outer = state.frames[Int(frame.index)]
      try append(value, parent: Int(outer.parent), key: outer.key, entryStart: state.bytes.count)
    }
  }

  @inline(__always)
  private func appendEntry<T: Encodable>(_ value: T, _ key: KeyBytes, in frame: FrameReference) throws {
    let entryStart = state.bytes.count
    state.bytes.append(key: key)
    try append(
      value, parent: Int(frame.index), key: .entry(UInt32(truncatingIfNeeded: entryStart)), entryStart: entryStart)
  }

  @inline(__always)
  private func appendItem<T: Encodable>(_ value: T, in frame: FrameReference) throws {
    let index = Int(frame.index)
    try append(value, parent: index, key: .index(state.frames[index].count), entryStart: state.bytes.count)
    state.frames[index].count &+= 1
  }

  /// Appends a value to the bytes: a part of the top frame, or one that is moved afterwards.
  ///
  /// After an error, which the value around this one may catch, everything is as before.
  @inline(__always)
  private func append<T: Encodable>(_ value: T, parent: Int, key: FrameKey, entryStart: Int) throws {
    if state.writeDirectly(value, depth: state.depth(inside: parent)) { return }
    let (oldTop, oldTopSerial, oldScope) = (state.top, state.topSerial, state.scope)
    let child = state.push(parent: parent, key: key)
    state.scope = Int(child.index)
    defer {
      state.frames.truncate(to: Int(child.index))
      (state.top, state.topSerial, state.scope) = (oldTop, oldTopSerial, oldScope)
    }
    do {
      try value.encode(to: BinaryEncoder(session: self, frame: child))
      state.finish(Int(child.index))
    } catch {
      state.bytes.truncate(to: entryStart)
      throw error
    }
  }
}

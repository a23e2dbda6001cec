/// What the decoder and all containers of one message share: the state, and containers for the next message.
///
/// Decoders and containers retain the session, except for keyed containers, which belong to it and retain the state
/// only. When a message is decoded and something else retains the session, it is not used again, and the message is
/// copied.
final class DecodingSession {
  let state = DecodingState()

  @safe @exclusivity(unchecked) var containers = ContainerCache<KeyedDecodingCore>()

  /// Decodes one message. Afterwards, if nobody else refers to the session, `state.close` makes it fit for another
  /// message; else `state.copyBytes` makes it fit for those who do.
  func decodeMessage<T: Decodable>(
    _ type: T.Type, _ reader: ByteReader, _ limits: BinaryMessageCoder.Limits
  ) throws -> T {
    state.open(reader, limits)
    defer { containers.removeUsed { $0.retainSession() } }
    guard reader.count <= limits.bytes else {
      throw state.corrupted("The message has \(reader.count) bytes; the limit is \(limits.bytes).", .message)
    }
    guard reader.count > 0 else { throw state.corrupted("The message is empty.", .message) }
    let version = reader.byte(at: 0)
    guard version == Tag.version else {
      let (found, known) = (String(version, radix: 16), String(Tag.version, radix: 16))
      throw state.corrupted("The message has format version 0x\(found); this coder reads version 0x\(known).", .message)
    }
    let value = reader.value(at: 1, before: reader.count)
    guard value.tag != Tag.invalid else { throw state.corrupted(.message) }
    guard value.end == reader.count else {
      throw state.corrupted("The message has \(reader.count - Int(value.end)) bytes after its value.", .message)
    }
    state.pass(1, value)
    do {
      let result = try decode(type, value, at: .message, depth: 0)
      if Int(state.frontier) != reader.count { try checkStructure(value) }
      return result
    } catch {
      // A malformed message is refused as such, whatever the type noticed first.
      try checkStructure(value)
      throw error
    }
  }

  @inline(never)
  private func checkStructure(_ value: BinaryValue) throws {
    if let fault = state.fault(in: value) { throw state.corrupted(fault, .message) }
  }

  /// Decodes a value of any type.
  ///
  /// - Parameter depth: How many containers are around the value.
  @inline(__always)
  func decode<T: Decodable>(_ type: T.Type, _ value: BinaryValue, at place: DecodingStep, depth: UInt16) throws -> T {
    let direct = state.directType(type, value, depth: depth)
    if direct == .other { return try initialize(type, value, at: place, depth: depth) }
    return try state.decode(type, as: direct, value, at: place)
  }

  /// Decodes a value by the `init(from:)` of its type.
  @inline(never)
  private func initialize<T: Decodable>(
    _ type: T.Type, _ value: BinaryValue, at place: DecodingStep, depth: UInt16
  ) throws -> T {
    if let string = state.byteString(type, value, depth: depth) { return state.copy(value, as: string) }
    let step = state.steps.count
    state.steps.push(place)
    defer { state.steps.truncate(to: step) }
    return try T(
      from: BinaryDecoder(session: self, value: value, step: UInt32(truncatingIfNeeded: step), depth: depth))
  }

  /// A decoder that may be used after this call, until the value around it is decoded.
  func makeDecoder(_ value: BinaryValue, at place: DecodingStep, depth: UInt16) -> BinaryDecoder {
    state.steps.push(place)
    return BinaryDecoder(
      session: self, value: value, step: UInt32(truncatingIfNeeded: state.steps.count - 1), depth: depth)
  }
}

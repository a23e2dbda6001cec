/// Puts a message together from its fragments. Checks that they come in order and add up.
package struct MessageAssembler {
  private enum State {
    case idle
    case assembling(OwnedBytes, filled: Int)
    /// There was no memory for the message.
    case skipping
  }
  private var state = State.idle

  package init() {}

  package enum Progress {
    case incomplete
    case complete(OwnedBytes)
    case violation(String)
    /// The message is over, and there was no memory for it.
    case refused
  }

  package var isIdle: Bool { if case .idle = state { true } else { false } }

  /// Takes one record that is not a whole message.
  package mutating func add(_ kind: RecordHeader.Kind, _ payload: RawSpan, limitBytes: Int) -> Progress {
    switch (kind, state) {
    case (.firstFragment, .idle):
      guard payload.byteCount > 8 else { return .violation("first fragment of \(payload.byteCount) bytes") }
      // Fetched once: the peer may change it while it is checked.
      let total = unsafe payload.withUnsafeBytes { unsafe RecordHeader.load(at: $0.baseAddress!) }
      guard total <= UInt64(limitBytes), total > UInt64(payload.byteCount - 8) else {
        return .violation("message of \(total) bytes in fragments")
      }
      guard let bytes = OwnedBytes(byteCount: Int(total)) else {
        state = .skipping
        return .incomplete
      }
      bytes.write(payload.extracting(droppingFirst: 8), at: 0)
      state = .assembling(bytes, filled: payload.byteCount - 8)
      return .incomplete
    case (.middleFragment, .assembling(let bytes, let filled)):
      guard payload.byteCount < bytes.byteCount - filled else { return .violation("fragments exceed their message") }
      bytes.write(payload, at: filled)
      state = .assembling(bytes, filled: filled + payload.byteCount)
      return .incomplete
    case (.lastFragment, .assembling(let bytes, let filled)):
      guard payload.byteCount == bytes.byteCount - filled else { return .violation("fragments do not add up") }
      bytes.write(payload, at: filled)
      state = .idle
      return .complete(bytes)
    case (.middleFragment, .skipping):
      return .incomplete
    case (.lastFragment, .skipping):
      state = .idle
      return .refused
    case (.abort, _):
      state = .idle
      return .incomplete
    default:
      return .violation("\(kind) out of order")
    }
  }

  /// What was assembled so far: it moves with the port.
  package var partial: (bytes: OwnedBytes, filled: Int)? {
    guard case .assembling(let bytes, let filled) = state else { return nil }
    return (bytes, filled)
  }

  /// Goes on with what the previous owner of the port had assembled.
  package mutating func resume(_ bytes: OwnedBytes, filled: Int) { state = .assembling(bytes, filled: filled) }
}

// How encoders and containers write. If theirs is the top frame, as in derived code, this costs two comparisons. The
// rest is in `EncodingState+OutOfOrder.swift`.
extension EncodingState {
  /// Whether this frame can be written to without further ado.
  @inline(__always)
  func isReady(_ frame: FrameReference) -> Bool { frame.serial == topSerial && !bytes.hasFailed }

  /// Calls `body` to append to a container.
  @inline(__always)
  func write(_ frame: FrameReference, _ value: @autoclosure () -> Any, _ body: () throws -> Void) throws {
    if isReady(frame) { try body() } else { try writeOutOfOrder(frame, value(), body) }
  }

  /// Like `write`, for requirements that cannot throw: instead, nothing is written, and the message fails.
  @inline(__always)
  func begin(_ frame: FrameReference, _ body: () -> FrameReference) -> FrameReference {
    var result = FrameReference.none
    try? write(frame, ()) { result = body() }
    return result
  }

  /// Calls `body` to append the whole of a value.
  @inline(__always)
  func writeSingle(_ frame: FrameReference, _ value: @autoclosure () -> Any, _ body: () throws -> Void) throws {
    if isReady(frame) && frames[Int(frame.index)].kind == .empty {
      try body()
      frames[Int(frame.index)].kind = .single
    } else {
      try writeSingleOutOfOrder(frame, value(), body)
    }
  }

  /// Turns a value into a container of that kind, unless it is one already.
  @inline(__always)
  func open(_ frame: FrameReference, as kind: EncodingFrame.Kind) {
    if isReady(frame) && frames[Int(frame.index)].kind == .empty {
      open(Int(frame.index), as: kind)
    } else {
      openOutOfOrder(frame, as: kind)
    }
  }
}

// Writing into values that are not at the end of the bytes.
//
// `Codable` lets code go back to a container after it has begun the next one, and use a `superEncoder` at any time.
// Such a write appends to the bytes like any other, and then moves what it wrote to its place:
//
//     │ … closed value │ later values │ written │    →    │ … closed value, written │ later values │
//                      ↑ boundary     ↑ tail
//
// Whatever an unused `superEncoder` writes replaces the empty container that stands in its place.

extension EncodingState {
  @inline(never)
  func writeOutOfOrder(_ frame: FrameReference, _ value: Any, _ body: () throws -> Void) throws {
    guard isUsable(frame) else { throw failureError(value, path: path(frame)) }
    if reopen(Int(frame.index)) {
      try body()
    } else {
      try insert(into: Int(frame.index), body)
    }
  }

  @inline(never)
  func writeSingleOutOfOrder(
    _ frame: FrameReference, _ value: Any, _ body: () throws -> Void
  ) throws {
    guard isUsable(frame) else { throw failureError(value, path: path(frame)) }
    let index = Int(frame.index)
    switch frames[index].kind {
    case .empty:
      // Only writes to containers above it close the frame of a scope, and an empty value has none.
      try body()
    case .placeholder where isLast(index):
      replacePlaceholder(index)
      do {
        try body()
      } catch {
        restorePlaceholder(index)
        throw error
      }
    case .placeholder:
      try insert(into: index, body)
    case .keyed, .rekeyed, .unkeyed, .single:
      fail("The value encodes itself more than once.")
      throw failureError(value, path: path(frame))
    }
    frames[index].kind = .single
  }

  @inline(never)
  func openOutOfOrder(_ frame: FrameReference, as kind: EncodingFrame.Kind) {
    let index = Int(frame.index)
    guard isUsable(frame) else { return }
    if kind == .keyed, frames[index].kind == .keyed || frames[index].kind == .rekeyed {
      return frames[index].kind = .rekeyed
    }
    guard frames[index].kind != kind else { return }
    guard frames[index].kind == .placeholder else {
      return fail("The value encodes itself more than once.")
    }
    checkDepth(of: frames[index])
    guard !bytes.hasFailed else { return }
    if isLast(index) {
      replacePlaceholder(index)
      open(index, as: kind)
    } else {
      if kind == .unkeyed { insert(into: index) { bytes.append(Tag.unkeyed, UInt64(0)) } }
      frames[index].kind = kind
    }
  }

  /// Whether nothing was written behind a placeholder, because its `superEncoder` is used at once. Then nothing has to
  /// be moved, least of all the frames that were made before it, of which there may be many.
  private func isLast(_ index: Int) -> Bool {
    Int(frames[index].parent) == top && Int(frames[index].end) == bytes.count
  }

  /// Makes a placeholder, which is the last value, an empty frame and the top.
  private func replacePlaceholder(_ index: Int) {
    bytes.truncate(to: Int(frames[index].start))
    frames[index].end = 0
    top = index
    topSerial = frames[index].serial
  }

  /// Undoes `replacePlaceholder`, after an error.
  private func restorePlaceholder(_ index: Int) {
    guard !bytes.hasFailed else { return }
    bytes.truncate(to: Int(frames[index].start))
    bytes.append(Tag.keyed, UInt32(0))
    frames[index].end = UInt32(truncatingIfNeeded: bytes.count)
    top = Int(frames[index].parent)
    topSerial = frames[top].serial
  }

  /// Appends an empty container to the bytes, in the place of a value that may follow.
  func pushPlaceholder(parent: Int, key: FrameKey) -> FrameReference {
    let (oldTop, oldTopSerial) = (top, topSerial)
    let frame = push(parent: parent, key: key)
    bytes.append(Tag.keyed, UInt32(0))
    frames[Int(frame.index)].kind = .placeholder
    frames[Int(frame.index)].end = UInt32(truncatingIfNeeded: bytes.count)
    (top, topSerial) = (oldTop, oldTopSerial)
    return frame
  }

  /// Whether the message is intact, and the frame belongs to the value that is being encoded; else, the message fails.
  private func isUsable(_ frame: FrameReference) -> Bool {
    guard !bytes.hasFailed else { return false }
    let index = Int(frame.index)
    guard index < frames.count, frames[index].serial == frame.serial else {
      fail("An encoder or container was used after the value it belongs to was encoded.")
      return false
    }
    guard index >= scope else {
      fail("A container was used while a value inside of it encodes itself.")
      return false
    }
    return true
  }

  /// Makes a frame the top if it is open, by closing those inside of it.
  private func reopen(_ index: Int) -> Bool {
    guard frames[index].isOpen else { return false }
    while top != index {
      frames[top].end = UInt32(truncatingIfNeeded: bytes.count)
      top = Int(frames[top].parent)
    }
    topSerial = frames[index].serial
    return true
  }

  /// Calls `body` to append bytes, and moves these to the end of a closed value, or into the place of a placeholder.
  private func insert(into index: Int, _ body: () throws -> Void) rethrows {
    let tail = bytes.count
    let (oldTop, oldTopSerial, oldCount) = (top, topSerial, frames.count)
    defer { (top, topSerial) = (oldTop, oldTopSerial) }
    try body()
    for new in oldCount..<frames.count where frames[new].isOpen {
      frames[new].end = UInt32(truncatingIfNeeded: bytes.count)
    }
    guard !bytes.hasFailed else { return }

    let isReplacing = frames[index].kind == .placeholder
    let offset = Int(isReplacing ? frames[index].start : frames[index].end)
    let removed = isReplacing ? Layout.keyedHeaderBytes : 0
    moveFrames(Move(tail: tail, offset: offset, removed: removed, inserted: bytes.count - tail), into: index)
    bytes.moveTail(from: tail, to: offset, removing: removed)
  }

  private func moveFrames(_ move: Move, into target: Int) {
    // Values around the insertion grow.
    var around = target
    while around >= scope {
      if !frames[around].isOpen { frames[around].end = move.later(frames[around].end) }
      around = Int(frames[around].parent)
    }
    // Values behind it move. A value that begins before it and is not around it ends before it.
    for index in scope..<frames.count where Int(frames[index].start) >= move.boundary {
      let isInserted = Int(frames[index].start) >= move.tail
      frames[index].start = move.map(frames[index].start)
      if !frames[index].isOpen {
        frames[index].end = isInserted ? move.earlier(frames[index].end) : move.later(frames[index].end)
      }
      if case .entry(let offset) = frames[index].key { frames[index].key = .entry(move.map(offset)) }
    }
  }
}

/// Where offsets go when the bytes from `tail` move to `offset` and replace `removed` bytes there.
private struct Move {
  let tail, offset, removed, inserted: Int

  var boundary: Int { offset + removed }

  func later(_ position: UInt32) -> UInt32 { UInt32(Int(position) + inserted - removed) }

  func earlier(_ position: UInt32) -> UInt32 { UInt32(Int(position) - tail + offset) }

  func map(_ position: UInt32) -> UInt32 {
    Int(position) >= tail ? earlier(position) : Int(position) >= boundary ? later(position) : position
  }
}

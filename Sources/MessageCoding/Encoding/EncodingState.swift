/// The bytes of the message that is encoded, and a record of each value that may still grow.
///
/// Values are written straight into one buffer. A value has a **frame** from the moment its encoder exists until the
/// `encode` that asked for it returns; until then it may become a container, and so may the values inside. The frames
/// are a stack, and those of one value and its parts are above its own. An encoder or container is a reference to a
/// frame.
///
/// The frame whose value ends where the bytes end is the **top**; it and its parents are **open**. Derived code writes
/// into the top only, and a write checks no more than that. Any other frame is **closed**: other bytes lie behind its
/// value. `EncodingState+OutOfOrder.swift` writes to those.
///
/// The properties that each value uses are exempt from run-time checks for overlapping accesses, which would take a
/// fifth of the time: each access is a single operation on plain data, during which no other code runs.
final class EncodingState {
  @safe @exclusivity(unchecked) var bytes = ByteWriter()
  @safe @exclusivity(unchecked) var frames = Stack<EncodingFrame>()

  /// The open frame that writes go to. The serial number is repeated here to be at hand; zero belongs to no frame.
  @safe @exclusivity(unchecked) var top = 0
  @safe @exclusivity(unchecked) var topSerial: UInt32 = 0
  @safe @exclusivity(unchecked) private var lastSerial: UInt32 = 0

  /// The frame of the value whose `encode(to:)` runs. Frames below belong to values around it, which have to wait.
  @safe @exclusivity(unchecked) var scope = 0

  /// Why the writer failed, if not because of a limit on bytes.
  private(set) var failure: String?

  private(set) var maximumDepth = 0

  /// Begins a message.
  @inline(__always)
  func open(_ limits: BinaryMessageCoder.Limits) {
    maximumDepth = limits.depth
    bytes.open(limit: limits.bytes, keyLimit: limits.keyBytes)
    bytes.append(Tag.version)
  }

  /// Ends a message. Code that has kept an encoder will find out when it uses it.
  func close() {
    frames.removeAll()
    (top, topSerial, scope) = (0, 0, 0)
    if failure != nil { failure = nil }
    bytes.close()
  }

  // MARK: Frames

  /// Begins a value at the end of the bytes, and makes it the top.
  @inline(__always)
  func push(parent: Int, key: FrameKey) -> FrameReference {
    lastSerial &+= 1
    let index = frames.count
    frames.push(
      EncodingFrame(
        serial: lastSerial, parent: Int32(truncatingIfNeeded: parent), start: UInt32(truncatingIfNeeded: bytes.count),
        key: key, depth: UInt16(truncatingIfNeeded: depth(inside: parent))))
    top = index
    topSerial = lastSerial
    return FrameReference(index: UInt32(truncatingIfNeeded: index), serial: lastSerial)
  }

  @inline(__always)
  func depth(inside parent: Int) -> Int { parent < 0 ? 1 : Int(frames[parent].depth) &+ 1 }

  /// Turns the empty top frame into a container.
  @inline(__always)
  func open(_ index: Int, as kind: EncodingFrame.Kind) {
    frames[index].kind = kind
    checkDepth(of: frames[index])
    if kind == .keyed {
      bytes.append(Tag.keyed, UInt32(0))
    } else {
      bytes.append(Tag.unkeyed, UInt64(0))
    }
  }

  /// Makes the message fail if a container there would be too deep.
  @inline(__always)
  func checkDepth(of frame: EncodingFrame) {
    if frame.depth > maximumDepth { fail("The value is nested more than \(maximumDepth) containers deep.") }
  }

  /// Writes the lengths of a value, which ends where the bytes end, and of its parts.
  @inline(__always)
  func finish(_ index: Int) {
    if frames.count == index &+ 1 && frames[index].kind == .keyed {
      let start = Int(frames[index].start)
      let length = bytes.count &- start &- Layout.keyedHeaderBytes
      bytes.overwrite(at: start &+ 1, with: UInt32(truncatingIfNeeded: length))
    } else {
      finishParts(index)
    }
  }

  private func finishParts(_ first: Int) {
    if frames[first].kind == .empty {
      // As with Foundation's coders, a value that encodes nothing is an empty container: a reader has to accept it.
      checkDepth(of: frames[first])
      return bytes.append(Tag.keyed, UInt32(0))
    }
    writeLengths(first)
    removeReplacedEntries(first)
  }

  func writeLengths(_ first: Int) {
    for index in first..<frames.count {
      let frame = frames[index]
      let start = Int(frame.start)
      // 1: the tag, 4: the length itself.
      let length = (frame.isOpen ? bytes.count : Int(frame.end)) - start - 1 - 4
      switch frame.kind {
      case .keyed, .rekeyed, .placeholder:
        if frame.kind == .placeholder { checkDepth(of: frame) }
        bytes.overwrite(at: start + 1, with: UInt32(truncatingIfNeeded: length))
      case .unkeyed:
        bytes.overwrite(at: start + 1, with: UInt32(truncatingIfNeeded: length))
        bytes.overwrite(at: start + 5, with: frame.count)
      case .empty, .single:
        break
      }
    }
  }

  // MARK: Errors

  /// Makes the next write throw, and the encoding of the message.
  @inline(never)
  func fail(_ reason: @autoclosure () -> String) {
    if !bytes.hasFailed { failure = reason() }
    bytes.fail()
  }

  func failureError(_ value: Any, path: [any CodingKey]) -> EncodingError {
    let reason = failure ?? bytes.failureReason
    return .invalidValue(value, .init(codingPath: path, debugDescription: reason))
  }

  /// The keys that lead to a frame.
  func path(_ frame: FrameReference) -> [any CodingKey] {
    var path: [any CodingKey] = []
    var index = Int(frame.index)
    guard index < frames.count, frames[index].serial == frame.serial else { return [] }
    while index >= 0 {
      switch frames[index].key {
      case .none: break
      case .index(let index): path.append(BinaryCodingKey(intValue: Int(index)))
      case .entry(let offset):
        if let key = bytes.key(at: Int(offset)) { path.append(BinaryCodingKey(stringValue: key)) }
      }
      index = Int(frames[index].parent)
    }
    return path.reversed()
  }
}

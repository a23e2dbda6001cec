// Whether a message is well formed: one rule for all of it, whichever parts of it a type reads, and in which order.
//
// Derived code reads every value in the order in which it was encoded, and reading checks tags, lengths, counts and
// keys. So `frontier` follows along: everything before it was checked. If it has not reached the end when the value is
// decoded, because keys were unknown or in another order, or a decoder was kept, `fault` looks at each part of the
// message once. Only the text of strings is left to whoever decodes them.

/// A container that the check is inside of.
struct OpenContainer: BitwiseCopyable {
  let end: UInt32
  /// Items that are still to come, if it is unkeyed.
  var remaining: UInt32
  let isKeyed: Bool
}

extension DecodingState {
  /// Moves the frontier past a key, if there is one, and a value without parts; or to the contents of a container.
  @inline(__always)
  func pass(_ offset: UInt32, _ value: BinaryValue) {
    if offset == frontier { frontier = value.isContainer ? value.start &- 1 : value.end }
  }

  /// Moves the frontier into a container, whose depth was checked.
  @inline(__always)
  func passHeader(_ value: BinaryValue, to offset: UInt32) {
    if frontier == value.start &- 1 { frontier = offset }
  }

  /// What is wrong with the structure of a value and its parts, or nil.
  func fault(in value: BinaryValue) -> String? {
    reader.fault(in: value, maximumDepth, maximumKeyBytes, &openContainers)
  }

  static let malformed = ByteReader.malformed
  var tooDeep: String { ByteReader.tooDeep(maximumDepth) }
}

extension ByteReader {
  /// What is wrong with the structure of a value and its parts, or nil.
  ///
  /// Takes time in proportion to the number of values and keys. It is a loop, not a recursion: its own stack is no
  /// deeper than the limit, and is kept between messages.
  func fault(
    in value: BinaryValue, _ maximumDepth: Int, _ maximumKeyBytes: Int, _ openContainers: inout Stack<OpenContainer>
  ) -> String? {
    guard value.tag == Tag.keyed || value.tag == Tag.unkeyed else { return nil }
    defer { openContainers.removeAll() }
    guard var container = enter(value) else { return Self.wrongCount }
    var depth = 1
    guard depth <= maximumDepth else { return Self.tooDeep(maximumDepth) }
    var offset = Int(value.start) &+ (container.isKeyed ? 0 : 4)
    while true {
      if offset == Int(container.end) {
        guard container.isKeyed || container.remaining == 0 else { return Self.wrongCount }
        depth &-= 1
        guard depth > 0 else { return nil }
        container = openContainers[depth &- 1]
        openContainers.truncate(to: depth &- 1)
        continue
      }
      if container.isKeyed {
        guard let key = key(at: offset, before: Int(container.end)) else { return Self.malformed }
        guard key.end &- key.start <= maximumKeyBytes else { return "A key is longer than \(maximumKeyBytes) bytes." }
        guard isText(from: key.start, to: key.end) else { return "A key is not valid UTF-8." }
        offset = key.end
      } else {
        if let run = run(at: offset, before: Int(container.end)) {
          guard run.count <= Int(container.remaining) else { return Self.wrongCount }
          container.remaining &-= UInt32(truncatingIfNeeded: run.count)
          offset = run.end
          continue
        }
        guard container.remaining > 0 else { return Self.wrongCount }
        container.remaining &-= 1
      }
      let part = self.value(at: offset, before: Int(container.end))
      if part.tag == Tag.keyed || part.tag == Tag.unkeyed {
        openContainers.push(container)
        depth &+= 1
        guard depth <= maximumDepth else { return Self.tooDeep(maximumDepth) }
        guard let inner = enter(part) else { return Self.wrongCount }
        container = inner
        offset = Int(part.start) &+ (inner.isKeyed ? 0 : 4)
      } else {
        guard part.tag != Tag.invalid else { return Self.malformed }
        offset = Int(part.end)
      }
    }
  }

  static let malformed = "A value has an invalid tag, or does not fit into its container."
  private static let wrongCount = "An unkeyed container has a wrong count."
  static func tooDeep(_ maximumDepth: Int) -> String {
    "The message is nested more than \(maximumDepth) containers deep."
  }

  /// Nil if the container is too short for its count.
  @inline(__always)
  private func enter(_ value: BinaryValue) -> OpenContainer? {
    if value.tag == Tag.keyed { return OpenContainer(end: value.end, remaining: 0, isKeyed: true) }
    guard value.end &- value.start >= 4 else { return nil }
    return OpenContainer(
      end: value.end, remaining: number(at: Int(value.start), as: UInt32.self), isKeyed: false)
  }
}

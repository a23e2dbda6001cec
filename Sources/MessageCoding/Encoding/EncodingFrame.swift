/// A value that is being written, see ``EncodingState``. Offsets are from the start of the message.
struct EncodingFrame: BitwiseCopyable {
  enum Kind: UInt8, BitwiseCopyable {
    /// Nothing is written yet.
    case empty
    /// A `superEncoder` that was not used yet: there is an empty keyed container, in case it never is.
    case placeholder
    case keyed, unkeyed
    /// Keyed, and asked for again: an entry may replace one that was written by way of another container.
    case rekeyed
    /// Written as a whole.
    case single
  }

  /// Tells apart frames that have had the same index.
  let serial: UInt32
  /// The index of the frame around this one, -1 for the message.
  let parent: Int32
  /// The offset of the tag.
  var start: UInt32
  /// The offset behind the value; zero means open, since a value has a version byte before it.
  var end: UInt32 = 0
  /// Items of an unkeyed container.
  var count: UInt32 = 0
  var key: FrameKey
  /// How deep this value would be as a container.
  let depth: UInt16
  var kind = Kind.empty

  init(serial: UInt32, parent: Int32, start: UInt32, key: FrameKey, depth: UInt16) {
    (self.serial, self.parent, self.start, self.key, self.depth) = (serial, parent, start, key, depth)
  }

  var isOpen: Bool { end == 0 }
}

/// Where a value is in the container around it.
enum FrameKey: BitwiseCopyable {
  case none
  /// The offset of the key in the bytes.
  case entry(UInt32)
  /// The index in an unkeyed container.
  case index(UInt32)
}

/// The frame of an encoder or a container.
///
/// It may outlive the frame in code that keeps encoders; the serial number then finds out, and writing throws.
struct FrameReference: BitwiseCopyable {
  let index: UInt32
  let serial: UInt32

  /// Of no frame.
  static let none = FrameReference(index: 0, serial: 0)
}

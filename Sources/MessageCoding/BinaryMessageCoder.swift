/// The default coder: a compact, keyed, versioned binary format for `Codable` values.
///
/// Keys make messages robust against different versions of a program at the two ends of a channel, by the rules of
/// Foundation's coders: `decodeIfPresent` of a missing key gives nil, `decode` of it throws `keyNotFound`, additional
/// keys are ignored, and an integer decodes as any type that can represent it.
///
/// ```swift
/// struct Order: Codable { var id: Int, name: String }
///
/// let coder = BinaryMessageCoder()
/// let bytes = try coder.encode(Order(id: 7, name: "tea"))
/// let order = try coder.decode(Order.self, from: bytes.span.bytes)
/// ```
///
/// **Sizes.** A message is one byte, then its value. An integer takes 1 to 17 bytes, by magnitude; `Float` 5, `Double`
/// 9; `nil` and Booleans 1; a string 1 (up to 63 bytes of UTF-8) or 5 bytes more than its UTF-8. A keyed container
/// takes 5 bytes and 1 per key beyond keys and values, an unkeyed one 9 bytes. Arrays of numbers, and whatever a type
/// gives to `encode(contentsOf:)`, as `Data` does, take 14 bytes more than in memory.
///
/// **Differences from Foundation's coders.** A coding path consists of keys of the coder's own type, with the strings
/// and indexes of the original ones. Floating-point numbers may be infinite or NaN. Keys are equal if their UTF-8 is. If
/// a value asks for a keyed container again, as a class does after `super.encode(to:)`, the last value of a key counts;
/// but a key that it encodes twice into the same container is stored twice, and it is unspecified which of the two a
/// later `decode` finds. There is no `userInfo`. Where Foundation's coders trap, because a value encodes itself twice in
/// different ways, this one throws.
///
/// As with JSON, there is one form of nil: an optional of an optional that is `.some(nil)` comes back as `nil`.
///
/// **Well formed or refused.** A message with an unknown tag without a length, a length or count that does not fit, or
/// a key that is too long or not UTF-8, is refused as a whole, whichever parts of it a type reads. Only the text of
/// strings that nobody reads is not checked.
///
/// **Hostile bytes** cause a `DecodingError`, never a trap, and take time and memory in proportion to their number
/// (what `init(from:)` takes is the type's own affair).
///
/// **Memory.** For speed, buffers of up to 64 KiB, and containers, stay allocated between calls: at most 16 sets for
/// encoding, and 16 for decoding, in the whole process.
///
/// **Thread safety.** A value without mutable state: use it from any thread. Encoders, decoders and their containers
/// belong to the thread that runs `encode(to:)` or `init(from:)`.
public struct BinaryMessageCoder: MessageCoder {
  /// The default of ``maximumNestingDepth``.
  public static let defaultMaximumNestingDepth = 64

  /// The default of ``maximumMessageBytes``: one gigabyte.
  public static let defaultMaximumMessageBytes = 1 << 30

  /// The default of ``maximumKeyBytes``.
  public static let defaultMaximumKeyBytes = 1024

  /// How many containers may be inside one another, both when encoding and when decoding.
  ///
  /// This bounds the stack that a recursive type uses, which hostile bytes could otherwise choose. Types with derived
  /// conformances were seen to take 0.4 to 1.5 KiB per container in optimized code, 2 to 5 KiB in other code, and up to
  /// 9 KiB if they hold forty properties. So the default of 64 fits into 512 KiB, the smallest stack that threads
  /// usually have. Where stacks are larger, this may be as well.
  public let maximumNestingDepth: Int

  /// The size of the longest message, both when encoding and when decoding.
  public let maximumMessageBytes: Int

  /// The UTF-8 bytes of the longest key, both when encoding and when decoding.
  ///
  /// A key becomes a `String`, and comparing strings takes time in the square of their combining marks: 10,000 of them
  /// take 7 milliseconds. A dictionary compares a key with several others. At the default, a comparison takes
  /// microseconds.
  public let maximumKeyBytes: Int

  /// Whether the entries of each keyed container are in the order of the bytes of their keys.
  ///
  /// Then two equal values of `[String: …]`, which has no order of its own, become the same bytes. This takes a second
  /// pass. Sets, and dictionaries whose keys are not strings or integers, still encode themselves as sequences, in any
  /// order.
  public let sortsKeys: Bool

  /// Creates a coder.
  ///
  /// - Parameter maximumNestingDepth: 0 (no containers at all) to 65,534. Traps outside of this range.
  /// - Parameter maximumMessageBytes: 1 to 4,294,967,295. Traps outside of this range.
  /// - Parameter maximumKeyBytes: 0 to 4,294,967,295. Traps outside of this range.
  /// - Parameter sortsKeys: Whether entries are written in the order of their keys, see ``sortsKeys``.
  public init(
    maximumNestingDepth: Int = Self.defaultMaximumNestingDepth,
    maximumMessageBytes: Int = Self.defaultMaximumMessageBytes,
    maximumKeyBytes: Int = Self.defaultMaximumKeyBytes,
    sortsKeys: Bool = false
  ) {
    precondition((0..<Int(UInt16.max)).contains(maximumNestingDepth), "The nesting depth is out of range.")
    precondition((1...Int(UInt32.max)).contains(maximumMessageBytes), "The size of messages is out of range.")
    precondition((0...Int(UInt32.max)).contains(maximumKeyBytes), "The size of keys is out of range.")
    self.maximumKeyBytes = maximumKeyBytes
    self.sortsKeys = sortsKeys
    self.maximumNestingDepth = maximumNestingDepth
    self.maximumMessageBytes = maximumMessageBytes
  }

  /// Returns the bytes of a message that `decode(_:from:)` turns into an equal value.
  ///
  /// - Throws: `EncodingError.invalidValue` if the value encodes nothing, if it exceeds a limit, if one of its parts
  ///   encodes itself in two ways, or if a part writes into a container of an enclosing value; whatever else
  ///   `value.encode(to:)` throws. No state is left behind.
  /// - Complexity: O(bytes) if each container is finished before the next one begins, as in derived code. Going back to
  ///   a finished container moves the bytes behind it. Makes no system call other than for memory.
  public func encode<T: Encodable>(_ value: T) throws -> [UInt8] {
    let slot = SessionPool<EncodingSession>.currentSlot()
    let session = Self.encodingSessions.take(slot) { EncodingSession() }
    do {
      let bytes = try session.withSession {
        try $0.encodeMessage(value, limits, sortsKeys: sortsKeys)
      }
      Self.finish(session, slot)
      return bytes
    } catch {
      Self.finish(session, slot)
      throw error
    }
  }

  /// Returns the value that `bytes` contain, which must be one whole message.
  ///
  /// - Parameter bytes: Untrusted; read only during the call. A decoder that `T.init(from:)` keeps gets a copy.
  /// - Throws: `DecodingError`: `dataCorrupted` if the bytes are not a message of this version of the format, exceed a
  ///   limit, or have a number that the requested type cannot represent; `typeMismatch`, `keyNotFound`, `valueNotFound`
  ///   if they are a message, but not of a `T`; whatever else `T.init(from:)` throws.
  /// - Complexity: O(bytes); a key is found at once if keys are decoded in the order in which they were encoded.
  public func decode<T: Decodable>(_ type: T.Type, from bytes: RawSpan) throws -> T {
    try unsafe bytes.withUnsafeBytes { buffer in
      let slot = SessionPool<DecodingSession>.currentSlot()
      let session = Self.decodingSessions.take(slot) { DecodingSession() }
      do {
        let value = try session.withSession {
          try unsafe $0.decodeMessage(type, ByteReader(borrowing: buffer), limits)
        }
        Self.finish(session, slot)
        return value
      } catch {
        Self.finish(session, slot)
        throw error
      }
    }
  }

  /// What the limits are, for a session.
  struct Limits {
    let depth, bytes, keyBytes: Int
  }

  private var limits: Limits {
    Limits(depth: maximumNestingDepth, bytes: maximumMessageBytes, keyBytes: maximumKeyBytes)
  }

  // MARK: Sessions

  private static let encodingSessions = SessionPool<EncodingSession>()
  private static let decodingSessions = SessionPool<DecodingSession>()

  /// Keeps a session for the next message, unless code outside of it has kept an encoder, which is the owner now.
  @inline(__always)
  private static func finish(_ session: consuming OwnedSession<EncodingSession>, _ slot: Int) {
    if session.isUnique {
      encodingSessions.put(session, slot)
    } else {
      session.withSession { $0.containers.retire() }
    }
  }

  /// Keeps a session for the next message, unless code outside of it has kept a decoder: but it does not have the
  /// bytes.
  @inline(__always)
  private static func finish(_ session: consuming OwnedSession<DecodingSession>, _ slot: Int) {
    if session.isUnique {
      session.withSession { $0.state.close() }
      decodingSessions.put(session, slot)
    } else {
      session.withSession {
        $0.state.copyBytes()
        $0.containers.retire()
      }
    }
  }
}

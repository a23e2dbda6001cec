public import MessageCoding
import Synchronization

/// How values are encoded: a choice for the whole process, in which both ends of a channel must agree.
public enum MessageCoders {
  private static let chosen = Lock<any MessageCoder>(BinaryMessageCoder())
  private static let isChosen = Atomic(false)

  /// What `MessagePort/postMessage(_:transfer:)` and ``MessageEvent/decode(_:coder:)`` use unless told otherwise:
  /// a `BinaryMessageCoder` until another one is set. Thread-safe; takes a lock only once one was set.
  public static var current: any MessageCoder {
    get { isDefault ? BinaryMessageCoder() : chosen.withLock { $0 } }
    set {
      chosen.withLock { $0 = newValue }
      isChosen.store(true, ordering: .relaxed)
    }
  }

  /// Whether none was set.
  ///
  /// Relaxed: it only says whether to look; the lock orders what is found there.
  @usableFromInline static var isDefault: Bool { !isChosen.load(ordering: .relaxed) }

  /// Calls `post` with the message that a value becomes, which is there during the call. What the value or the coder throws
  /// is wrapped, also if it is a `PortError`: it does not speak of this port.
  @inlinable @inline(__always)
  static func withEncoded<Value: MessageValue>(
    _ value: Value, _ post: (RawSpan) throws(PortError) -> Void
  ) throws(PortError) {
    var failure: PortError?
    func body(_ bytes: RawSpan) {
      do throws(PortError) { try post(bytes) } catch { failure = error }
    }
    do {
      if isDefault {
        try BinaryMessageCoder().withEncoded(value, body)
      } else if let coder = current as? BinaryMessageCoder {
        try coder.withEncoded(value, body)
      } else {
        let bytes = try current.encode(value)
        unsafe body(bytes.span.bytes)
      }
    } catch {
      throw .encodingFailed(error)
    }
    if let failure { throw failure }
  }

  @inlinable @inline(__always)
  static func decode<Value: MessageValue>(_ type: Value.Type, from bytes: RawSpan) throws -> Value {
    if isDefault { return try BinaryMessageCoder().decode(type, from: bytes) }
    if let coder = current as? BinaryMessageCoder { return try coder.decode(type, from: bytes) }
    return try current.decode(type, from: bytes)
  }

  // What follows looks at run time whether a type writes and reads itself, which costs a lookup among the conformances: for
  // calls that take far longer, and would else need each form twice.

  /// Returns the message that a value becomes.
  static func encode<Value: Encodable>(_ value: Value) throws(PortError) -> [UInt8] {
    let coder = current
    do {
      if let value = value as? any MessageValue, let coder = coder as? BinaryMessageCoder {
        return try coder.encode(value)
      }
      return try coder.encode(value)
    } catch {
      throw .encodingFailed(error)
    }
  }

  /// Returns the value that a message contains.
  static func decode<Value: Decodable>(_ type: Value.Type, from bytes: RawSpan) throws -> Value {
    let coder = current
    if let direct = type as? any MessageValue.Type, let coder = coder as? BinaryMessageCoder,
      let value = try coder.decode(direct, from: bytes) as? Value
    {
      return value
    }
    return try coder.decode(type, from: bytes)
  }
}

/// Turns values into messages, and messages into values. Conform to it for an encoding of your own.
public typealias MessageCoder = MessageCoding.MessageCoder
/// The default coder: compact, keyed, and safe against hostile bytes.
public typealias BinaryMessageCoder = MessageCoding.BinaryMessageCoder
/// A `Codable` value that also writes and reads itself, several times faster.
public typealias MessageValue = MessageCoding.MessageValue
/// Where a ``MessageValue`` writes itself.
public typealias ValueWriter = MessageCoding.ValueWriter
/// Where a ``MessageValue`` writes the entries of its keyed container.
public typealias EntryWriter = MessageCoding.EntryWriter
/// Where a ``MessageValue`` reads itself.
public typealias ValueReader = MessageCoding.ValueReader
/// Where a ``MessageValue`` reads the entries of its keyed container.
public typealias EntryReader = MessageCoding.EntryReader

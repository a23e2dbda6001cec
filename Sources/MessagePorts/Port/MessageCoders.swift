public import MessageCoding
import Synchronization

/// The encoding of values, a choice per process: both ends of a channel must make the same.
public enum MessageCoders {
  private static let chosen = Mutex<any MessageCoder>(BinaryMessageCoder())

  /// What ``MessagePort/postMessage(_:transfer:)`` and ``MessageEvent/decode(_:coder:)`` use unless told otherwise:
  /// a `BinaryMessageCoder` until something else is set. Thread-safe.
  public static var current: any MessageCoder {
    get { chosen.withLock { $0 } }
    set { chosen.withLock { $0 = newValue } }
  }
}

public typealias MessageCoder = MessageCoding.MessageCoder
public typealias BinaryMessageCoder = MessageCoding.BinaryMessageCoder

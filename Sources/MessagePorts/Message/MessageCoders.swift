public import MessageCoding
import Synchronization

/// How values are encoded: a choice for the whole process, in which both ends of a channel must agree.
public enum MessageCoders {
  private static let chosen = Lock<any MessageCoder>(BinaryMessageCoder())
  private static let isChosen = Atomic(false)

  /// What ``MessagePort/postMessage(_:transfer:)`` and ``MessageEvent/decode(_:coder:)`` use unless told otherwise:
  /// a `BinaryMessageCoder` until another one is set. Thread-safe; takes a lock only once one was set.
  public static var current: any MessageCoder {
    get {
      // Relaxed: it only says whether to look; the lock orders what is found there.
      isChosen.load(ordering: .relaxed) ? chosen.withLock { $0 } : BinaryMessageCoder()
    }
    set {
      chosen.withLock { $0 = newValue }
      isChosen.store(true, ordering: .relaxed)
    }
  }
}

/// Turns values into messages, and messages into values. Conform to it for an encoding of your own.
public typealias MessageCoder = MessageCoding.MessageCoder
/// The default coder: compact, keyed, and safe against hostile bytes.
public typealias BinaryMessageCoder = MessageCoding.BinaryMessageCoder

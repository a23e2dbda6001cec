public import MessageCoding
import Synchronization

/// The encoding of values, a choice per process: both ends of a channel must make the same.
public enum MessageCoders {
  private static let chosen = Mutex<any MessageCoder>(BinaryMessageCoder())
  private static let isChosen = Atomic(false)

  /// What ``MessagePort/postMessage(_:transfer:)`` and ``MessageEvent/decode(_:coder:)`` use unless told otherwise:
  /// a `BinaryMessageCoder` until something else is set. Thread-safe; without a lock as long as nothing was set.
  public static var current: any MessageCoder {
    get {
      // Relaxed: it says only whether to look; the lock orders what is found there.
      isChosen.load(ordering: .relaxed) ? chosen.withLock { $0 } : BinaryMessageCoder()
    }
    set {
      chosen.withLock { $0 = newValue }
      isChosen.store(true, ordering: .relaxed)
    }
  }
}

/// How values become messages, and messages values. Conform to it for an encoding of your own.
public typealias MessageCoder = MessageCoding.MessageCoder
/// The coder that is used unless another one is chosen: compact, keyed, and safe against hostile bytes.
public typealias BinaryMessageCoder = MessageCoding.BinaryMessageCoder

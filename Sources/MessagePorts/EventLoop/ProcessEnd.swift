import CSupport
import Glibc
import Synchronization

/// The end of the process: handlers of ports are kept from what exit handlers have taken apart already.
///
/// The C library calls exit handlers in the opposite order of their registration. Ours is registered when the first loop
/// is made, so it comes before those that the program had registered by then.
enum ProcessEnd {
  /// Whether it has come. Relaxed: whoever sets it waits for those that may not have seen it; see ``begin()``.
  @inline(__always)
  static var hasCome: Bool { flag.load(ordering: .relaxed) }

  private static let flag = Atomic<Bool>(false)
  private static let loops = PerProcess<[WeakLoop]> { [] }

  private struct WeakLoop: Sendable { weak let loop: EventLoop? }

  private static let isRegistered: Bool = atexit { ProcessEnd.begin() } == 0

  /// Before the loop has a thread. In a forked child, which has this process's exit handlers and none of its threads, that
  /// is once more.
  static func add(_ loop: EventLoop) {
    // Without memory for it, handlers go on being called: what most programs live with anyhow.
    guard isRegistered else { return }
    loops.withLock { loops in
      loops.removeAll { $0.loop == nil || $0.loop === loop }
      loops.append(WeakLoop(loop: loop))
    }
  }

  /// From when this returns on, no handler of a port begins. Those that have begun go on.
  private static func begin() {
    // A loop looks at the flag under a lane's lock, and says there that it is about to call. Either it sees the flag, or
    // the call is waited for here: the lock that is taken in between orders the two.
    flag.store(true, ordering: .relaxed)
    for loop in loops.withLock({ $0.compactMap(\.loop) }) {
      for client in loop.clients { client.finishCall() }
    }
  }
}

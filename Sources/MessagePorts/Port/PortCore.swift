import CSupport
import Glibc
import SharedRing
import Synchronization

/// One end of a channel in this process: what a ``MessagePort`` stands for.
///
/// Closing or transferring it uses a core up; the end itself may live on, behind another core.
final class PortCore: Sendable {
  /// The lane on which this end posts.
  let outgoing: Lane
  /// The lane on which this end receives.
  let incoming: Lane
  /// 0 posts on lane 0 of the shared memory, 1 on lane 1.
  let end: Int
  let options: ChannelOptions
  let lifecycle: PortLifecycle
  /// This end waits, inside a message, in another port's local queue. Set under the ``TransferLock``, for its other
  /// holders, and cleared by whoever takes the message. Relaxed: a stale value costs one more look.
  let isInMessage = Atomic<Bool>(false)
  /// How many messages with ports are being posted on this port: it does not depart meanwhile. Changed under the
  /// ``TransferLock``, which orders it: relaxed.
  let carried = Atomic<Int>(0)
  /// A loop has taken something for a handler, and is about to call it.
  let isAboutToCall = Atomic<Bool>(false)
  /// The thread of the present turn, or of the last one: perhaps that of another loop than the port has now.
  let turnThread = Atomic<UInt64>(0)
  /// Which loop runs the handlers, and how it knows this port.
  let binding: Lock<LoopBinding>
  let turns = TurnGuard()
  /// See `LoopStanding`. Relaxed: what one loop has written there means nothing to another.
  let note = Atomic<UInt64>(0)
  /// Whether the binding has a token, for those about to sleep: saves them its lock. Relaxed: a look that is out of date
  /// does no harm, as whoever stops watching rings all who sleep, or watches again.
  let isWatched = Atomic<Bool>(false)
  /// For how long it has recently been worth it to spin in a receive. Relaxed: any value will do.
  let learnedSpin = Atomic<UInt64>(Spin.first)

  init(outgoing: Lane, incoming: Lane, end: Int, options: ChannelOptions, loop: EventLoop) {
    self.outgoing = outgoing
    self.incoming = incoming
    self.end = end
    self.options = options
    lifecycle = PortLifecycle()
    binding = Lock(LoopBinding(loop: loop))
    incoming.state.withLock { $0.receiving.receiver.core = self }
  }

  /// Stands, in a forked child, for every end that existed before: nothing of the parent's is looked at, which another
  /// thread may have been changing. It is closed from the start.
  @inline(never)
  static var inherited: PortCore { closedCore }

  private static let closedCore: PortCore = {
    let options = ChannelOptions()
    let core = PortCore(outgoing: Lane(options), incoming: Lane(options), end: 0, options: options, loop: .default)
    core.close()
    return core
  }()

  /// The core of a port that takes over from `predecessor`; it becomes the receiver when the lane is told so.
  init(succeeding predecessor: PortCore) {
    outgoing = predecessor.outgoing
    incoming = predecessor.incoming
    end = predecessor.end
    options = predecessor.options
    lifecycle = PortLifecycle()
    binding = Lock(LoopBinding(loop: predecessor.loop))
  }

  struct LoopBinding: Sendable {
    var loop: EventLoop
    /// Set while the loop watches the channel's socket.
    var token: EventLoop.Token?
    /// The loop has armed a doorbell, or is about to.
    var hasDoorbell = false
    /// The process at the other end, if this one has started it: its exit status is the reason for the close.
    var process: ChildProcess?
  }

  var loop: EventLoop { binding.withLock { $0.loop } }

  /// Whether that is the port's loop, without counting a reference to it.
  func isServed(by runner: EventLoop) -> Bool { binding.withLock { $0.loop === runner } }

  /// How `loop` knows this port, if it is the port's loop and watches it. For arming a doorbell.
  func tokenForDoorbell(on loop: EventLoop) -> EventLoop.Token? {
    binding.withLock { binding in
      guard binding.loop === loop, let token = binding.token else { return nil }
      binding.hasDoorbell = true
      return token
    }
  }
}

import CSupport
import Glibc
import SharedRing
import Synchronization

/// One end of a channel in this process: what a ``MessagePort`` stands for.
///
/// A core is used up by closing or transferring it; the end itself may live on, behind another core.
final class PortCore: Sendable {
  /// The lane on which this end posts.
  let outgoing: Lane
  /// The lane on which this end receives.
  let incoming: Lane
  /// 0 posts on lane 0 of the shared memory, 1 on lane 1.
  let end: Int
  let options: ChannelOptions
  let lifecycle: PortLifecycle
  /// This end waits, inside a message, in another port's local queue. Set under the ``TransferLock``, for others who have
  /// it, and taken back by whoever takes the message: relaxed, since a look that is out of date costs another look at most.
  let isInMessage = Atomic<Bool>(false)
  /// A loop has taken something for a handler, and is about to call it.
  let isAboutToCall = Atomic<Bool>(false)
  /// The thread of the turn that is under way, or was the last: another loop's, perhaps, than the port has now.
  let turnThread = Atomic<UInt64>(0)
  /// Which loop runs the handlers, and how it knows this port.
  let binding: Mutex<LoopBinding>
  let turns = TurnGuard()
  /// How many threads sleep on the doorbell in a receive, or are about to. Goes up under the incoming lane's lock.
  let sleepingThreads = Atomic<Int>(0)
  /// Whether the binding has a token, for those about to sleep: saves them its lock. Relaxed: a look that is out of date
  /// does no harm, as whoever stops watching wakes all who sleep, or watches again.
  let isWatched = Atomic<Bool>(false)

  init(outgoing: Lane, incoming: Lane, end: Int, options: ChannelOptions, loop: EventLoop) {
    self.outgoing = outgoing
    self.incoming = incoming
    self.end = end
    self.options = options
    lifecycle = PortLifecycle()
    binding = Mutex(LoopBinding(loop: loop))
    incoming.state.withLock { $0.receiving.receiver.core = self }
  }

  /// The core of a port that takes over from `predecessor`; it becomes the receiver when the lane is told so.
  init(succeeding predecessor: PortCore) {
    outgoing = predecessor.outgoing
    incoming = predecessor.incoming
    end = predecessor.end
    options = predecessor.options
    lifecycle = PortLifecycle()
    binding = Mutex(LoopBinding(loop: predecessor.loop))
  }

  struct LoopBinding: Sendable {
    var loop: EventLoop
    /// Set while the loop watches the channel's socket.
    var token: EventLoop.Token?
    /// The loop has armed a doorbell, or is about to.
    var hasDoorbell = false
    /// The process at the other end, if this one has started it: its exit status is the reason of the close.
    var process: ChildProcess?
  }

  var loop: EventLoop { binding.withLock { $0.loop } }

  /// How `loop` knows this port, if it is the port's loop and watches it: to arm a doorbell.
  func tokenForDoorbell(on loop: EventLoop) -> EventLoop.Token? {
    binding.withLock { binding in
      guard binding.loop === loop, let token = binding.token else { return nil }
      binding.hasDoorbell = true
      return token
    }
  }
}

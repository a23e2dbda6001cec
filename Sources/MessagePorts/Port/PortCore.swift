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
  /// This end waits, inside a message, in another port's local queue. Set under ``Departure``'s lock, for others who have
  /// it, and taken back by whoever takes the message: relaxed, as who finds it out of date looks once more than necessary.
  let isInMessage = Atomic<Bool>(false)
  /// The loop has taken something for a handler, and is about to call it.
  let isAboutToCall = Atomic<Bool>(false)
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
    incoming.state.withLock { $0.receiver.core = self }
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

/// What is left to do once the locks are released.
struct FollowUp: Sendable {
  var scheduled: PortCore?
  var parker: Parker?
  var resumed: [(MessageWaiter, MessageEvent?)] = []

  /// Nothing in most cases.
  static let none = FollowUp()

  @inline(__always)
  func perform() {
    if let scheduled { scheduled.loop.schedule(scheduled) }
    if let parker { parker.wakeAll() }
    for (waiter, event) in resumed { waiter.resumption.resume(event) }
  }
}

extension Receiver {
  /// Something has come, or come to its end: who has to look at it. Under the lane's lock.
  mutating func notify() -> FollowUp {
    var followUp = FollowUp()
    if let core, !isScheduled, wantsEvents {
      isScheduled = true
      followUp.scheduled = core
    }
    followUp.parker = parker
    return followUp
  }
}

// MARK: - Posting

extension PortCore {
  /// Posts a message without ports.
  @inline(__always)
  func post(_ bytes: RawSpan) throws(PortError) {
    guard bytes.byteCount <= options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: bytes.byteCount, limit: options.messageLimitBytes)
    }
    while true {
      let outcome = try outgoing.state.withLock { (lane) throws(PortError) -> PostOutcome in
        if !lifecycle.isOpen {
          try lifecycle.checkUsable()
          return .departing
        }
        if lane.tryPostToRing(bytes) { return .done }
        return try lane.postUncommon(bytes)
      }
      switch outcome {
      case .done: return
      case .followUp(let followUp): return followUp.perform()
      case .overflowed: return watchForOverflow()
      case .departing: Departure.waitForOthers()
      }
    }
  }
}

enum PostOutcome: Sendable {
  case done
  case followUp(FollowUp)
  /// Posted, with more memory than is to be kept.
  case overflowed
  /// The port is being transferred by another thread; whether that succeeds decides.
  case departing
}

extension LaneState {
  /// The common case: the ring has room, and nothing is limited.
  @inline(__always)
  mutating func tryPostToRing(_ bytes: RawSpan) -> Bool {
    guard policy.unreadLimitBytes == nil, producer.capacity <= policy.steadyCapacity, producer.tryWrite(bytes) else {
      return false
    }
    wakeReceiver()
    return true
  }

  /// After something was published on the ring.
  @inline(__always)
  mutating func wakeReceiver() {
    producer.publishPosition()
    if producer.consumerSleeps(), producer.wakeConsumer() { sendingChannel?.ring() }
  }

  /// A full ring, a large message, a limit, a peer that is gone, or a channel that is not shared.
  mutating func postUncommon(_ bytes: RawSpan) throws(PortError) -> PostOutcome {
    if isReceiverGone { return .done }
    guard let sendingChannel else {
      return .followUp(appendLocally(QueuedMessage(payload: try makeLocalPayload(bytes), ports: [])))
    }
    do throws(RingError) {
      let header = try producer.stage(bytes, policy: policy, contact: sendingChannel)
      producer.publish(header)
      wakeReceiver()
    } catch {
      try handle(error)
    }
    return noticeOverflow() ? .overflowed : .done
  }

  /// What a failure of the ring means to the poster.
  mutating func handle(_ error: RingError) throws(PortError) {
    switch error {
    case .limitReached: throw .queueFull(limit: policy.unreadLimitBytes ?? 0)
    case .system(let error): throw .system(error)
    // The peer is gone, or of no use any more: what is posted is discarded, as if it had closed just before.
    case .consumerGone: isReceiverGone = true
    case .corruptPeer(let what):
      isReceiverGone = true
      receiverViolation = what
      sendingChannel?.hangUp()
    }
  }

  /// Copies a message for the local queue, if the limits allow.
  mutating func makeLocalPayload(_ bytes: RawSpan) throws(PortError) -> MessagePayload {
    if let limit = policy.unreadLimitBytes,
      queuedBytes + RecordHeader.recordBytes(payloadBytes: bytes.byteCount) > limit
    {
      throw .queueFull(limit: limit)
    }
    guard let payload = MessagePayload(copying: bytes) else {
      throw .system(SystemError(call: "malloc", errno: ENOMEM))
    }
    return payload
  }

  @inline(__always)
  mutating func appendLocally(_ message: QueuedMessage) -> FollowUp {
    queuedBytes += message.recordBytes
    queue.append(message)
    return receiver.notify()
  }
}

extension SharedChannel: RingConsumerContact {
  func consumerIsGone() -> Bool { isHungUp }
  func ringSocket() { ring() }
}

import Glibc
import SharedRing

/// The half of a lane that posts.
struct SendingHalf: ~Copyable {
  /// Attached exactly if the transport is a ring, and no packet is on its way: whoever sends that has the producer.
  var producer = RingProducer()
  private(set) var transport = LaneTransport.local
  var audience = Audience.present
  /// Posters that wait for space, in the order they came.
  var spaceWaiters = SpaceWaiters()
  var overflow = LaneOverflow.none
  var transferRefusal = TransferRefusal.none
  let policy: GrowthPolicy

  /// Whether what is posted has anybody to go to.
  enum Audience: Sendable {
    case present
    /// Nobody will ever receive what is posted: discard it.
    case gone
    /// It was hung up on, because it lied about what it has read: that is the reason of the close.
    case violated(String)

    var isGone: Bool {
      switch self {
      case .present: false
      case .gone, .violated: true
      }
    }

    /// A violation that is known stays the reason.
    mutating func leave() { if case .present = self { self = .gone } }
  }

  init(_ options: ChannelOptions) { policy = GrowthPolicy(unreadLimitBytes: options.queueLimitBytes) }

  mutating func attach(_ producer: consuming RingProducer, to channel: SharedChannel) {
    self.producer = producer
    transport = .ring(channel)
  }

  /// Gives up the ring. The channel is released by the caller, after the lock.
  mutating func detach() -> SharedChannel? {
    defer { transport = .local }
    producer = RingProducer()
    transferRefusal = .none
    return transport.channel
  }

  /// Whether something has changed since a transfer was refused, if it was.
  mutating func mayTransfer() -> Bool {
    transferRefusal == .none || producer.isAttached && transferRefusal.isOver(released: producer.releasedPosition())
  }

  /// Takes the producer away, for an owner who goes without the lock.
  mutating func takeProducer() -> RingProducer {
    var taken = RingProducer()
    swap(&taken, &producer)
    return taken
  }
}

// MARK: - Posting on the ring

extension SendingHalf {
  /// The common case: the ring has room, and nothing is limited.
  @inline(__always)
  mutating func tryPost(_ bytes: RawSpan) -> Bool {
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
    if producer.consumerSleeps(), producer.wakeConsumer() { transport.signalOnSocket() }
  }

  /// What a failure of the ring means to the poster. Returns if it means that the message is discarded.
  mutating func handle(_ error: RingError) throws(PortError) {
    switch error {
    case .limitReached: throw .queueFull(limit: policy.unreadLimitBytes ?? 0)
    case .system(let error): throw .system(error)
    // The peer is gone, or of no use any more: what is posted is discarded, as if it had closed just before.
    case .consumerGone: audience.leave()
    case .corruptPeer(let what):
      audience = .violated(what)
      transport.channel?.hangUp()
    }
  }
}

extension SharedChannel: RingConsumerContact {
  func consumerIsGone() -> Bool { isHungUp }
  func signalOnSocket() { signal() }
}

// MARK: - Posting

enum PostOutcome: Sendable {
  case done
  case followUp(AfterLock)
  /// Posted, with more memory than is to be kept.
  case overflowed
  /// The port is being transferred by another thread; whether that succeeds decides.
  case departing
  /// Another thread sends the ports of a message; this one comes after it.
  case packetUnderWay
}

extension LaneState {
  /// A full ring, a large message, a limit, a peer that is gone, or a channel that is not shared.
  mutating func postUncommon(_ bytes: RawSpan) throws(PortError) -> PostOutcome {
    if sending.audience.isGone { return .done }
    guard case .ring(let channel) = sending.transport else {
      try checkLocalRoom(byteCount: bytes.byteCount)
      return .followUp(appendLocally(QueuedMessage(payload: try .copy(of: bytes), cargo: nil)))
    }
    if sending.isPacketUnderWay { return .packetUnderWay }
    do throws(RingError) {
      let header = try sending.producer.stage(bytes, policy: sending.policy, contact: channel)
      sending.producer.publish(header)
      sending.wakeReceiver()
    } catch {
      try sending.handle(error)
    }
    return sending.noticeOverflow() ? .overflowed : .done
  }

  /// Throws if the local queue has no room for a message under its limit.
  mutating func checkLocalRoom(byteCount: Int) throws(PortError) {
    if let limit = sending.policy.unreadLimitBytes,
      receiving.queue.byteCount + RecordHeader.recordBytes(payloadBytes: byteCount) > limit
    {
      throw .queueFull(limit: limit)
    }
  }

  @inline(__always)
  mutating func appendLocally(_ message: QueuedMessage) -> AfterLock {
    receiving.queue.append(message)
    return receiving.receiver.notify()
  }

  /// How much may still be posted; only with a limit.
  mutating func freeBytes() -> Int {
    guard let limit = sending.policy.unreadLimitBytes else { return .max }
    return limit - (sending.producer.isAttached ? sending.producer.unreleasedBytes() : receiving.queue.byteCount)
  }

  /// Lets those go on for whom there is room now.
  mutating func resumeSpaceWaiters(_ after: inout AfterLock) {
    guard !sending.spaceWaiters.isEmpty else { return }
    let going = sending.spaceWaiters.removeSatisfied(freeBytes: freeBytes(), mayTransfer: sending.mayTransfer())
    for waiter in going { after.resume(waiter, .success(())) }
  }
}

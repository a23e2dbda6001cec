import DequeModule
import SharedRing
import Synchronization

/// One direction of a channel, as far as it is in this process: the end that posts, the end that receives, or both.
///
/// While both ends are here, messages wait in `queue`. Once one has left, the end that stayed works on a ring in
/// shared memory: with `producer` if it posts on this lane, with `consumer` if it receives.
///
/// The lock is held for the time of one post or one receive, never while user code runs. Whoever holds one lane's lock
/// takes another one's only under ``Departure``'s lock, so there is no order to get wrong.
final class Lane: Sendable {
  let state: Mutex<LaneState>
  /// The lane is locked because its channel is becoming shared. Of use only under ``Departure``'s lock, whose holder
  /// comes by again if ports wait in each other's channels; relaxed for the same reason.
  let isMoving = Atomic<Bool>(false)

  /// A port's reader tells what it has read in small steps: a poster that finds the ring full waits a moment if it sees
  /// that the reader gets on, and that is better than to make the ring grow.
  static let releaseStride = 4096

  /// How much is taken in a row that is no whole message, before others get their turn: more than the largest message has
  /// fragments. A malicious peer must not keep us here.
  static let fragmentBudget = 1 << 18

  /// What a record takes of that. Correct peers write large fragments; a few thousand small ones, or aborts, have to do.
  static func cost(of record: RingRecord) -> Int { record.byteCount < 1024 ? 64 : 1 }

  init(_ options: ChannelOptions) { state = Mutex(LaneState(options)) }

  /// The lane on which an end that has arrived from another process posts.
  init(_ options: ChannelOptions, producer: consuming RingProducer, channel: SharedChannel) {
    var initial = LaneState(options)
    initial.producer = producer
    initial.sendingChannel = channel
    state = Mutex(initial)
  }

  /// The lane on which an end that has arrived from another process receives.
  init(_ options: ChannelOptions, consumer: consuming RingConsumer, channel: SharedChannel) {
    var initial = LaneState(options)
    initial.consumer = consumer
    initial.consumer.releaseStride = Self.releaseStride
    initial.receivingChannel = channel
    state = Mutex(initial)
  }
}

struct LaneState: ~Copyable {
  // The end that posts.

  /// Attached once the channel is shared and the posting end is here.
  var producer = RingProducer()
  /// The shared channel as the posting end has it; `nil` while the channel is local.
  var sendingChannel: SharedChannel?
  /// Nobody will ever receive what is posted: discard it.
  var isReceiverGone = false
  /// The receiver was hung up on because it lied about what it has read: the reason of the close.
  var receiverViolation: String?
  /// Posters that wait for space, in the order they came.
  var spaceWaiters = SpaceWaiters()
  var overflow = LaneOverflow.none
  let policy: GrowthPolicy
  let options: ChannelOptions

  // The end that receives.

  /// Messages that came before the channel was shared, or never needed it to be.
  var queue = Deque<QueuedMessage>()
  /// What `queue` holds, as ``QueuedMessage/recordBytes`` counts it.
  var queuedBytes = 0
  /// Attached once the channel is shared and the receiving end is here.
  var consumer = RingConsumer()
  var assembler = MessageAssembler()
  /// The shared channel as the receiving end has it; `nil` while the channel is local.
  var receivingChannel: SharedChannel?
  var receiver = Receiver()

  init(_ options: ChannelOptions) {
    self.options = options
    policy = GrowthPolicy(unreadLimitBytes: options.queueLimitBytes)
  }
}

// MARK: - Taking messages

/// What a receiver finds.
enum Arrival {
  case nothing
  /// There is something, and for want of resources it cannot be taken now.
  case blocked(SystemError)
  case message(MessageEvent)
  case failed(MessageError)
  case violation(String)
}

extension LaneState {
  /// Looks for a whole message. Puts fragments together that have come so far; takes nothing out of the queue.
  mutating func lookAhead() -> Prospect {
    if !queue.isEmpty { return .message }
    var budget = Lane.fragmentBudget
    while budget > 0 {
      switch consumer.next() {
      case .empty: return .nothing
      case .blocked: return .blocked
      case .violation(let what): return .violation(what)
      case .record(let record):
        if record.kind == .message || record.kind == .lastFragment { return .message }
        budget -= Lane.cost(of: record)
        if case .violation(let what) = addFragment(record) { return .violation(what) }
      }
    }
    return .violation("fragments without end")
  }

  enum Prospect {
    case message
    case nothing
    /// For want of resources it cannot be seen now.
    case blocked
    case violation(String)
  }

  /// Takes what `core` has announced on the doorbell back, and makes its threads that sleep in a receive look again.
  func wakeThreads(of core: PortCore) {
    guard consumer.isAttached else { return }
    consumer.takeAnnouncementBack()
    // Relaxed: it goes up under this lock.
    if core.sleepingThreads.load(ordering: .relaxed) > 0 { consumer.wakeSleepers() }
  }

  /// Takes the next message, if there is a whole one.
  mutating func take(loop: @autoclosure () -> EventLoop) -> Arrival {
    if let message = queue.popFirst() {
      queuedBytes -= message.recordBytes
      resumeSpaceWaiters()
      for port in message.ports { port.core.isInMessage.store(false, ordering: .relaxed) }
      return .message(MessageEvent(payload: message.payload, ports: message.ports))
    }
    var event = MessageEvent(payload: MessagePayload(), ports: [])
    if takePlain(into: &event) { return .message(event) }
    return takeUncommon(loop: loop())
  }

  /// The common case: a whole message without ports on the ring. `event` has none, either.
  @inline(__always)
  mutating func takePlain(into event: inout MessageEvent) -> Bool {
    let limit = options.messageLimitBytes
    // What exceeds the limit, or the memory there is, stays for the uncommon path.
    let wasTaken = consumer.tryTake { $0.byteCount <= limit && event.assign($0) }
    guard wasTaken else { return false }
    crashPoint(.receiveConsumed)
    if options.queueLimitBytes != nil { consumer.release() }
    if consumer.owesRing { payOwedRing() }
    return true
  }

  /// Whoever posts here sleeps on its socket until there is room.
  @inline(never)
  mutating func payOwedRing() {
    if consumer.takeOwedRing() { receivingChannel?.ring() }
  }

  private mutating func takeUncommon(loop: EventLoop) -> Arrival {
    var budget = Lane.fragmentBudget
    while budget > 0 {
      switch consumer.next() {
      case .empty:
        // Who only looks, and never sleeps, has to tell as well when all of an overflow was read.
        if consumer.hasUnreleased, consumer.capacity > policy.steadyCapacity { consumer.release() }
        if consumer.takeOwedRing() { receivingChannel?.ring() }
        return .nothing
      case .blocked(let error): return .blocked(error)
      case .violation(let what): return .violation(what)
      case .record(let record):
        crashPoint(.receiveFound)
        budget -= Lane.cost(of: record)
        let arrival: Arrival
        switch record.kind {
        case .message:
          guard record.byteCount <= options.messageLimitBytes else {
            return .violation("message of \(record.byteCount) bytes, over the limit")
          }
          let ports = receivePorts(of: record, loop: loop)
          if case .failure(.blocked(let error)) = ports { return .blocked(error) }
          arrival = Self.join(consumer.withPayload(of: record) { MessagePayload(copying: $0) }, ports)
          consumer.consume(record)
        case .lastFragment:
          // Before the fragment is taken: if the ports cannot be had yet, all of it stays.
          let ports = receivePorts(of: record, loop: loop)
          if case .failure(.blocked(let error)) = ports { return .blocked(error) }
          switch addFragment(record) {
          case .violation(let what): return .violation(what)
          case .complete(let bytes): arrival = Self.join(MessagePayload(bytes), ports)
          case .refused: arrival = Self.join(nil, ports)
          case .incomplete: continue
          }
        default:
          if case .violation(let what) = addFragment(record) { return .violation(what) }
          continue
        }
        if options.queueLimitBytes != nil { consumer.release() }
        if consumer.takeOwedRing() { receivingChannel?.ring() }
        return arrival
      }
    }
    return .nothing  // for this time; the ring is not empty, so nobody goes to sleep
  }

  private mutating func addFragment(_ record: RingRecord) -> MessageAssembler.Progress {
    let progress = consumer.withPayload(of: record) { bytes in
      assembler.add(record.kind, bytes, limitBytes: options.messageLimitBytes)
    }
    consumer.consume(record)
    return progress
  }

  private func receivePorts(of record: RingRecord, loop: EventLoop) -> Result<[MessagePort], ArrivalError> {
    guard record.portCount > 0 else { return .success([]) }
    guard let receivingChannel else { return .failure(.violation("ports in a local message")) }
    return receivingChannel.receivePorts(count: record.portCount, options: options, loop: loop)
  }

  /// - Parameter payload: `nil` for want of memory.
  private static func join(_ payload: MessagePayload?, _ ports: Result<[MessagePort], ArrivalError>) -> Arrival {
    switch ports {
    case .failure(.violation(let what)): .violation(what)
    case .failure(.message(let error)): .failed(error)
    case .failure(.blocked(let error)): .blocked(error)
    case .success(let ports): payload.map { .message(MessageEvent(payload: $0, ports: ports)) } ?? .failed(.outOfMemory)
    }
  }
}

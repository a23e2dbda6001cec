import SharedRing

/// The half of a lane that receives.
struct ReceivingHalf: ~Copyable {
  /// Messages that came before the channel was shared, or never needed it to be.
  var queue = LocalQueue()
  /// Attached exactly if the transport is a ring that is still read.
  var records = RecordReader()
  private(set) var transport = LaneTransport.local
  var receiver = Receiver()
  let options: ChannelOptions

  init(_ options: ChannelOptions) { self.options = options }

  /// A port's reader tells what it has read in small steps: a poster that finds the ring full waits a moment if it sees
  /// that the reader gets on, and that is better than to make the ring grow.
  private static let releaseStride = 4096

  mutating func attach(_ records: consuming RecordReader, to channel: SharedChannel) {
    self.records = records
    self.records.consumer.releaseStride = Self.releaseStride
    transport = .ring(channel)
  }

  /// Gives up the ring.
  mutating func detach() {
    records = RecordReader()
    transport = .local
  }

  /// Everything that a receiver has, for the next one to begin anew.
  mutating func takeReceiver() -> Receiver {
    defer { receiver = Receiver() }
    return receiver
  }
}

// MARK: - Looking

extension ReceivingHalf {
  /// Goes on to the next whole message; see ``RecordReader/seekEnd(messageLimitBytes:)``.
  private mutating func seekEnd() -> RecordReader.Prospect {
    let prospect = records.seekEnd(messageLimitBytes: options.messageLimitBytes)
    if case .end(let record) = prospect, record.kind == .message, record.byteCount > options.messageLimitBytes {
      return .violation("message of \(record.byteCount) bytes, over the limit")
    }
    return prospect
  }

  enum Outlook {
    case message
    case nothing
    /// It cannot be seen now, because the system lacks what it takes to map it.
    case blocked
    case violation(String)
  }

  /// Looks for a whole message, once nothing more is posted. Takes nothing out of the queue.
  mutating func lookAhead() -> Outlook {
    if !queue.isEmpty { return .message }
    switch seekEnd() {
    case .end: return .message
    case .nothing: return .nothing
    case .blocked: return .blocked
    case .violation(let what): return .violation(what)
    case .unfinished: return .violation("fragments without end")
    }
  }

  /// The word on which this end sleeps, if the channel is shared.
  var doorbell: SleepPreparation {
    records.consumer.memory.map { unsafe .ready(records.consumer.doorbellWord, $0) } ?? .notNeeded
  }

  /// Takes what `core` has announced on the doorbell back, and makes its threads that sleep in a receive look again.
  func wakeThreads(of core: PortCore) {
    guard records.consumer.isAttached else { return }
    records.consumer.takeAnnouncementBack()
    // Relaxed: it goes up under this lock.
    if core.sleepingThreads.load(ordering: .relaxed) > 0 { records.consumer.wakeSleepers() }
  }

  /// The loop has no taker any more. It may have announced itself over a thread that sleeps in a receive, and been rung
  /// in its place: such a thread announces itself again.
  func leaveDoorbellToThreads() {
    guard !receiver.hasTaker, let core = receiver.core else { return }
    // Relaxed: it goes up under this lock.
    if core.sleepingThreads.load(ordering: .relaxed) > 0 { wakeThreads(of: core) }
  }

  /// Whoever posts here sleeps on its socket until there is room.
  @inline(never)
  mutating func payOwedRing() {
    if records.consumer.takeOwedRing() { transport.ringSocket() }
  }

  /// Lets the poster know what was read.
  mutating func release() {
    records.consumer.release()
    payOwedRing()
  }

  /// The peer broke the format: whatever it writes from now on is not looked at. Returns whom to hang up on.
  mutating func endReading(_ what: String) -> SharedChannel? {
    records = RecordReader()
    receiver.end = .gone(.protocolViolation(what))
    return transport.channel
  }
}

// MARK: - Taking messages

/// What a receiver finds.
enum Taken {
  case nothing
  /// There is something, and it cannot be taken now, because the system lacks what it takes.
  case blocked(SystemError)
  case message(MessageEvent)
  case failed(MessageError)
  case violation(String)
}

extension LaneState {
  /// Takes the next message, if there is a whole one.
  mutating func take(_ after: inout AfterLock, loop: @autoclosure () -> EventLoop) -> Taken {
    if let message = receiving.queue.popFirst() {
      resumeSpaceWaiters(&after)
      for port in message.ports { port.core.isInMessage.store(false, ordering: .relaxed) }
      return .message(MessageEvent(payload: message.payload, ports: message.ports))
    }
    return receiving.takeFromRing(loop: loop())
  }
}

extension ReceivingHalf {
  fileprivate mutating func takeFromRing(loop: @autoclosure () -> EventLoop) -> Taken {
    // What most turns of a port end with.
    if records.consumer.isEmpty {
      if hasOverflowed { tellWhenAllIsRead() }
      if records.consumer.owesRing { payOwedRing() }
      return .nothing
    }
    var event = MessageEvent(payload: MessagePayload(), ports: [])
    let taken = takePlain(into: &event) ? .message(event) : takeUncommon(loop: loop())
    if hasOverflowed { tellWhenAllIsRead() }
    return taken
  }

  private var hasOverflowed: Bool { records.consumer.capacity > GrowthPolicy().steadyCapacity }

  /// Whoever takes by hand may never look again: the poster hears at once when all of an overflow was read.
  @inline(never)
  private mutating func tellWhenAllIsRead() {
    if records.consumer.isEmpty, records.consumer.hasUnreleased { release() }
  }

  /// The common case: a whole message without ports on the ring. `event` has none, either.
  @inline(__always)
  mutating func takePlain(into event: inout MessageEvent) -> Bool {
    let limit = options.messageLimitBytes
    // What exceeds the limit, or the memory there is, stays for the uncommon path.
    let wasTaken = records.consumer.tryTake { $0.byteCount <= limit && event.assign($0) }
    guard wasTaken else { return false }
    crashPoint(.receiveConsumed)
    if options.queueLimitBytes != nil { records.consumer.release() }
    if records.consumer.owesRing { payOwedRing() }
    return true
  }

  private mutating func takeUncommon(loop: EventLoop) -> Taken {
    defer { payOwedRing() }
    switch seekEnd() {
    case .nothing: return .nothing
    case .unfinished: return .nothing  // for this time; the ring is not empty, so nobody goes to sleep
    case .blocked(let error): return .blocked(error)
    case .violation(let what): return .violation(what)
    case .end(let record):
      crashPoint(.receiveFound)
      // Before the record is taken: if the ports cannot be had yet, all of the message stays.
      let ports = receivePorts(of: record, loop: loop)
      if case .failure(.blocked(let error)) = ports { return .blocked(error) }
      let completion = records.complete(record, messageLimitBytes: options.messageLimitBytes) {
        MessagePayload(copying: $0)
      } assembled: {
        MessagePayload($0)
      }
      if options.queueLimitBytes != nil { records.consumer.release() }
      switch completion {
      case .violation(let what): return .violation(what)
      case .refused: return Self.join(nil, ports)
      case .message(let payload): return Self.join(payload, ports)
      }
    }
  }

  private func receivePorts(of record: RingRecord, loop: EventLoop) -> Result<[MessagePort], ArrivalError> {
    guard record.portCount > 0 else { return .success([]) }
    guard let channel = transport.channel else { return .failure(.violation("ports in a local message")) }
    return channel.receivePorts(count: record.portCount, options: options, loop: loop)
  }

  /// - Parameter payload: `nil`: there was no memory for it.
  private static func join(_ payload: MessagePayload?, _ ports: Result<[MessagePort], ArrivalError>) -> Taken {
    switch ports {
    case .failure(.violation(let what)): .violation(what)
    case .failure(.message(let error)): .failed(error)
    case .failure(.blocked(let error)): .blocked(error)
    case .success(let ports): payload.map { .message(MessageEvent(payload: $0, ports: ports)) } ?? .failed(.outOfMemory)
    }
  }
}

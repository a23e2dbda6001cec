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
  /// Larger messages go the uncommon way, where a turn's allowance is spent.
  private let plainLimitBytes: Int
  /// How often in a row a look came to no end, once the peer was gone.
  private var looksInVain = 0

  init(_ options: ChannelOptions) {
    self.options = options
    plainLimitBytes = min(options.messageLimitBytes, 32 << 10)
  }

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
  /// Goes on to the next whole message; see ``RecordReader/seekLast(messageLimitBytes:through:)``.
  private mutating func seekLast() -> RecordReader.Prospect {
    let prospect = records.seekLast(messageLimitBytes: options.messageLimitBytes, through: transport.channel)
    if case .last(let record) = prospect, record.kind == .message, record.byteCount > options.messageLimitBytes {
      return .violation("message of \(record.byteCount) bytes, over the limit")
    }
    return prospect
  }

  enum Sighting {
    case message
    case nothing
    /// Doorbells lie before whatever there is, more than are taken in a row.
    case doorbells
    /// So much has come that others have their turn first.
    case unfinished
    /// It cannot be seen now, because the system lacks what it takes to map it.
    case blocked
    case violation(String)
  }

  /// Looks for a whole message, once nothing more is posted, or a packet has come. Takes nothing out of the queue.
  ///
  /// - Parameter isToBeTaken: somebody is told of it, and takes it: of no use as long as that is known to fail.
  mutating func lookAhead(isToBeTaken: Bool = false) -> Sighting {
    if !queue.isEmpty { return .message }
    let prospect = seekLast()
    if case .unfinished = prospect { looksInVain += 1 } else { looksInVain = 0 }
    switch prospect {
    case .last(let record):
      let isHeldUp = isToBeTaken && record.header.announcesPacket && transport.channel?.isHeldUp == true
      return isHeldUp ? .blocked : .message
    case .nothing: return .nothing
    case .doorbells: return .doorbells
    case .blocked: return .blocked
    case .violation(let what): return .violation(what)
    // A peer that is gone cannot have left so much. Others may still have its memory.
    case .unfinished: return looksInVain > 1 << 14 ? .violation("fragments without end") : .unfinished
    }
  }

  /// Whether packets other than doorbells wait, or may: then nobody sleeps before it is known what announces them.
  mutating func notePackets() -> Bool {
    guard records.consumer.isAttached, let channel = transport.channel else { return false }
    return records.notePackets(through: channel)
  }

  /// Whether there may be something to take.
  mutating func isWorthLooking() -> Bool { records.isWorthLooking(through: transport.channel) }

  /// The word on which this end sleeps, if the channel is shared.
  var doorbell: SleepPreparation {
    records.consumer.memory.map { unsafe .ready(records.consumer.doorbellWord, $0) } ?? .notNeeded
  }

  /// If the loop has no taker any more: it may have announced itself in place of a thread that sleeps in a receive, and
  /// been rung in its place. Returns what makes such threads announce themselves again, once the lock is released.
  mutating func leaveDoorbellToThreads() -> PrivateWord? { receiver.hasTaker ? nil : receiver.threads.ring() }

  /// Signals a poster that sleeps on its socket until there is room.
  @inline(never)
  mutating func payOwedSignal() {
    if records.consumer.takeOwedSignal() { transport.signalOnSocket() }
  }

  /// Lets the poster know what was read.
  mutating func release() {
    records.consumer.release()
    payOwedSignal()
  }

  /// The peer broke the format: whatever it writes from now on is not looked at. Returns whom to hang up on.
  mutating func endReading(_ what: String) -> SharedChannel? {
    records = RecordReader()
    receiver.outlook = .gone(.protocolViolation(what))
    // Another channel's end may be among them, which would be held for as long as the program keeps this one.
    transport.channel?.discardPackets()
    return transport.channel
  }
}

// MARK: - Taking messages

/// What a receiver finds. The message itself is where the receiver wants it: it is some 150 bytes, and would otherwise be
/// copied from verdict to verdict.
enum Taken {
  case nothing
  /// There may be something, but so much has come before it that others have their turn first.
  case unfinished
  /// There is something, and it cannot be taken now, because the system lacks what it takes. `nil`: it is only a matter of
  /// time.
  case blocked(SystemError?)
  case message
  case failed(MessageError)
  case violation(String)
}

extension LaneState {
  /// Takes the next message, if there is a whole one, into `event`, which is empty, and stays so otherwise.
  mutating func take(
    into event: inout MessageEvent, _ after: inout AfterLock, loop: @autoclosure () -> EventLoop
  ) -> Taken {
    if let message = receiving.queue.popFirst() {
      resumeSpaceWaiters(&after)
      if let ports = message.cargo?.ports {
        for port in ports { port.core.isInMessage.store(false, ordering: .relaxed) }
      }
      event = MessageEvent(payload: message.payload, cargo: message.cargo)
      return .message
    }
    return receiving.takeFromRing(into: &event, loop: loop())
  }
}

extension ReceivingHalf {
  fileprivate mutating func takeFromRing(into event: inout MessageEvent, loop: @autoclosure () -> EventLoop) -> Taken {
    // What most turns of a port end with.
    if records.consumer.isEmpty, !records.packetsMayWait {
      if hasOverflowed { tellWhenAllIsRead() }
      if records.consumer.hasErrand { payOwedSignal() }
      return .nothing
    }
    let taken = takePlain(into: &event) ? .message : takeUncommon(into: &event, loop: loop())
    if hasOverflowed { tellWhenAllIsRead() }
    return taken
  }

  var hasOverflowed: Bool { records.consumer.capacity > GrowthPolicy().steadyCapacity }

  /// Whoever takes by hand may never look again: the poster hears at once when all of an overflow was read.
  @inline(never)
  private mutating func tellWhenAllIsRead() {
    if records.consumer.isEmpty, records.consumer.hasUnreleased { release() }
  }

  /// The common case: a whole message without ports on the ring. `event` has none, either.
  @inline(__always)
  mutating func takePlain(into event: inout MessageEvent) -> Bool {
    let limit = plainLimitBytes
    // What exceeds the limit, or the memory there is, stays for the uncommon path.
    let wasTaken = records.consumer.tryTake { $0.byteCount <= limit && event.assign($0) }
    guard wasTaken else { return false }
    crashPoint(.receiveConsumed)
    if options.queueLimitBytes != nil { records.consumer.release() }
    if records.consumer.hasErrand { payOwedSignal() }
    return true
  }

  private mutating func takeUncommon(into event: inout MessageEvent, loop: EventLoop) -> Taken {
    defer { payOwedSignal() }
    switch seekLast() {
    case .nothing: return .nothing
    case .unfinished, .doorbells: return .unfinished
    case .blocked(let error): return .blocked(error)
    case .violation(let what): return .violation(what)
    case .last(let record):
      crashPoint(.receiveFound)
      guard records.copyPieces(of: record) else { return .unfinished }
      // Before the record is taken: if what comes with it cannot be had yet, all of the message stays.
      let cargo = receiveCargo(of: record, loop: loop)
      if record.header.announcesPacket { records.allowance?.spend(record.cargo) }
      if case .failure(.blocked(let error)) = cargo { return .blocked(error) }
      let completion = records.complete(record, messageLimitBytes: options.messageLimitBytes) {
        MessagePayload(copying: $0)
      } assembled: {
        MessagePayload($0)
      }
      // Whoever waits until more can be sent along is told at once.
      if options.queueLimitBytes != nil || record.header.announcesPacket { records.consumer.release() }
      switch completion {
      case .violation(let what): return .violation(what)
      case .refused: return Self.join(nil, cargo, into: &event)
      case .message(let payload): return Self.join(payload, cargo, into: &event)
      }
    }
  }

  private func receiveCargo(of record: RingRecord, loop: EventLoop) -> Result<MessageCargo?, ArrivalError> {
    guard record.header.announcesPacket else { return .success(nil) }
    guard let channel = transport.channel else { return .failure(.violation("ports in a local message")) }
    return channel.receive(record.cargo, options: options, loop: loop).map { $0 }
  }

  /// - Parameter payload: `nil`: there was no memory for it.
  private static func join(
    _ payload: MessagePayload?, _ cargo: Result<MessageCargo?, ArrivalError>, into event: inout MessageEvent
  ) -> Taken {
    switch cargo {
    case .failure(.violation(let what)): return .violation(what)
    case .failure(.message(let error)): return .failed(error)
    case .failure(.blocked(let error)): return .blocked(error)
    case .success(let cargo):
      guard let payload else { return .failed(.outOfMemory) }
      event = MessageEvent(payload: payload, cargo: cargo)
      return .message
    }
  }
}

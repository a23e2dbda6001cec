import Glibc
import SharedRing

/// Finds whole messages among a lane's records, for ports and for ``PortReader`` alike. One thread at a time.
///
/// A message with ports is there once its record and its packet are. The record comes first: a packet whose record cannot
/// be seen was announced by nobody. If the kernel refuses the packet, a record follows that makes the message void.
@usableFromInline struct RecordReader: ~Copyable, Sendable {
  @usableFromInline var consumer = RingConsumer()
  /// What has come of a message in fragments.
  private var assembler = MessageAssembler()
  /// What has come of one while the port was with others, and is still to be read.
  private var part: ArrivingPart?
  /// What is left of the turn for which a loop reads here; `nil`: a thread of the program's reads.
  var allowance: TurnAllowance?
  /// What a loop has copied so far of a large message in one piece, which is still on the ring.
  private var copied: (bytes: OwnedBytes, filled: Int)?
  /// A packet has come, or may have before this end was here, and nobody has looked since whether a record announces it.
  var packetsMayWait = false

  init() {}

  init(_ consumer: consuming RingConsumer, _ assembler: MessageAssembler = MessageAssembler()) {
    self.consumer = consumer
    self.assembler = assembler
  }

  enum Prospect {
    /// The record that completes the next message. It is still on the ring, and its ports on the socket.
    case last(RingRecord)
    /// There is none now: nothing was posted, or the packet of ports that were announced has not come.
    case nothing
    /// So much has come that others have their turn first.
    case unfinished
    /// The same with doorbells.
    case doorbells
    /// It cannot be seen now, because the system lacks what it takes to map it. `nil`: it is only a matter of time.
    case blocked(SystemError?)
    case violation(String)
  }

  /// Goes on to the record that completes the next message. Takes the fragments before it, and nothing else.
  ///
  /// - Parameters:
  ///   - limit: for messages in fragments; a whole one is no longer than the ring allows.
  ///   - channel: whose socket the packets come through.
  mutating func seekLast(messageLimitBytes limit: Int, through channel: SharedChannel?) -> Prospect {
    var remaining = allowance ?? .ofThread
    defer { if allowance != nil { allowance = remaining } }
    if part != nil {
      switch readPart(&remaining) {
      case .complete: break
      case .incomplete: return .unfinished
      case .missing: return .violation("a part of a message that cannot be read")
      }
    }
    repeat {
      let step = consumer.next()
      remaining.spend(bytes: consumer.takeCostOfLinks())
      switch step {
      case .empty:
        guard packetsMayWait, let channel else { return .nothing }
        switch channel.front() {
        case .nothing:
          packetsMayWait = false
          return .nothing
        case .doorbells: return .doorbells
        case .short(let error): return .blocked(error)
        // The record is committed before the packet is sent: it would be there by now.
        case .packet: if consumer.isEmpty { return .violation("ports or descriptors that no message announces") }
        }
        remaining.spendLook()
      case .blocked(let error): return .blocked(error)
      case .violation(let what): return .violation(what)
      case .record(let record) where record.header.announcesPacket:
        switch Self.packet(of: record, in: consumer, through: channel) {
        case .here: return .last(record)
        case .awaited:
          packetsMayWait = false
          return .nothing
        case .doorbells: return .doorbells
        case .blocked(let error): return .blocked(error)
        case .violation(let what): return .violation(what)
        case .withdrawn: if !skipWithdrawn(record) { return .violation("a withdrawal that was taken back") }
        }
        remaining.spend(record)
      case .record(let record):
        if record.kind == .message || record.kind == .lastFragment { return .last(record) }
        remaining.spend(record)
        if case .violation(let what) = add(record, limit) { return .violation(what) }
      }
    } while !remaining.isSpent
    return .unfinished
  }

  /// More than so much of a message in one piece is copied in several turns.
  private static let pieceBytes = 1 << 20

  /// Copies more of the message that ``seekLast(messageLimitBytes:through:)`` found, if it is large and a loop reads here. `false`:
  /// others have their turn first. Takes nothing off the ring.
  mutating func copyPieces(of end: RingRecord) -> Bool {
    guard end.kind == .message, end.byteCount > Self.pieceBytes, var remaining = allowance else { return true }
    defer { allowance = remaining }
    // The peer may have changed the header since the last turn.
    if copied?.bytes.byteCount != end.byteCount { copied = OwnedBytes(byteCount: end.byteCount).map { ($0, 0) } }
    // Without memory for it, ``complete(_:messageLimitBytes:_:assembled:)`` says so.
    guard let bytes = copied?.bytes, var filled = copied?.filled else { return true }
    while filled < bytes.byteCount, !remaining.isSpent {
      let next = min(filled + Self.pieceBytes, bytes.byteCount)
      consumer.withPayload(of: end) { bytes.write($0.extracting(filled..<next), at: filled) }
      remaining.spend(bytes: next - filled)
      filled = next
    }
    copied = (bytes, filled)
    return filled == bytes.byteCount
  }

  private enum Reading { case complete, incomplete, missing }

  /// Reads what came with the port, as far as the allowance goes.
  private mutating func readPart(_ remaining: inout TurnAllowance) -> Reading {
    while var next = part, !next.isComplete {
      guard !remaining.isSpent else { return .incomplete }
      guard let count = next.read(upTo: Self.pieceBytes) else { return .missing }
      part = next
      remaining.spend(bytes: count)
    }
    if let whole = part.take() { assembler.resume(whole.bytes, filled: whole.filled) }
    return .complete
  }

  // MARK: Packets

  private enum Announced {
    case here
    /// It may still come, or the record that withdraws it.
    case awaited
    case withdrawn
    case doorbells
    case blocked(SystemError?)
    case violation(String)
  }

  private static func packet(
    of record: RingRecord, in consumer: borrowing RingConsumer, through channel: SharedChannel?
  ) -> Announced {
    guard record.cargo.ports <= MessagePort.maximumPortsPerMessage, record.cargo.fitsInPacket else {
      return .violation("\(record.cargo.ports) ports and \(record.cargo.descriptors) descriptors in one message")
    }
    guard let channel else { return .violation("ports in a local message") }
    let front = channel.front()
    // After the socket: whoever has sent a later packet had withdrawn this announcement before.
    switch (front, consumer.follower(of: record)) {
    case (_, .withdrawal): return .withdrawn
    case (.packet, _): return .here
    case (.doorbells, _): return .doorbells
    case (.short(let error), _): return .blocked(error)
    case (.nothing, .nothing): return .awaited
    case (.nothing, .other): break
    }
    // Something follows, so the packet was sent before this look at the socket, or never.
    switch channel.front() {
    case .packet: return .here
    case .doorbells: return .doorbells
    case .short(let error): return .blocked(error)
    case .nothing: return .violation("ports or descriptors announced and not sent")
    }
  }

  /// Goes past a message whose ports were withdrawn, and past the withdrawal. `false`: that was there, and is not now.
  private mutating func skipWithdrawn(_ record: RingRecord) -> Bool {
    skip(record)
    guard case .record(let withdrawal) = consumer.next(), withdrawal.header == .withdrawn else { return false }
    consumer.consume(withdrawal)
    return true
  }

  /// Notes whether packets wait, or may: then nobody sleeps before it is known what announces them.
  @discardableResult
  mutating func notePackets(through channel: SharedChannel) -> Bool {
    if case .nothing = channel.front() { return false }
    packetsMayWait = true
    return true
  }

  /// Whether there may be something to find.
  mutating func isWorthLooking(through channel: SharedChannel?) -> Bool {
    packetsMayWait || !Self.isIdle(&consumer, through: channel)
  }

  /// Whether the lane is empty, or all it has is a message whose packet has not come.
  private static func isIdle(_ consumer: inout RingConsumer, through channel: SharedChannel?) -> Bool {
    if consumer.isEmpty { return true }
    guard consumer.announcesPacket, case .record(let record) = consumer.next(),
      case .awaited = packet(of: record, in: consumer, through: channel)
    else { return false }
    return true
  }

  /// See `RingConsumer.prepareToSleep(_:if:)`.
  mutating func prepareToSleep(_ doorbell: UInt32, through channel: SharedChannel?) -> Bool {
    !packetsMayWait && consumer.prepareToSleep(doorbell) { Self.isIdle(&$0, through: channel) }
  }

  // MARK: Messages

  /// How long the message is that `end` completes.
  func byteCount(of end: RingRecord) -> Int {
    end.kind == .message ? end.byteCount : assembler.partial?.bytes.byteCount ?? 0
  }

  enum Completion<Result> {
    case message(Result)
    case violation(String)
    /// The message is over, and there was no memory for it.
    case refused
  }

  /// Takes the record that ``seekLast(messageLimitBytes:through:)`` found, and shows `body` the whole message.
  mutating func complete<Result>(
    _ end: RingRecord, messageLimitBytes limit: Int, _ body: (RawSpan) -> Result, assembled: (OwnedBytes) -> Result
  ) -> Completion<Result> {
    if end.kind == .message {
      if let whole = copied.take(), whole.filled == end.byteCount {
        consumer.consume(end)
        return .message(assembled(whole.bytes))
      }
      allowance?.spend(bytes: end.byteCount)
      let result = consumer.withPayload(of: end, body)
      consumer.consume(end)
      return .message(result)
    }
    allowance?.spend(end)
    switch add(end, limit) {
    case .complete(let bytes): return .message(assembled(bytes))
    case .refused: return .refused
    case .violation(let what): return .violation(what)
    case .incomplete: return .violation("a last fragment that ends nothing")
    }
  }

  private mutating func add(_ record: RingRecord, _ limit: Int) -> MessageAssembler.Progress {
    let progress = consumer.withPayload(of: record) { assembler.add(record.kind, $0, limitBytes: limit) }
    consumer.consume(record)
    return progress
  }

  /// Goes past the message that `end` completes; what was put together of it is forgotten.
  mutating func skip(_ end: RingRecord) {
    assembler = MessageAssembler()
    part = nil
    copied = nil
    consumer.consume(end)
  }

  /// What has come of a message in fragments: it moves with the port.
  mutating func partial() throws(PortError) -> (bytes: OwnedBytes, filled: Int)? {
    var all = TurnAllowance.ofThread
    // Only a file that somebody has tampered with lacks it.
    if part != nil, case .missing = readPart(&all) { throw .system(SystemError(call: "pread", errno: EIO)) }
    return assembler.partial
  }

  /// Goes on with what the previous owner of the port had of a message.
  mutating func resume(_ part: ArrivingPart) { self.part = part }

  /// Takes all of it away, for another owner; this one finds nothing any more.
  mutating func take() -> RecordReader {
    // Its next owner begins that message anew.
    copied = nil
    var taken = RecordReader()
    swap(&taken, &self)
    return taken
  }
}

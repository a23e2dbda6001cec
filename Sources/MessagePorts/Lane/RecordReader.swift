import SharedRing

/// Finds whole messages among a lane's records, for ports and for ``PortReader`` alike. One thread at a time.
@usableFromInline struct RecordReader: ~Copyable, Sendable {
  @usableFromInline var consumer = RingConsumer()
  /// What has come of a message in fragments.
  private var assembler = MessageAssembler()

  init() {}

  init(_ consumer: consuming RingConsumer, _ assembler: MessageAssembler = MessageAssembler()) {
    self.consumer = consumer
    self.assembler = assembler
  }

  /// How much is taken in a row that is no whole message, before others get their turn: more than the largest message
  /// has fragments. A malicious peer must not keep us here.
  private static let fragmentBudget = 1 << 18

  /// What a record takes of that. Correct peers write large fragments; a few thousand small ones, or aborts, have to do.
  private static func cost(of record: RingRecord) -> Int { record.byteCount < 1024 ? 64 : 1 }

  enum Prospect {
    /// The record that completes the next message. It is still on the ring, and so are the ports that it announces.
    case end(RingRecord)
    case nothing
    /// Fragments have come in such number that others have their turn first.
    case unfinished
    /// It cannot be seen now, because the system lacks what it takes to map it.
    case blocked(SystemError)
    case violation(String)
  }

  /// Goes on to the record that completes the next message. Takes the fragments before it, and nothing else.
  ///
  /// - Parameter limit: for messages in fragments; a whole one is no longer than the ring allows.
  mutating func seekEnd(messageLimitBytes limit: Int) -> Prospect {
    var budget = Self.fragmentBudget
    while budget > 0 {
      switch consumer.next() {
      case .empty: return .nothing
      case .blocked(let error): return .blocked(error)
      case .violation(let what): return .violation(what)
      case .record(let record):
        if record.kind == .message || record.kind == .lastFragment { return .end(record) }
        budget -= Self.cost(of: record)
        if case .violation(let what) = add(record, limit) { return .violation(what) }
      }
    }
    return .unfinished
  }

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

  /// Takes the record that ``seekEnd(messageLimitBytes:)`` found, and shows `body` the whole message.
  mutating func complete<Result>(
    _ end: RingRecord, messageLimitBytes limit: Int, _ body: (RawSpan) -> Result, assembled: (OwnedBytes) -> Result
  ) -> Completion<Result> {
    if end.kind == .message {
      let result = consumer.withPayload(of: end, body)
      consumer.consume(end)
      return .message(result)
    }
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
    consumer.consume(end)
  }

  /// What has come of a message in fragments: it moves with the port.
  var partial: (bytes: OwnedBytes, filled: Int)? { assembler.partial }

  /// Goes on with what the previous owner of the port had assembled.
  mutating func resume(_ bytes: OwnedBytes, filled: Int) { assembler.resume(bytes, filled: filled) }

  /// Takes all of it away, for another owner; this one finds nothing any more.
  mutating func take() -> RecordReader {
    var taken = RecordReader()
    swap(&taken, &self)
    return taken
  }
}

import SharedRing

/// Elements that another process sends, as an asynchronous sequence: what ``Connection/stream(_:_:of:transfer:)`` returns, and
/// what the handler of a stream of questions is given.
///
/// Its end is one of three: it finishes, or throws what the writer has thrown (as the outcome of a request: see
/// ``Connection/request(_:_:as:transfer:descriptors:buffers:timeout:)``), or throws ``PortError/peerClosed(_:)`` if the writer's process has
/// ended, or let go of the stream. What was sent before is delivered first. An element that cannot be decoded throws
/// ``PortError/decodingFailed(_:)``, and what no writer sends throws it, too; the stream is over then.
///
/// Whoever leaves the loop, or whose task is cancelled (then the loop throws ``PortError/cancelled``), ends the stream for the
/// writer as well.
///
/// Thread safety: a value that may be passed to any task. Each iteration of a stream that was asked for asks again; a stream
/// that was received can be iterated once, and has nothing the second time.
public struct MessageStream<Element: Decodable & SendableMetatype>: AsyncSequence, Sendable {
  public typealias Failure = any Error
  private let open: @Sendable () throws -> StreamReading?

  init(_ open: @escaping @Sendable () throws -> StreamReading?) { self.open = open }

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(open) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    private enum State {
      case unopened(@Sendable () throws -> StreamReading?)
      case reading(StreamReading, StreamParts)
      case over
    }
    private var state: State

    fileprivate init(_ open: @escaping @Sendable () throws -> StreamReading?) { state = .unopened(open) }

    public mutating func next() async throws -> Element? { try await next(isolation: nil) }

    public mutating func next(isolation actor: isolated (any Actor)?) async throws -> Element? {
      try await nextEvent(isolation: actor)?.element
    }

    fileprivate mutating func nextEvent(isolation actor: isolated (any Actor)?) async throws -> StreamEvent<Element>? {
      do {
        if case .unopened(let open) = state {
          state = .over
          guard let reading = try open() else { return nil }
          state = .reading(reading, StreamParts(limitBytes: reading.messageLimitBytes))
        }
        guard case .reading(let reading, var parts) = state else { return nil }
        // Theirs is the only copy, so that nothing is copied when parts are added.
        state = .over
        let event: StreamEvent<Element>? = try await reading.next(&parts)
        if event != nil { state = .reading(reading, parts) } else { reading.finish() }
        return event
      } catch {
        state = .over
        throw error
      }
    }
  }
}

extension MessageStream {
  /// The elements, with the ports, descriptors and buffers that came along with each. Whoever iterates the stream itself has those
  /// closed.
  ///
  /// ```swift
  /// func readers(of names: [String], from server: Connection) async throws -> [Descriptor] {
  ///   var files: [Descriptor] = []
  ///   for try await event in server.stream("open", names, of: String.self).events { files += event.descriptors }
  ///   return files
  /// }
  /// ```
  ///
  /// Otherwise as the stream, of which it is an iteration.
  public var events: StreamEvents<Element> { StreamEvents(stream: self) }
}

/// See ``MessageStream/events``.
public struct StreamEvents<Value: Decodable & SendableMetatype>: AsyncSequence, Sendable {
  public typealias Element = StreamEvent<Value>
  public typealias Failure = any Error
  fileprivate let stream: MessageStream<Value>

  public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(elements: stream.makeAsyncIterator()) }

  public struct AsyncIterator: AsyncIteratorProtocol {
    fileprivate var elements: MessageStream<Value>.AsyncIterator

    public mutating func next() async throws -> StreamEvent<Value>? { try await next(isolation: nil) }

    public mutating func next(isolation actor: isolated (any Actor)?) async throws -> StreamEvent<Value>? {
      try await elements.nextEvent(isolation: actor)
    }
  }
}

/// One iteration of a stream. Whoever lets go of it has left, unless the stream had ended.
final class StreamReading: Sendable {
  private let port: MessagePort
  /// Keeps the connection open.
  private let connection: Connection
  /// What comes of the request that has asked for the stream; `nil` on the other side.
  private let outcome: Task<Void, any Error>?
  /// Sends the questions.
  private let asking: Task<Void, Never>?
  private let hasFinished = Lock(false)

  init(_ port: MessagePort, over connection: Connection, outcome: Task<Void, any Error>?, asking: Task<Void, Never>?) {
    (self.port, self.connection, self.outcome, self.asking) = (port, connection, outcome, asking)
  }

  deinit {
    // A handler that has said all it had to say may go on with something else.
    if !hasFinished.withLock({ $0 }) { leave() }
  }

  var messageLimitBytes: Int { connection.port.core.options.messageLimitBytes }

  /// The last element was read.
  func finish() {
    hasFinished.withLock { $0 = true }
    asking?.cancel()
    if outcome != nil { port.close() }
  }

  private func leave() {
    outcome?.cancel()
    asking?.cancel()
    // On the other side, it is the writer's as well.
    if outcome != nil { port.close() }
  }

  nonisolated(nonsending) func next<Element: Decodable>(
    _ parts: inout StreamParts
  ) async throws -> StreamEvent<Element>? {
    while true {
      if Task.isCancelled { return try stop(with: PortError.cancelled) }
      guard let event = try await port.core.nextMessage(for: port) else { return try await end() }
      crashPoint(.elementTaken)
      guard let record = StreamRecord.open(event) else { return try stop(with: Self.malformed) }
      switch record.kind {
      case .element: return StreamEvent(try record.body.value(Element.self), record.body.cargo)
      case .part: if !parts.add(record) { return try stop(with: Self.malformed) }
      case .lastPart:
        if !parts.add(record) { return try stop(with: Self.malformed) }
        let bytes = parts.take(record.element)
        let element: Element
        do { element = unsafe try MessageCoders.decode(Element.self, from: bytes.span.bytes) } catch {
          throw PortError.decodingFailed(error)
        }
        return StreamEvent(element, record.body.cargo)
      case .end: return nil
      case .failure: return try stop(with: RequestFailure.error(from: record.body))
      }
    }
  }

  private static var malformed: PortError { .decodingFailed(NamedEnvelope.Malformed()) }

  private func stop<Element>(with error: any Error) throws -> Element? {
    leave()
    throw error
  }

  /// No record says how the stream ended: the channel's end does, or what became of the request.
  nonisolated(nonsending) private func end<Element>() async throws -> Element? {
    if Task.isCancelled { return try stop(with: PortError.cancelled) }
    var reason = PortError.closed
    if case .closed(let why) = try? port.tryReceive() { reason = .peerClosed(why) }
    guard let outcome else { throw reason }
    try await withTaskCancellationHandler {
      try await outcome.value
    } onCancel: {
      outcome.cancel()
    }
    return nil
  }
}

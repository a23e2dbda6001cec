import SharedRing

// Questions with any number of answers. A stream is a request that carries a port, on which the answers come; the request's
// own outcome says how it ended.

extension Connection {
  /// Asks for a stream.
  ///
  /// ```swift
  /// func show(_ connection: Connection) async throws {
  ///   for try await line in connection.stream("lines", "Cargo.toml", of: String.self) { print(line) }
  /// }
  /// ```
  ///
  /// The request is sent when the iteration begins, and counts as one, until the stream has ended. Each stream is a
  /// channel, so that one whose reader lags does not hold up others; between processes it takes two descriptors in each.
  /// For how it ends, see ``MessageStream``. The iteration keeps the connection open.
  ///
  /// - Parameters:
  ///   - name: says which handler sends the elements; see ``onStream(_:of:_:)``.
  ///   - question: encoded when the iteration begins.
  ///   - type: of the elements.
  ///   - ports: move with the question; so such a stream can be iterated once.
  public func stream<Question: Encodable & Sendable, Element: Decodable & SendableMetatype>(
    _ name: String, _ question: Question, of type: Element.Type, transfer ports: [MessagePort] = []
  ) -> MessageStream<Element> {
    MessageStream {
      try self.openStream(name, MessageCoders.encode(question), ports) { _ in nil }
    }
  }

  /// As ``stream(_:_:of:transfer:)``, for a question that is its name.
  public func stream<Element: Decodable & SendableMetatype>(
    _ name: String, of type: Element.Type, transfer ports: [MessagePort] = []
  ) -> MessageStream<Element> {
    MessageStream { try self.openStream(name, [], ports) { _ in nil } }
  }

  /// Sends a stream of questions, and asks for one of answers; see ``onStream(_:ofEach:_:)``.
  ///
  /// The questions are sent from a task of their own, which ends with the stream of answers. If `questions` throws, the
  /// other side's stream of them does.
  public func stream<Questions: AsyncSequence & Sendable, Element: Decodable & SendableMetatype>(
    _ name: String, sending questions: Questions, of type: Element.Type, transfer ports: [MessagePort] = []
  ) -> MessageStream<Element> where Questions.Element: Encodable & Sendable {
    MessageStream {
      try self.openStream(name, [], ports) { port in
        let writer = StreamWriter(port, nil)
        return Task {
          do {
            for try await question in questions { try await writer.send(question) }
            await writer.finishSaying()
          } catch {
            await writer.fail(error)
          }
        }
      }
    }
  }

  private func openStream(
    _ name: String, _ question: [UInt8], _ ports: [MessagePort], asking: (MessagePort) -> Task<Void, Never>?
  ) throws(PortError) -> StreamReading {
    var options = port.core.options
    options.queueLimitBytes = min(options.queueLimitBytes ?? .max, StreamRecord.windowBytes)
    let channel = try MessageChannel(options: options, loop: eventLoop)
    // At once, so that streams are asked for in the order in which their iterations begin.
    let outcome = Task.immediate(executorPreference: eventLoop) {
      _ = try await self.request(name, bytes: question, transfer: [channel.port2] + ports)
    }
    return StreamReading(channel.port1, over: self, outcome: outcome, asking: asking(channel.port1))
  }

  /// Lets `handler` send the elements of the streams with this name that the other side asks for. Starts the connection.
  ///
  /// ```swift
  /// func count(over connection: Connection) {
  ///   connection.onStream("numbers", of: Int.self) { limit, writer in
  ///     for number in 0..<limit { try await writer.send(number) }
  ///   }
  /// }
  /// ```
  ///
  /// The stream finishes when `handler` returns, or has called ``StreamWriter/finish()``; what it throws, the reader is
  /// told after the last element. Otherwise, the handler of a stream is one of a request: see ``onRequest(_:of:_:)``,
  /// also for where it runs and when it is cancelled. Streams and requests have their names in common.
  public func onStream<Question: Decodable & SendableMetatype>(
    _ name: String, of type: Question.Type,
    _ handler: @escaping @Sendable (Question, StreamWriter) async throws -> Void
  ) {
    setRequestHandler(name, Self.writing(type, handler))
  }

  /// As ``onStream(_:of:_:)``, for a stream of questions: see ``stream(_:sending:of:transfer:)``.
  ///
  /// The questions may be left unread: whoever sends them hears of it when the handler returns.
  public func onStream<Question: Decodable & SendableMetatype>(
    _ name: String, ofEach type: Question.Type,
    _ handler: @escaping @Sendable (MessageStream<Question>, StreamWriter) async throws -> Void
  ) {
    setRequestHandler(name, Self.writing(each: type, handler))
  }

  fileprivate static func writing<Question: Decodable & SendableMetatype>(
    _ type: Question.Type, _ handler: @escaping @Sendable (Question, StreamWriter) async throws -> Void
  ) -> RequestHandler {
    { context in
      try await write(context) { writer, _ in try await handler(try context.message.value(Question.self), writer) }
    }
  }

  fileprivate static func writing<Question: Decodable & SendableMetatype>(
    each type: Question.Type,
    _ handler: @escaping @Sendable (MessageStream<Question>, StreamWriter) async throws -> Void
  ) -> RequestHandler {
    { context in
      try await write(context) { writer, port in
        // The one iteration.
        let reading = Lock<StreamReading?>(
          StreamReading(port, over: context.connection, outcome: nil, asking: nil))
        try await handler(MessageStream { reading.withLock { $0.take() } }, writer)
      }
    }
  }

  private static func write(
    _ context: RequestContext, _ handler: (StreamWriter, MessagePort) async throws -> Void
  ) async throws -> [UInt8] {
    // Who asks has made the channel, and must not choose how much is written before the writer waits.
    guard let port = context.ports.first, let limit = port.core.options.queueLimitBytes,
      limit <= StreamRecord.windowBytes
    else { throw RequestViolation(description: "a request for a stream without the port for it") }
    let writer = StreamWriter(port, context.withoutFirstPort)
    defer { writer.close() }
    try await handler(writer, port)
    await writer.finishSaying()
    return []
  }
}

extension Connection.Registration {
  /// See ``Connection/onStream(_:of:_:)``.
  public mutating func onStream<Question: Decodable & SendableMetatype>(
    _ name: String, of type: Question.Type,
    _ handler: @escaping @Sendable (Question, StreamWriter) async throws -> Void
  ) {
    requests[name] = Connection.writing(type, handler)
  }

  /// See ``Connection/onStream(_:ofEach:_:)``.
  public mutating func onStream<Question: Decodable & SendableMetatype>(
    _ name: String, ofEach type: Question.Type,
    _ handler: @escaping @Sendable (MessageStream<Question>, StreamWriter) async throws -> Void
  ) {
    requests[name] = Connection.writing(each: type, handler)
  }
}

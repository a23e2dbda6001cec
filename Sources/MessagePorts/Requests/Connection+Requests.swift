// Questions with one answer each.

extension Connection {
  /// Asks the other side, and waits for the answer.
  ///
  /// ```swift
  /// func price(of item: String, from shop: Connection) async throws -> Int {
  ///   try await shop.request("price", item, as: Int.self, timeout: .seconds(5))
  /// }
  /// ```
  ///
  /// Any number of requests may be under way at once, in both directions; they are answered in any order. They get there
  /// in order, also with regard to messages. A full queue (``ChannelOptions/queueLimitBytes``) is waited for. So are
  /// others if more than 65,536 requests, or 256 MiB of questions, are unanswered in this direction.
  ///
  /// Starts the connection, if nothing has yet, so that the answer can be heard: messages whose names have no handler are
  /// dropped from then on. A connection that is started by nothing else is not kept alive by the library; the call keeps it
  /// as long as it waits.
  ///
  /// - Parameters:
  ///   - name: says which handler answers.
  ///   - question: encoded with ``MessageCoders/current``.
  ///   - type: of the answer. What else comes with it closes: to have them, use ``request(_:_:transfer:descriptors:buffers:timeout:)``.
  ///   - ports: move with the question, once it is posted.
  ///   - descriptors: likewise.
  ///   - buffers: likewise.
  ///   - timeout: how long to wait in all; `nil`: as long as it takes.
  /// - Throws: what the handler has thrown, as a ``RemoteError`` or, if its type is registered, as itself;
  ///   ``RequestError/noHandler(name:)``; ``PortError/peerClosed(_:)`` or ``PortError/closed`` if the connection ends first;
  ///   ``PortError/cancelled`` or ``PortError/timedOut``: then the handler's task is cancelled, and what it still
  ///   answers is discarded; ``PortError/decodingFailed(_:)`` for an answer of another type. What a post throws: then
  ///   nothing was sent, and what was listed is still the caller's.
  ///
  /// Suspends, and never blocks the thread. Whoever waits on the connection's loop goes on without a switch of threads.
  nonisolated(nonsending) public func request<Question: Encodable, Reply: Decodable>(
    _ name: String, _ question: Question, as type: Reply.Type, transfer ports: [MessagePort] = [],
    descriptors: [Descriptor] = [], buffers: [MessageBuffer] = [], timeout: Duration? = nil
  ) async throws -> Reply {
    try await request(name, question, transfer: ports, descriptors: descriptors, buffers: buffers, timeout: timeout)
      .value(type)
  }

  /// As ``request(_:_:as:transfer:descriptors:buffers:timeout:)``, for a question that is its name.
  nonisolated(nonsending) public func request<Reply: Decodable>(
    _ name: String, as type: Reply.Type, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer] = [], timeout: Duration? = nil
  ) async throws -> Reply {
    try await request(name, bytes: [], transfer: ports, descriptors: descriptors, buffers: buffers, timeout: timeout)
      .value(type)
  }

  /// As ``request(_:_:as:transfer:descriptors:buffers:timeout:)``; returns the answer as it came: its bytes, and what came with it.
  nonisolated(nonsending) public func request<Question: Encodable>(
    _ name: String, _ question: Question, transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer] = [], timeout: Duration? = nil
  ) async throws -> MessageEvent {
    try await request(
      name, bytes: MessageCoders.encode(question), transfer: ports, descriptors: descriptors, buffers: buffers,
      timeout: timeout)
  }

  /// As ``request(_:_:as:transfer:descriptors:buffers:timeout:)``, with bytes in both directions.
  nonisolated(nonsending) public func request(
    _ name: String, bytes: [UInt8], transfer ports: [MessagePort] = [], descriptors: [Descriptor] = [],
    buffers: [MessageBuffer] = [], timeout: Duration? = nil
  ) async throws -> MessageEvent {
    try await requests.ask(
      name, bytes, .of(ports, Freight(descriptors: descriptors, buffers: buffers)), timeout: timeout, over: self)
  }

  /// Lets `handler` answer the requests with this name, instead of the handler it had. Starts the connection.
  ///
  /// ```swift
  /// func sell(_ prices: [String: Int], over connection: Connection) {
  ///   connection.onRequest("price", of: String.self) { item, _ in prices[item] ?? 0 }
  /// }
  /// ```
  ///
  /// Each request has a task of its own, so that handlers do not wait for one another. It begins on the connection's event
  /// loop, in the order of sending, and has the loop as its preferred executor. Until it suspends, the loop does nothing
  /// else: work that takes long belongs elsewhere, and a handler that calls a method of an actor, or is isolated to one,
  /// is there while it runs. The task is cancelled when the asker is, or its time is up, and when the connection ends.
  ///
  /// What `handler` throws is the outcome; so is a question that is no `Question`, or a reply that cannot be sent. A reply
  /// for which there is no room waits. Requests without a handler are answered with ``RequestError/noHandler(name:)``,
  /// once the connection is started.
  ///
  /// Requests have names of their own: a message with this name is not given to `handler`.
  public func onRequest<Question: Decodable & SendableMetatype, Reply: Encodable & SendableMetatype>(
    _ name: String, of type: Question.Type,
    _ handler: @escaping @Sendable (Question, RequestContext) async throws -> Reply
  ) {
    setRequestHandler(name, Self.answering(type, handler))
  }

  /// As ``onRequest(_:of:_:)``, for a question that is its name.
  public func onRequest<Reply: Encodable & SendableMetatype>(
    _ name: String, _ handler: @escaping @Sendable (RequestContext) async throws -> Reply
  ) {
    setRequestHandler(name, Self.answering(handler))
  }

  /// As ``onRequest(_:of:_:)``, with bytes in both directions: the question's are the context's.
  public func onRequest(bytes name: String, _ handler: @escaping @Sendable (RequestContext) async throws -> [UInt8]) {
    setRequestHandler(name, handler)
  }

  /// Takes the name's request handler away. Those that run go on.
  public func removeRequestHandler(_ name: String) {
    let old = namedHandlers?.table.withLock { $0.requests.removeValue(forKey: name) }
    _ = consume old
  }

  /// How many handlers of requests may run at once for this connection; at least 1, and 4,096 unless set.
  ///
  /// Further requests wait, in order, and begin as others are answered; nobody is refused. Messages and answers behind them
  /// do not wait. Handlers that ask the other side, which asks this one in turn, need a limit that leaves room for that.
  public var maximumConcurrentRequests: Int {
    get { requests.state.withLock { $0.served.limit } }
    set { requests.setLimit(max(1, newValue)) }
  }

  static let defaultMaximumConcurrentRequests = 4096

  func setRequestHandler(_ name: String, _ handler: @escaping RequestHandler) {
    set { $0.requests.updateValue(handler, forKey: name) }
  }

  fileprivate static func answering<Question: Decodable & SendableMetatype, Reply: Encodable & SendableMetatype>(
    _ type: Question.Type, _ handler: @escaping @Sendable (Question, RequestContext) async throws -> Reply
  ) -> RequestHandler {
    { context in try MessageCoders.encode(await handler(try context.message.value(Question.self), context)) }
  }

  fileprivate static func answering<Reply: Encodable & SendableMetatype>(
    _ handler: @escaping @Sendable (RequestContext) async throws -> Reply
  ) -> RequestHandler {
    { context in try MessageCoders.encode(await handler(context)) }
  }
}

extension Connection.Registration {
  /// See ``Connection/onRequest(_:of:_:)``.
  public mutating func onRequest<Question: Decodable & SendableMetatype, Reply: Encodable & SendableMetatype>(
    _ name: String, of type: Question.Type,
    _ handler: @escaping @Sendable (Question, RequestContext) async throws -> Reply
  ) {
    requests[name] = Connection.answering(type, handler)
  }

  /// See ``Connection/onRequest(_:_:)``.
  public mutating func onRequest<Reply: Encodable & SendableMetatype>(
    _ name: String, _ handler: @escaping @Sendable (RequestContext) async throws -> Reply
  ) {
    requests[name] = Connection.answering(handler)
  }

  /// See ``Connection/onRequest(bytes:_:)``.
  public mutating func onRequest(
    bytes name: String, _ handler: @escaping @Sendable (RequestContext) async throws -> [UInt8]
  ) { requests[name] = handler }
}

extension MessagePort {
  /// The port's messages as an asynchronous sequence of batches: whatever has come by the time the next one is asked for, in
  /// order. Each step of a sequence costs more than the messages it brings, so where many come at once, this is several
  /// times as fast as ``messages``; where they come one by one, a batch is one message, and it comes as promptly.
  ///
  /// ```swift
  /// func sum(of port: MessagePort) async throws -> Int {
  ///   var sum = 0
  ///   for try await batch in port.messageBatches {
  ///     for event in batch { sum += try event.load(as: Int.self) }
  ///   }
  ///   return sum
  /// }
  /// ```
  ///
  /// A batch has at least one message, at most 64, and ends with the one that brings it to 256 KiB. What is in a batch is the
  /// task's, whatever becomes of the port; what is not stays queued. Otherwise as ``messages``, and shares with it.
  public var messageBatches: MessageBatches { MessageBatches(port: self) }

  /// See ``MessagePort/messageBatches``.
  public struct MessageBatches: AsyncSequence, Sendable {
    public typealias Element = [MessageEvent]
    public typealias Failure = PortError
    fileprivate let port: MessagePort

    public struct AsyncIterator: AsyncIteratorProtocol {
      fileprivate let port: MessagePort

      public mutating func next() async throws(PortError) -> [MessageEvent]? { try await next(isolation: nil) }

      public mutating func next(isolation actor: isolated (any Actor)?) async throws(PortError) -> [MessageEvent]? {
        try await port.core.nextBatch(for: port)
      }
    }

    public func makeAsyncIterator() -> AsyncIterator {
      port.start()
      return AsyncIterator(port: port)
    }
  }
}

extension PortCore {
  /// A peer chooses how much comes at once, and not how much of it is here.
  private static let mostInBatch = 64
  private static let enoughBytesInBatch = 256 << 10

  /// What has come, at least one message; `nil`: there will be none.
  nonisolated(nonsending) fileprivate func nextBatch(for port: MessagePort) async throws(PortError) -> [MessageEvent]? {
    guard let first = try await nextMessage(for: port) else { return nil }
    var batch = [first]
    var byteCount = first.byteCount
    while batch.count < Self.mostInBatch, byteCount < Self.enoughBytesInBatch {
      var event = MessageEvent()
      // What is wrong now, or over, is so the next time as well, when the batch has been handed over.
      guard case .message? = try? tryReceive(into: &event) else { break }
      byteCount += event.byteCount
      batch.append(event)
    }
    return batch
  }
}

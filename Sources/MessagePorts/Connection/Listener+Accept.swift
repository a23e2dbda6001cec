extension Listener {
  /// The connections, as they come. Each goes to one taker; those that nobody takes wait.
  ///
  /// The sequence keeps its listener, so that it can be iterated without another reference to that. It ends when the
  /// listener is closed, after those that were accepted, or when the iterating task is cancelled: then the clients that
  /// wait, and those that come, are the next iteration's.
  public var connections: Connections { Connections(listener: self) }

  /// Waits for the next connection.
  ///
  /// - Parameter timeout: how long; `nil`: for ever.
  /// - Throws: ``ConnectionError/timedOut``, ``ConnectionError/cancelled`` or ``ConnectionError/listenerClosed``. No
  ///   client is lost by it: whoever comes later is given to the next call.
  ///
  /// Thread safety: any number of tasks may wait; each connection goes to one. Suspends, and blocks no thread.
  public func accept(timeout: Duration? = nil) async throws(ConnectionError) -> Connection {
    switch await welcomed.next(timeout: timeout) {
    case .connection(let connection): return connection
    case .finished: throw .listenerClosed
    case .timedOut: throw .timedOut
    case .cancelled: throw .cancelled
    }
  }

  /// See ``Listener/connections``.
  public struct Connections: AsyncSequence, Sendable {
    public typealias Element = Connection
    public typealias Failure = Never
    fileprivate let listener: Listener

    public func makeAsyncIterator() -> Iterator { Iterator(listener: listener) }

    /// Takes the clients one by one; several iterators share them.
    public struct Iterator: AsyncIteratorProtocol {
      fileprivate let listener: Listener

      public mutating func next() async -> Connection? {
        guard case .connection(let connection) = await listener.welcomed.next(timeout: nil) else { return nil }
        return connection
      }

      public mutating func next(isolation actor: isolated (any Actor)?) async -> Connection? {
        guard case .connection(let connection) = await listener.welcomed.next(timeout: nil) else { return nil }
        return connection
      }
    }
  }
}

extension MessagePort {
  /// The port's messages as an asynchronous sequence. Iterating it starts the port. It finishes once the other end is
  /// closed and everything was received, or when this port is closed or transferred.
  public struct Messages: AsyncSequence, Sendable {
    public typealias Element = MessageEvent
    public typealias Failure = PortError
    fileprivate let port: MessagePort

    public struct AsyncIterator: AsyncIteratorProtocol {
      @usableFromInline let port: MessagePort

      fileprivate init(port: MessagePort) { self.port = port }

      @inlinable
      public mutating func next() async throws(PortError) -> MessageEvent? { try await next(isolation: nil) }

      // Inlined: a call of an asynchronous function, and the way back to where the caller is, take several times as long as
      // to take a message that is there.
      @inlinable @inline(__always)
      public mutating func next(isolation actor: isolated (any Actor)?) async throws(PortError) -> MessageEvent? {
        if let event = port.messageAtOnce() { return event }
        return try await port.messageInTime()
      }
    }

    public func makeAsyncIterator() -> AsyncIterator {
      port.start()
      return AsyncIterator(port: port)
    }
  }

  /// See ``Messages``. Several iterations share the messages: each message goes to one of them.
  public var messages: Messages { Messages(port: self) }
}

extension MessagePort {
  /// The next message, if it is there, and nobody has to be told of it.
  @usableFromInline
  func messageAtOnce() -> MessageEvent? {
    var event = MessageEvent()
    return core.takePlain(into: &event) ? event : nil
  }

  @usableFromInline
  nonisolated(nonsending) func messageInTime() async throws(PortError) -> MessageEvent? {
    try await core.nextMessage(for: self)
  }
}

extension PortCore {
  /// The next message, when it comes. `nil`: there will be none.
  ///
  /// Where the caller is: to switch executors takes longer than to take a message that is there.
  nonisolated(nonsending) func nextMessage(for port: MessagePort) async throws(PortError) -> MessageEvent? {
    var event = MessageEvent()
    do throws(PortError) {
      switch try tryReceive(into: &event) {
      case .message: return event
      case .closed: return nil
      case .empty: return await waitForMessage()
      }
    } catch {
      switch error {
      case .closed, .detached: return nil
      // What the system lacks for the next message, it may have later: the port's turn tries again.
      case .system: return await waitForMessage()
      default: throw error
      }
    }
  }

  nonisolated(nonsending) private func waitForMessage() async -> MessageEvent? {
    let id = WaiterID.next()
    return await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let mayWait = incoming.state.withLock { lane in
          guard lane.receiving.receiver.core === self, !Task.isCancelled else { return false }
          if case .delivered = lane.receiving.receiver.outlook { return false }
          lane.receiving.receiver.addWaiter(MessageWaiter(id: id, resumption: resumption))
          return true
        }
        guard mayWait else { return resumption.resume(nil) }
        watchIfShared()
        // The port's turn finds out whether something has come meanwhile.
        loop.schedule(self)
      }
    } onCancel: {
      let (waiter, rung) = incoming.state.withLock { lane in
        (lane.receiving.receiver.removeWaiter(id), lane.receiving.leaveDoorbellToThreads())
      }
      rung?.ring()
      waiter?.resumption.resume(nil)
    }
  }
}

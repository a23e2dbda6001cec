// Waiting for the other end to leave.

extension MessagePort {
  /// Waits until the other end is closed or gone, and everything that it had posted was received: says what ``onClose`` is told,
  /// at the same moment, any number of times, to any number of tasks.
  ///
  /// ```swift
  /// func serve(_ port: MessagePort) async throws -> CloseReason {
  ///   port.on { event, port in try? port.postMessage(bytes: event.bytes) }
  ///   return try await port.untilClosed()
  /// }
  /// ```
  ///
  /// Keeps the port alive while it waits. Does not start it: if messages wait that nobody takes, it waits for that, too.
  ///
  /// - Throws: ``PortError/closed`` or ``PortError/detached`` if this end leaves first, or has; ``PortError/cancelled`` if the
  ///   task is cancelled.
  public func untilClosed() async throws(PortError) -> CloseReason {
    let result = await core.end()
    return try withExtendedLifetime(self) { () throws(PortError) in try result.get() }
  }
}

extension Connection {
  /// Waits until the other process has ended or disconnected, and everything that it had posted was received; see
  /// ``MessagePort/untilClosed()``.
  ///
  /// Is all that the main function of a worker waits for, once it has set its handlers:
  ///
  /// ```swift
  /// func work() async throws {
  ///   let parent = try Connection.parent
  ///   parent.on("question") { event in try? event.connection.postMessage("answer", bytes: event.bytes) }
  ///   _ = try await parent.untilClosed()
  /// }
  /// ```
  public func untilClosed() async throws(PortError) -> CloseReason {
    let result = await port.core.end()
    return try withExtendedLifetime(self) { () throws(PortError) in try result.get() }
  }
}

extension PortCore {
  fileprivate func end() async -> Result<CloseReason, PortError> {
    let id = WaiterID.next()
    return await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let known = incoming.state.withLock { lane -> Result<CloseReason, PortError>? in
          guard lane.receiving.receiver.core === self else {
            return .failure(lifecycle.state == .closed ? .closed : .detached)
          }
          if case .delivered(let reason) = lane.receiving.receiver.outlook { return .success(reason) }
          // The handler below may have run before there was anybody to give up.
          if Task.isCancelled { return .failure(.cancelled) }
          lane.receiving.receiver.endWaiters.append(EndWaiter(id: id, resumption: resumption))
          return nil
        }
        if let known { return resumption.resume(known) }
        watchIfShared()
        // The port's turn finds out whether it has come already.
        loop.schedule(self)
      }
    } onCancel: {
      let waiter = incoming.state.withLock { lane -> EndWaiter? in
        let waiters = lane.receiving.receiver.endWaiters
        return waiters.firstIndex { $0.id == id }.map { lane.receiving.receiver.endWaiters.remove(at: $0) }
      }
      waiter?.resumption.resume(.failure(.cancelled))
    }
  }
}

import SharedRing

extension PortCore {
  /// Changes handlers or the started state; wakes the loop if there may be something to deliver now.
  ///
  /// - Parameter owner: the object that the library keeps alive as long as the port is started and has a handler.
  func configure(_ owner: any AnyObject & Sendable, _ change: (inout Receiver) -> Void) {
    let after = incoming.state.withLock { lane -> AfterLock in
      var after = update(&lane.receiving.receiver, owner, change)
      after.rung = lane.receiving.leaveDoorbellToThreads()
      return after
    }
    if after.scheduled != nil { watchIfShared() }
    after.perform()
  }

  private func update(
    _ receiver: inout Receiver, _ owner: any AnyObject & Sendable, _ change: (inout Receiver) -> Void
  ) -> AfterLock {
    // After a transfer within the process, the lane belongs to another port.
    guard receiver.core === self else { return .none }
    let before = receiver.handlers
    change(&receiver)
    receiver.configuration &+= 1
    var after = AfterLock.none
    after.scheduled = receiver.schedule()
    after.release(before)
    // Nothing will ever be delivered: release what the handlers hold, which may be the port itself.
    if case .delivered = receiver.outlook {
      after.release(receiver.handlers)
      receiver.handlers = PortHandlers()
    }
    if !receiver.shouldBeRetained {
      after.release(receiver.retained.take())
    } else if receiver.retained == nil {
      receiver.retained = KeptPort(self, of: owner, on: loop)
    }
    return after
  }

  /// Changes the receiver of the lane on which this end receives. It may be another port's by now.
  func withReceiver<Result>(_ change: (inout Receiver) -> sending Result) -> sending Result {
    incoming.state.withLock { change(&$0.receiving.receiver) }
  }
}

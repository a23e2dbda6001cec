import SharedRing
import Synchronization

extension PortCore {
  /// Changes handlers or the started state; wakes the loop if there may be something to deliver now.
  ///
  /// - Parameter owner: the object that the library keeps alive as long as the port is started and has a handler.
  func configure(_ owner: any AnyObject & Sendable, _ change: (inout Receiver) -> Void) {
    let after = incoming.state.withLock { lane -> AfterLock in
      defer { lane.receiving.leaveDoorbellToThreads() }
      return update(&lane.receiving.receiver, owner, change)
    }
    if after.scheduled != nil { watchIfShared() }
    after.perform()
  }

  private func update(
    _ receiver: inout Receiver, _ owner: any AnyObject & Sendable, _ change: (inout Receiver) -> Void
  ) -> AfterLock {
    // After a transfer within the process, the lane is another port's.
    guard receiver.core === self else { return .none }
    let before = receiver.handlers
    change(&receiver)
    receiver.configuration &+= 1
    var after = receiver.notify()
    after.parker = nil
    after.release(before)
    // Nothing will ever be delivered: what the handlers hold (the port itself, say) is not to be held for that.
    if case .delivered = receiver.end {
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

  /// What `change` does to the receiver of the lane on which this end receives. It may be another port's by now.
  func withReceiver<Result>(_ change: (inout Receiver) -> sending Result) -> sending Result {
    incoming.state.withLock { change(&$0.receiving.receiver) }
  }
}

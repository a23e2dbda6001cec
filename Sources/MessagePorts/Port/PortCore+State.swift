// What a port says of itself.

extension PortCore {
  /// What `look` sees on the receiving lane, as long as the lane is this port's: a transfer within the process makes it
  /// another port's.
  func ifUsable<Result>(_ look: (inout LaneState) -> sending Result) -> Result? {
    incoming.state.withLock { lane in
      switch lifecycle.state {
      case .open, .departing: look(&lane)
      case .closed, .detached: nil
      }
    }
  }

  var isPeerClosed: Bool {
    guard
      let (isKnown, channel) = ifUsable({ ($0.receiving.receiver.peerClosed != nil, $0.receiving.transport.channel) })
    else {
      return false
    }
    if isKnown { return true }
    guard channel?.isHungUp == true else { return false }
    // Whoever receives by hand has to hear it as well, whether or not the loop has.
    peerHungUp()
    return true
  }

  /// Why the other end is gone, as far as can be told without a system call: a close of its owner's can, a death only once
  /// the loop has heard of it.
  var knownPeerClose: CloseReason? {
    ifUsable { lane -> CloseReason? in
      if let reason = lane.receiving.receiver.peerClosed { return reason }
      guard lane.receiving.records.consumer.isAttached else { return nil }
      return lane.receiving.records.consumer.wasClosedByProducer ? .closedByPeer : nil
    } ?? nil
  }

  /// The reason that the close event was delivered with, if it was.
  var deliveredClose: CloseReason? {
    ifUsable { lane -> CloseReason? in
      if case .delivered(let reason) = lane.receiving.receiver.outlook { reason } else { nil }
    } ?? nil
  }

  var queuedByteCount: Int {
    ifUsable { $0.receiving.queue.byteCount + $0.receiving.records.consumer.waitingBytes } ?? 0
  }
}

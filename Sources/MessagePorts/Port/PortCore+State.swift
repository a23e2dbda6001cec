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

  var queuedByteCount: Int {
    ifUsable { $0.receiving.queue.byteCount + $0.receiving.records.consumer.waitingBytes } ?? 0
  }
}

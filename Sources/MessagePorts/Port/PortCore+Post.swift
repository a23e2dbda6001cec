// The front door: a message that carries nothing.

extension PortCore {
  /// The way in for every message without descriptors; those with ports are sent on to another door.
  @inline(__always)
  func post(_ bytes: RawSpan, transfer ports: [MessagePort]) throws(PortError) {
    if ports.isEmpty { try post(bytes) } else { try postWithPorts(bytes, ports) }
  }

  /// Posts a message that carries nothing.
  @inline(__always)
  func post(_ bytes: RawSpan) throws(PortError) {
    guard bytes.byteCount <= options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: bytes.byteCount, limit: options.messageLimitBytes)
    }
    while true {
      let outcome = try outgoing.state.withLock { (lane) throws(PortError) -> PostOutcome in
        if !lifecycle.isOpen {
          try lifecycle.checkUsable()
          return .departing
        }
        if lane.sending.tryPost(bytes) { return .done }
        return try lane.postUncommon(bytes)
      }
      switch outcome {
      case .done: return
      case .followUp(let after): return after.perform()
      case .overflowed: return watchForOverflow()
      case .departing: waitForDeparture()
      case .packetUnderWay: waitForPacket()
      }
    }
  }
}

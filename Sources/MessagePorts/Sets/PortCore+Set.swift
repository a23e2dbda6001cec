import SharedRing

/// What a set finds when it looks at a member.
enum SetFinding: Sendable {
  /// A message.
  case something
  /// None. The member's lane says once if that changes.
  case nothing
  /// The port has come to its end, or is not the one that this lane belongs to; it is in no set.
  case end
}

extension PortCore {
  /// Makes the port a set's. From the next look on, it is armed.
  func join(_ member: SetMember) throws(PortError) {
    while try !joinUnlessDeparting(member) { waitForDeparture() }
  }

  private func joinUnlessDeparting(_ member: SetMember) throws(PortError) -> Bool {
    try incoming.state.withLock { (lane) throws(PortError) -> Bool in
      switch lifecycle.state {
      case .closed: throw .closed
      case .detached: throw .detached
      case .departing: return false
      case .open: break
      }
      if lane.receiving.receiver.awaitedAt != nil { throw .notWaitable(.isInSet) }
      if lane.receiving.receiver.handlers.onMessage != nil { throw .notWaitable(.hasMessageHandler) }
      lane.receiving.receiver.awaitedAt = AwaitedPlace(member: member)
      return true
    }
  }

  /// The set does not want to hear of the port any more.
  func leave(_ member: SetMember) {
    let rung = incoming.state.withLock { lane -> PrivateWord? in
      guard lane.receiving.receiver.awaitedAt?.member === member else { return nil }
      lane.receiving.receiver.awaitedAt = nil
      return lane.receiving.leaveDoorbellToThreads()
    }
    rung?.ring()
  }

  /// Whether there is something to tell of. Takes nothing out of the queue.
  func look(for member: SetMember) -> SetFinding {
    let (finding, next) = incoming.state.withLock { lane -> (SetFinding, NextStep) in
      guard lane.receiving.receiver.awaitedAt?.member === member else { return (.end, .none) }
      switch lifecycle.state {
      // Whoever has closed or posted it is about to take it apart.
      case .closed, .detached: return (.end, .none)
      case .departing:
        // It is told what becomes of it: whoever posts it tells of its end, or lets its loop look again.
        lane.receiving.receiver.awaitedAt?.isArmed = true
        return (.nothing, .none)
      case .open: return lane.receiving.lookForSet()
      }
    }
    switch next {
    case .none: break
    case .listen(let scheduled):
      member.set.isHeard(by: loop)
      listen()
      if let scheduled { loop.schedule(scheduled) }
    case .hangUp(let channel, let threads):
      threads?.ring()
      breakOff(channel)
      loop.schedule(self)
    }
    return finding
  }

  /// The loop listens from now on, if the channel is shared: whoever blocks that loop's thread has to know.
  func tellSetWhoListens() {
    let member = incoming.state.withLock { lane in
      lane.receiving.records.consumer.isAttached ? lane.receiving.receiver.awaitedAt?.member : nil
    }
    member?.set.isHeard(by: loop)
  }

  fileprivate enum NextStep: Sendable {
    case none
    /// Only the loop hears of what comes next: it is to watch, and to have a look first.
    case listen(PortCore?)
    /// The peer broke the format.
    case hangUp(SharedChannel?, PrivateWord?)
  }
}

extension ReceivingHalf {
  fileprivate mutating func lookForSet() -> (SetFinding, PortCore.NextStep) {
    // They take the messages; the end is told of afterwards.
    if receiver.takesMessages { return armed(listening: false) }
    switch lookAhead(isToBeTaken: true) {
    case .message: return (.something, .none)
    case .nothing:
      guard receiver.peerClosed != nil else { return armed(listening: records.consumer.isAttached) }
      transport.channel?.discardPackets()
      receiver.awaitedAt = nil
      return (.end, .none)
    // The loop goes on in its turns, as far as it can.
    case .doorbells, .unfinished, .blocked: return armed(listening: true)
    case .violation(let what):
      receiver.awaitedAt = nil
      return (.end, .hangUp(endReading(what), receiver.threads.ring()))
    }
  }

  private mutating func armed(listening: Bool) -> (SetFinding, PortCore.NextStep) {
    receiver.awaitedAt?.isArmed = true
    return (.nothing, listening ? .listen(receiver.schedule()) : .none)
  }
}

extension Receiver {
  /// There is something to tell of. Returns the member that its set has to list, unless it knows already.
  mutating func announce() -> SetMember? {
    guard let place = awaitedAt, place.isArmed else { return nil }
    awaitedAt?.isArmed = false
    return place.member
  }
}

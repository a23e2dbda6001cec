import SharedRing

// How an end leaves its core: it closes, moves to another core or another process, or is split into halves.

// MARK: - Closing

extension PortCore {
  func close() {
    var unread = closeAlone()
    // Ports in unread messages close as well, and so do the ports in theirs. A loop rather than the release of each
    // message: the nesting may be deeper than the stack.
    while let message = unread.popLast() {
      for port in message.ports { unread += port.core.closeAlone() }
    }
  }

  /// Returns the messages that were waiting here.
  private func closeAlone() -> [QueuedMessage] {
    while let state = lifecycle.change(from: .open, to: .closed) {
      guard state == .departing else { return [] }
      waitForDeparture()
    }
    crashPoint(.closeDecided)
    let toPeer = outgoing.state.withLock { $0.posterCloses(end) }
    let channel = incoming.state.withLock { $0.receiverCloses() }
    crashPoint(.closeSaid)
    channel?.hangUp()
    crashPoint(.closeHungUp)
    let unread = takeApart(because: .closed)
    toPeer.perform()
    return unread
  }

  /// Empties this core after its end was closed, or moved to another owner. Returns the messages that were waiting.
  @discardableResult
  func takeApart(because reason: PortError) -> [QueuedMessage] {
    stopWatching()
    var toPosters = AfterLock.none
    let channel = outgoing.state.withLock { lane in
      toPosters.resumeAll(lane.sending.spaceWaiters.removeAll(), .failure(reason))
      return lane.sending.detach()
    }
    _ = consume channel
    toPosters.perform()
    let (unread, toReceivers) = incoming.state.withLock { $0.receiverLeaves(because: reason) }
    waitForCallToBegin()
    toReceivers.perform()
    return unread
  }
}

extension LaneState {
  /// The end that posts here closes. In a local channel, the other end's queue hears of it at once.
  fileprivate mutating func posterCloses(_ end: Int) -> AfterLock {
    if let channel = sending.transport.channel {
      channel.memory.words(lane: end).storeClosedByOwner()
      return .none
    }
    receiving.receiver.outlook = .gone(.closedByPeer)
    return receiving.receiver.notify()
  }

  /// The end that receives here closes. Returns what to hang up.
  fileprivate mutating func receiverCloses() -> SharedChannel? {
    if !receiving.records.consumer.isAttached { sending.audience.leave() }
    return receiving.transport.channel
  }

  /// The receiving end has closed, or is another core's. Returns the messages that were waiting.
  fileprivate mutating func receiverLeaves(because reason: PortError) -> ([QueuedMessage], AfterLock) {
    var after = AfterLock.none
    after.dismiss(receiving.takeReceiver(), because: reason)
    receiving.detach()
    // In a local channel, the other end's posters wait on this very lane, which nobody will read any more.
    if sending.transport.channel == nil { after.resumeAll(sending.spaceWaiters.removeAll(), .success(())) }
    return (receiving.queue.removeAll(), after)
  }
}

// MARK: - Moving within the process

extension PortCore {
  /// Lets this end go over to a new port in this process, which takes its lanes, its queue, everything but the
  /// handlers. What those who waited here have to hear is added to `after`.
  func handOver(_ after: inout AfterLock) -> MessagePort {
    // Before anyone can see the successor: its own watch would be of the same socket.
    stopWatching()
    let successor = PortCore(succeeding: self)
    successor.isInMessage.store(true, ordering: .relaxed)
    let old = incoming.state.withLock { lane in
      let old = lane.receiving.takeReceiver()
      lane.receiving.receiver.core = successor
      lane.receiving.records.consumer.stayAwake()
      // Nobody has heard of the end at the new place.
      if let reason = old.peerClosed { lane.receiving.receiver.outlook = .gone(reason) }
      return old
    }
    let posters = outgoing.state.withLock { lane in
      lane.sending.overflow = .none
      return lane.sending.spaceWaiters.removeAll()
    }
    after.resumeAll(posters, .failure(.detached))
    after.dismiss(old, because: .detached)
    return MessagePort(successor)
  }
}

// MARK: - Going without the locks

extension PortCore {
  /// Takes the producer and the reader out of the lanes. The channel is shared, and nobody uses this end any more.
  func takeHalves() -> BareHalves {
    let producer = outgoing.state.withLock { $0.sending.takeProducer() }
    let (channel, peerClosed) = incoming.state.withLock { lane in
      lane.receiving.records.consumer.stayAwake()
      return (lane.receiving.transport.channel, lane.receiving.receiver.peerClosed)
    }
    guard let channel else { preconditionFailure("a shared channel has a socket") }
    let violation: String? = if case .protocolViolation(let what) = peerClosed { what } else { nil }
    let records = incoming.state.withLock { $0.receiving.takeRecords() }
    return BareHalves(channel: channel, producer: producer, records: records, violation: violation)
  }
}

extension ReceivingHalf {
  /// Gives the reader away, to an owner who needs no lock.
  fileprivate mutating func takeRecords() -> RecordReader {
    // A poster with a limit has to hear of each message that was read.
    records.consumer.releaseStride = options.queueLimitBytes == nil ? .max : 1
    release()
    return records.take()
  }
}

import SharedRing
import Synchronization

// How an end leaves its core: it closes, it moves to a core of this process or to another process, or its halves go
// without the locks.

// MARK: - Closing

extension PortCore {
  func close() {
    var unread = closeAlone()
    // Ports in unread messages close as well, and those in their unread messages. One after the other, rather than each
    // by the release of the message that it is in: a nesting may be deeper than the stack.
    while let message = unread.popLast() {
      for port in message.ports { unread += port.core.closeAlone() }
    }
  }

  /// Returns the messages that were waiting here.
  private func closeAlone() -> [QueuedMessage] {
    while let state = lifecycle.change(from: .open, to: .closed) {
      guard state == .departing else { return [] }
      TransferLock.waitForOthers()
    }
    crashPoint(.closeDecided)
    let toPeer = outgoing.state.withLock { $0.posterCloses() }
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
    let (unread, toReceivers) = incoming.state.withLock { lane in
      // On the doorbell of a port that has moved on, its next owner may have announced something already.
      if lifecycle.state != .detached { lane.receiving.wakeThreads(of: self) }
      return lane.receiverLeaves()
    }
    waitForCallToBegin()
    toReceivers.perform()
    return unread
  }
}

extension LaneState {
  /// The end that posts here closes. Of a local channel, the other end's queue hears it at once.
  fileprivate mutating func posterCloses() -> AfterLock {
    if sending.producer.isAttached {
      sending.producer.sayClosed()
      return .none
    }
    receiving.receiver.end = .gone(.closedByPeer)
    return receiving.receiver.notify()
  }

  /// The end that receives here closes. Returns what to hang up.
  fileprivate mutating func receiverCloses() -> SharedChannel? {
    if !receiving.records.consumer.isAttached { sending.audience.leave() }
    return receiving.transport.channel
  }

  /// The receiving end has closed, or is another core's. Returns the messages that were waiting.
  fileprivate mutating func receiverLeaves() -> ([QueuedMessage], AfterLock) {
    var after = AfterLock.none
    after.dismiss(receiving.takeReceiver())
    receiving.detach()
    // Of a local channel, the other end's posters wait on this very lane; nobody will read it any more.
    if !sending.producer.isAttached { after.resumeAll(sending.spaceWaiters.removeAll(), .success(())) }
    return (receiving.queue.removeAll(), after)
  }
}

// MARK: - Moving within the process

extension PortCore {
  /// Lets this end go over to a new port in this process, which takes its lanes, its queue, everything but the handlers.
  /// What those who waited here have to hear is added to `after`.
  func handOver(_ after: inout AfterLock) -> MessagePort {
    // Before anyone can see the successor: its own watch would be of the same socket.
    stopWatching()
    let successor = PortCore(succeeding: self)
    successor.isInMessage.store(true, ordering: .relaxed)
    let old = incoming.state.withLock { lane in
      let old = lane.receiving.takeReceiver()
      lane.receiving.receiver.core = successor
      lane.receiving.wakeThreads(of: self)
      // Nobody has heard of the end at the new place.
      if let reason = old.peerClosed { lane.receiving.receiver.end = .gone(reason) }
      return old
    }
    let posters = outgoing.state.withLock { lane in
      lane.sending.overflow = .none
      return lane.sending.spaceWaiters.removeAll()
    }
    after.resumeAll(posters, .failure(.detached))
    after.dismiss(old)
    return MessagePort(successor)
  }
}

// MARK: - Going without the locks

extension PortCore {
  /// Takes the rings out of the lanes. The channel is shared, and nobody uses this end any more.
  func takeHalves() -> PortHalves {
    let producer = outgoing.state.withLock { $0.sending.takeProducer() }
    let (channel, peerClosed, doorbell) = incoming.state.withLock { lane in
      // Threads that sleep in a receive find the port detached.
      lane.receiving.wakeThreads(of: self)
      return (lane.receiving.transport.channel, lane.receiving.receiver.peerClosed, lane.receiving.doorbell)
    }
    guard let channel else { preconditionFailure("a shared channel has a socket") }
    let violation: String? = if case .protocolViolation(let what) = peerClosed { what } else { nil }
    let records = incoming.state.withLock { $0.receiving.takeRecords() }
    sendThreadsAway(from: doorbell)
    return PortHalves(channel: channel, producer: producer, records: records, violation: violation)
  }
}

extension ReceivingHalf {
  /// Takes what reads the ring away, for an owner who goes without the lock.
  fileprivate mutating func takeRecords() -> RecordReader {
    // A poster with a limit has to know of each message that was read.
    records.consumer.releaseStride = options.queueLimitBytes == nil ? .max : 1
    release()
    return records.take()
  }
}

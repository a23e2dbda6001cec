import CSupport
import SharedRing
import Synchronization

// MARK: - Handlers

extension PortCore {
  /// Changes handlers or the started state; wakes the loop if there may be something to deliver now.
  ///
  /// - Parameter owner: the object that the library keeps alive as long as the port is started and has a handler.
  func configure(_ owner: any AnyObject & Sendable, _ change: (inout Receiver) -> Void) {
    var leftovers = Leftovers()
    let followUp: FollowUp = incoming.state.withLock { lane in
      // After a transfer within the process, the lane is another port's.
      guard lane.receiver.core === self else { return .none }
      leftovers.handlers = lane.receiver.handlers
      change(&lane.receiver)
      // Nothing will ever be delivered: what the handlers hold (the port itself, say) is not to be held for that.
      if case .delivered = lane.receiver.end { swap(&leftovers.unused, &lane.receiver.handlers) }
      lane.receiver.configuration &+= 1
      if lane.receiver.shouldBeRetained {
        if lane.receiver.retained == nil { lane.receiver.retained = KeptPort(self, of: owner, on: loop) }
      } else {
        leftovers.retained = lane.receiver.retained.take()
      }
      var followUp = lane.receiver.notify()
      followUp.parker = nil
      return followUp
    }
    // `leftovers` is released here, after the lock.
    if followUp.scheduled != nil { watchIfShared() }
    followUp.perform()
  }

  /// Lets the loop watch the channel's socket, if there is one: it tells of the other end's death.
  func watchIfShared() {
    let channel = incoming.state.withLock { lane -> SharedChannel? in
      if case .open = lane.receiver.end { lane.receivingChannel } else { nil }
    }
    guard let channel else { return }
    binding.withLock { binding in
      guard binding.token == nil, lifecycle.state == .open else { return }
      binding.token = binding.loop.watch(channel.socket, client: self)
      isWatched.store(true, ordering: .relaxed)
    }
  }

  /// The opposite. Afterwards the loop has nothing of this port but, perhaps, a wait that will end soon.
  func stopWatching() {
    binding.withLock { binding in
      isWatched.store(false, ordering: .relaxed)
      binding.unwatch()
    }
  }

  /// Moves the port to another loop, from its next event on.
  ///
  /// - Parameter owner: see ``configure(_:_:)``.
  func setLoop(_ loop: EventLoop, _ owner: any AnyObject & Sendable) {
    let needsWatch = binding.withLock { binding -> Bool? in
      guard binding.loop !== loop else { return nil }
      let wasWatched = binding.token != nil
      isWatched.store(false, ordering: .relaxed)
      binding.unwatch()
      binding.loop = loop
      return wasWatched
    }
    guard let needsWatch else { return }
    if needsWatch { watchIfShared() }
    // A turn that is under way on the old loop ends; one that it still has to make is passed on, but it may be stopped.
    let keptBefore = incoming.state.withLock { lane -> KeptPort? in
      lane.receiver.configuration &+= 1
      guard lane.receiver.core === self, lane.receiver.shouldBeRetained else { return nil }
      let before = lane.receiver.retained
      lane.receiver.retained = KeptPort(self, of: owner, on: loop)
      return before
    }
    _ = consume keptBefore
    loop.schedule(self)
  }

  /// `loop` was stopped: it does not keep this port alive any more.
  func letGo(of loop: EventLoop) {
    let kept = incoming.state.withLock { lane in
      lane.receiver.retained?.loop === loop ? lane.receiver.retained.take() : nil
    }
    _ = consume kept
  }
}

extension PortCore.LoopBinding {
  mutating func unwatch() {
    guard let token = token.take() else { return }
    loop.unwatch(token, hasDoorbell: hasDoorbell)
    hasDoorbell = false
  }
}

// MARK: - The other end is gone

extension PortCore: LoopClient {
  /// The socket has something to say. On the loop's thread.
  func ready(_ events: UInt32) {
    if events & UInt32(CSUPPORT_EVENT_IN) != 0 { drainDoorbells() }
    if events & UInt32(CSUPPORT_EVENT_HUP | CSUPPORT_EVENT_ERR) != 0 {
      // Told once, it would be told for ever.
      stopWatching()
      peerHungUp()
    }
    loop.schedule(self)
  }

  /// The kernel says that nobody holds the other end any more. What it had committed is in the ring.
  func peerHungUp() {
    if let violation = outgoing.state.withLock({ $0.receiverViolation }) {
      return peerIsGone(.protocolViolation(violation))
    }
    let saidSo = incoming.state.withLock { $0.consumer.wasClosedByProducer }
    guard !saidSo, let process = binding.withLock({ $0.process }) else {
      return peerIsGone(saidSo ? .closedByPeer : .peerExited(nil))
    }
    // The socket closes a moment before the process can be reaped. If it is not ending at all, we do not wait for it.
    let loop = self.loop
    let timer = loop.after(nanoseconds: 1_000_000_000) { [self] in peerIsGone(.peerExited(nil)) }
    process.whenExited { [self] status in
      // It would keep the process's descriptor until then.
      loop.cancel(timer)
      peerIsGone(.peerExited(status))
    }
  }

  private func peerIsGone(_ reason: CloseReason) {
    let followUp: FollowUp = incoming.state.withLock { lane in
      guard lifecycle.state == .open, case .open = lane.receiver.end, lane.consumer.isAttached else { return .none }
      lane.receiver.end = .gone(reason)
      // Threads asleep on the doorbell do not hear the socket.
      lane.wakeThreads(of: self)
      return lane.receiver.notify()
    }
    followUp.perform()
    let waiters = outgoing.state.withLock { lane -> [SpaceWaiter] in
      // It may be our own hang-up that was heard: then those who wait are told that this port is closed.
      guard lifecycle.isOpen else { return [] }
      lane.isReceiverGone = true
      return lane.spaceWaiters.removeAll()
    }
    for waiter in waiters { waiter.resume(.success(())) }
  }
}

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
      Departure.waitForOthers()
    }
    crashPoint(.closeDecided)
    let outgoingFollowUp = outgoing.state.withLock { lane -> FollowUp in
      if lane.producer.isAttached {
        lane.producer.sayClosed()
        return .none
      }
      lane.receiver.end = .gone(.closedByPeer)
      return lane.receiver.notify()
    }
    let channel = incoming.state.withLock { lane in
      if !lane.consumer.isAttached { lane.isReceiverGone = true }
      return lane.receivingChannel
    }
    crashPoint(.closeSaid)
    channel?.hangUp()
    crashPoint(.closeHungUp)
    let unread = takeApart(because: .closed)
    outgoingFollowUp.perform()
    return unread
  }

  /// Empties this core after its end was closed, or moved to another owner. Returns the messages that were waiting.
  @discardableResult
  func takeApart(because reason: PortError) -> [QueuedMessage] {
    stopWatching()
    let (producer, spaceWaiters) = takeSendingHalf()
    _ = consume producer
    for waiter in spaceWaiters { waiter.resume(.failure(reason)) }
    // What else is left over is released here, outside the locks.
    let (leftovers, waiters, parker) = takeReceivingHalf()
    waitForCallToBegin()
    for waiter in waiters { waiter.resumption.resume(nil) }
    parker?.wakeAll()
    return leftovers.queue
  }

  private func takeSendingHalf() -> (SharedChannel?, [SpaceWaiter]) {
    outgoing.state.withLock { lane in
      let waiters = lane.spaceWaiters.removeAll()
      lane.producer = RingProducer()
      return (lane.sendingChannel.take(), waiters)
    }
  }

  private func takeReceivingHalf() -> (Leftovers, [MessageWaiter], Parker?) {
    var peerWaiters: [SpaceWaiter] = []
    let taken = incoming.state.withLock { lane in
      var leftovers = Leftovers()
      leftovers.handlers = lane.receiver.handlers
      leftovers.retained = lane.receiver.retained
      leftovers.queue = Array(lane.queue)
      let (waiters, parker) = (lane.receiver.waiters, lane.receiver.parker)
      // On the doorbell of a port that has moved on, its next owner may have announced something already.
      if lifecycle.state != .detached { lane.wakeThreads(of: self) }
      lane.queue = []
      lane.queuedBytes = 0
      lane.consumer = RingConsumer()
      lane.assembler = MessageAssembler()
      lane.receivingChannel = nil
      lane.receiver = Receiver()
      // Of a local channel, the other end's posters wait on this very lane; nobody will read it any more.
      if !lane.producer.isAttached { peerWaiters = lane.spaceWaiters.removeAll() }
      return (leftovers, waiters, parker)
    }
    for waiter in peerWaiters { waiter.resume(.success(())) }
    return taken
  }
}

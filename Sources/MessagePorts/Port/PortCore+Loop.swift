import CSupport
import SharedRing

// A port and its event loop: the loop watches its socket, tells it what it hears, and can be exchanged for another one.

extension PortCore {
  /// Makes the loop watch the channel's socket, if there is one, for the other end's death.
  func watchIfShared() {
    let (channel, isPeerGone) = incoming.state.withLock { lane in
      (lane.receiving.transport.channel, lane.receiving.receiver.peerClosed != nil)
    }
    // Nobody will tell of it again; and a transfer may have begun before those who post were told.
    if isPeerGone { return endPosting() }
    guard let channel else { return }
    binding.withLock { binding in
      guard binding.token == nil, lifecycle.state == .open else { return }
      binding.token = binding.loop.watch(channel.descriptor, client: self)
      isWatched.store(true, ordering: .relaxed)
    }
  }

  /// The opposite. Afterwards the loop has nothing of this port, except perhaps a wait that will soon be over.
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
    tellSetWhoListens()
    // The old loop ends a turn that it has begun. One that it has yet to begin it passes on, but it may be stopped.
    let after = withReceiver { receiver -> AfterLock in
      receiver.configuration &+= 1
      guard receiver.core === self, receiver.shouldBeRetained else { return .none }
      var after = AfterLock.none
      after.release(receiver.retained)
      receiver.retained = KeptPort(self, of: owner, on: loop)
      return after
    }
    _ = consume after
    if loop.isDeaf { loopHasEnded() }
    loop.schedule(self)
  }

  /// Threads that receive have relied on what the loop hears.
  func loopHasEnded() { withReceiver { $0.threads.ring() }?.ring() }

  /// `loop` was stopped: it no longer keeps this port alive.
  func letGo(of loop: EventLoop) {
    let kept = withReceiver { $0.retained?.loop === loop ? $0.retained.take() : nil }
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
    if events & UInt32(CSUPPORT_EVENT_IN) != 0 { notePackets() }
    if events & UInt32(CSUPPORT_EVENT_HUP | CSUPPORT_EVENT_ERR) != 0 {
      // The loop would tell it again and again.
      stopWatching()
      // It may have shut down half of its socket only.
      ifUsable { $0.receiving.transport.channel }??.hangUp()
      peerHungUp()
    }
  }

  var loopNote: UInt64 {
    get { note.load(ordering: .relaxed) }
    set { note.store(newValue, ordering: .relaxed) }
  }

  /// The kernel says that nobody holds the other end any more. What was committed is in the ring.
  func peerHungUp() {
    if case .violated(let what) = outgoing.state.withLock({ $0.sending.audience }) {
      return peerIsGone(.protocolViolation(what))
    }
    let (saidSo, wasInMessage) = incoming.state.withLock { lane in
      (lane.receiving.records.consumer.wasClosedByProducer, lane.receiving.records.consumer.wasProducerInMessage)
    }
    if wasInMessage { return peerIsGone(.undelivered) }
    guard !saidSo, let process = binding.withLock({ $0.process }), process.mayBeEnding else {
      return peerIsGone(saidSo ? .closedByPeer : .peerExited(nil))
    }
    // The socket closes a moment before the process can be reaped; see peerExited(_:). The timer is for a kernel that
    // does not say whether the process is ending, or takes long to end it.
    let loop = self.loop
    let timer = loop.after(nanoseconds: 1_000_000_000) { [self] in peerIsGone(.peerExited(nil)) }
    process.whenExited { _ in loop.cancel(timer) }
  }

  /// The process at the other end has ended, whoever else holds its socket.
  func peerExited(_ status: ExitStatus) {
    stopWatching()
    let saidSo = incoming.state.withLock { $0.receiving.records.consumer.wasClosedByProducer }
    if case .violated(let what) = outgoing.state.withLock({ $0.sending.audience }) {
      peerIsGone(.protocolViolation(what))
    } else {
      peerIsGone(saidSo ? .closedByPeer : .peerExited(status))
    }
    loop.schedule(self)
  }

  private func peerIsGone(_ reason: CloseReason) {
    let toReceivers = incoming.state.withLock { lane -> AfterLock in
      guard lifecycle.state == .open else { return .none }
      return lane.receiving.peerIsGone(reason)
    }
    toReceivers.perform()
    endPosting()
  }

  /// Nobody reads at the other end any more. Not with a lane locked.
  private func endPosting() {
    let toPosters = outgoing.state.withLock { lane -> AfterLock in
      // This may be our own hang-up: then close() tells those who wait.
      guard lifecycle.isOpen else { return .none }
      return lane.sending.audienceIsGone()
    }
    toPosters.perform()
  }

  /// What the peer wrote broke the format, and nothing more is read: hangs up on it. Those who post go on here and now; the
  /// loop may not be watching any more when the kernel tells of the hang-up.
  func breakOff(_ channel: SharedChannel?) {
    channel?.hangUp()
    endPosting()
  }
}

extension ReceivingHalf {
  fileprivate mutating func peerIsGone(_ reason: CloseReason) -> AfterLock {
    guard case .open = receiver.outlook, records.consumer.isAttached else { return .none }
    receiver.outlook = .gone(reason)
    return receiver.notify()
  }
}

extension SendingHalf {
  /// From now on posts are discarded, so those who wait for space go on.
  mutating func audienceIsGone() -> AfterLock {
    audience.leave()
    producer.abandon()
    var after = AfterLock.none
    after.resumeAll(spaceWaiters.removeAll(), .success(()))
    return after
  }
}

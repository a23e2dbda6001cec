import CSupport
import SharedRing
import Synchronization

// What a port has to do with its event loop: it is watched there, told there, and may be moved to another one.

extension PortCore {
  /// Lets the loop watch the channel's socket, if there is one: it tells of the other end's death.
  func watchIfShared() {
    let channel = incoming.state.withLock { lane -> SharedChannel? in
      if case .open = lane.receiving.receiver.end { lane.receiving.transport.channel } else { nil }
    }
    guard let channel else { return }
    binding.withLock { binding in
      guard binding.token == nil, lifecycle.state == .open else { return }
      binding.token = binding.loop.watch(channel.descriptor, client: self)
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
    let after = withReceiver { receiver -> AfterLock in
      receiver.configuration &+= 1
      guard receiver.core === self, receiver.shouldBeRetained else { return .none }
      var after = AfterLock.none
      after.release(receiver.retained)
      receiver.retained = KeptPort(self, of: owner, on: loop)
      return after
    }
    _ = consume after
    loop.schedule(self)
  }

  /// `loop` was stopped: it does not keep this port alive any more.
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
    if case .violated(let what) = outgoing.state.withLock({ $0.sending.audience }) {
      return peerIsGone(.protocolViolation(what))
    }
    let saidSo = incoming.state.withLock { $0.receiving.records.consumer.wasClosedByProducer }
    guard !saidSo, let process = binding.withLock({ $0.process }), process.mayBeEnding else {
      return peerIsGone(saidSo ? .closedByPeer : .peerExited(nil))
    }
    // The socket closes a moment before the process can be reaped; see peerExited(_:). The time is for a kernel that
    // does not say whether the process is ending, or takes long over it.
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
      return lane.receiving.peerIsGone(reason, core: self)
    }
    toReceivers.perform()
    let toPosters = outgoing.state.withLock { lane -> AfterLock in
      // It may be our own hang-up that was heard: then those who wait are told that this port is closed.
      guard lifecycle.isOpen else { return .none }
      return lane.sending.audienceIsGone()
    }
    toPosters.perform()
  }
}

extension ReceivingHalf {
  fileprivate mutating func peerIsGone(_ reason: CloseReason, core: PortCore) -> AfterLock {
    guard case .open = receiver.end, records.consumer.isAttached else { return .none }
    receiver.end = .gone(reason)
    // Threads asleep on the doorbell do not hear the socket.
    wakeThreads(of: core)
    return receiver.notify()
  }
}

extension SendingHalf {
  /// Posts are discarded from now on, so those who wait for space go on.
  mutating func audienceIsGone() -> AfterLock {
    audience.leave()
    var after = AfterLock.none
    after.resumeAll(spaceWaiters.removeAll(), .success(()))
    return after
  }
}

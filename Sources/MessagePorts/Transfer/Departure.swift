import CSupport
import Glibc
import SharedRing
import Synchronization

/// Posting a message with ports: the only operation that concerns several ports at once.
///
/// One lock for the process puts all such operations in a row. Under it, any lanes may be locked together, because
/// nobody else ever waits for a lane while holding another one's lock. A port that is being transferred is `departing`;
/// whoever wants to use it meanwhile waits for the outcome here.
enum Departure {
  private static let lock = Mutex<Void>(())

  /// Returns once the transfer under way, if any, has succeeded or failed. Not to be called with a lane locked.
  static func waitForOthers() { lock.withLock { _ in } }

  /// Runs `body` as the only operation of the process that locks several lanes.
  static func exclusively<Result: ~Copyable, Failure: Error>(
    _ body: () throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    try lock.withLock { _ throws(Failure) in try body() }
  }
}

extension PortCore {
  /// Posts a message that carries ports: either all of it happens, or nothing.
  func post(_ bytes: RawSpan, transfer ports: [MessagePort]) throws(PortError) {
    if ports.isEmpty { return try post(bytes) }
    guard ports.count <= TransferPacket.maximumPorts else {
      throw .tooManyPorts(count: ports.count, limit: TransferPacket.maximumPorts)
    }
    guard bytes.byteCount <= options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: bytes.byteCount, limit: options.messageLimitBytes)
    }
    let cores = ports.map(\.core)
    let outcome = try Departure.exclusively { () throws(PortError) -> Result<DepartedPorts, PortError> in
      try checkTransferList(cores)
      try Self.begin(cores)
      crashPoint(.transferListed)
      do throws(PortError) {
        let departed = try transferExclusively(bytes, cores)
        for core in cores { _ = core.lifecycle.change(from: .departing, to: .detached) }
        return .success(departed)
      } catch {
        for core in cores { _ = core.lifecycle.change(from: .departing, to: .open) }
        return .failure(error)
      }
    }
    if case .failure = outcome { for core in cores { core.goOnAfterRefusal() } }
    let departed = try outcome.get()
    // Outside the lock: closing a port, or releasing what its handlers hold, may run any code.
    departed.finish(old: cores)
    crashPoint(.transferFinished)
    giveBackOverflowWhenRead()
  }

  /// While the port was departing, its loop passed over it, and its channel may have become shared meanwhile: let the
  /// loop have another look.
  private func goOnAfterRefusal() {
    watchIfShared()
    incoming.state.withLock { $0.wakeThreads(of: self) }
    loop.schedule(self)
  }

  private func transferExclusively(_ bytes: RawSpan, _ cores: [PortCore]) throws(PortError) -> DepartedPorts {
    let isShared = try outgoing.state.withLock { (lane) throws(PortError) -> Bool in
      try lifecycle.checkUsable()
      return lane.sendingChannel != nil && !lane.isReceiverGone
    }
    return isShared ? try transferShared(bytes, cores) : try transferLocally(bytes, cores)
  }

  // MARK: The list

  private func checkTransferList(_ cores: [PortCore]) throws(PortError) {
    // Of a shared channel both of whose ends are here, only the memory tells that they belong together.
    let memory = outgoing.state.withLock { $0.sendingChannel?.memory.identity }
    var seen = Set<ObjectIdentifier>()
    for (index, core) in cores.enumerated() {
      if core === self { throw .invalidTransfer(index: index, .isSendingPort) }
      switch core.lifecycle.state {
      case .closed: throw .invalidTransfer(index: index, .isClosed)
      case .detached: throw .invalidTransfer(index: index, .isDetached)
      case .open, .departing: break
      }
      if core.incoming === outgoing { throw .invalidTransfer(index: index, .isPeerOfSendingPort) }
      if let memory, core.outgoing.state.withLock({ $0.sendingChannel?.memory.identity }) == memory {
        throw .invalidTransfer(index: index, .isPeerOfSendingPort)
      }
      if !seen.insert(ObjectIdentifier(core)).inserted { throw .invalidTransfer(index: index, .isListedTwice) }
    }
  }

  private static func begin(_ cores: [PortCore]) throws(PortError) {
    for (index, core) in cores.enumerated() {
      guard let state = core.lifecycle.change(from: .open, to: .departing) else { continue }
      for earlier in cores[..<index] { _ = earlier.lifecycle.change(from: .departing, to: .open) }
      throw .invalidTransfer(index: index, state == .closed ? .isClosed : .isDetached)
    }
    // Operations that saw the port open are over once its lanes could be locked.
    for core in cores {
      core.outgoing.state.withLock { _ in }
      core.incoming.state.withLock { _ in }
    }
  }

  // MARK: To this process

  private func transferLocally(_ bytes: RawSpan, _ cores: [PortCore]) throws(PortError) -> DepartedPorts {
    let isForItself = peerWaits(in: cores)
    return try outgoing.state.withLock { (lane) throws(PortError) -> DepartedPorts in
      try lifecycle.checkUsable()
      // First what can fail, then what cannot.
      let payload = lane.isReceiverGone || isForItself ? nil : try lane.makeLocalPayload(bytes)
      var departed = DepartedPorts()
      let successors = cores.map { core in
        let (successor, remains) = core.handOver()
        departed.remains.append(remains)
        return successor
      }
      if let payload {
        departed.followUp = lane.appendLocally(QueuedMessage(payload: payload, ports: successors))
      } else {
        departed.discarded = successors
      }
      return departed
    }
  }

  /// Whether the message would be received at a port that waits, by way of other messages perhaps, at one of those that it
  /// carries: nobody could ever take it, nor release what holds itself, so it is discarded. (Of shared channels, the
  /// kernel finds that out.)
  private func peerWaits(in cores: [PortCore]) -> Bool {
    guard let peer = outgoing.state.withLock({ $0.receiver.core }), peer.isInMessage.load(ordering: .relaxed) else {
      return false
    }
    var pending = cores
    while let core = pending.popLast() {
      let waiting = core.incoming.state.withLock { $0.queue.flatMap(\.ports) }
      for port in waiting where port.core === peer { return true }
      pending += waiting.lazy.map(\.core)
    }
    return false
  }

  // MARK: To another process

  private func transferShared(_ bytes: RawSpan, _ cores: [PortCore]) throws(PortError) -> DepartedPorts {
    // What is refused should not have made channels shared: that takes descriptors until they close.
    try outgoing.state.withLock { (lane) throws(PortError) in
      if let limit = lane.policy.unreadLimitBytes,
        RecordHeader.recordBytes(payloadBytes: bytes.byteCount) > lane.freeBytes()
      {
        throw .queueFull(limit: limit)
      }
    }
    for (index, core) in cores.enumerated() {
      do throws(PortError) {
        try core.share()
      } catch {
        if case .system(let error) = error, error.errno == ELOOP { throw .invalidTransfer(index: index, .holdsItself) }
        throw error
      }
    }
    let wasTaken = try outgoing.state.withLock { (lane) throws(PortError) -> Bool in
      try lifecycle.checkUsable()
      guard let channel = lane.sendingChannel else { return false }
      let header: RecordHeader
      do throws(RingError) {
        header = try lane.producer.stage(bytes, policy: lane.policy, contact: channel)
      } catch {
        try lane.handle(error)
        return false
      }
      crashPoint(.transferStaged)
      do throws(PortError) {
        guard try channel.send(cores) else {
          lane.producer.abandonStaged(header)
          lane.isReceiverGone = true
          return false
        }
      } catch {
        lane.producer.abandonStaged(header)
        throw error
      }
      crashPoint(.transferSent)
      lane.producer.publish(header.carrying(cores.count))
      crashPoint(.transferPublished)
      lane.wakeReceiver()
      return true
    }
    var departed = DepartedPorts()
    if wasTaken {
      departed.isInAnotherProcess = true
    } else {
      // The receiver turned out to be gone: the message is discarded, and its ports close.
      for core in cores {
        let (successor, remains) = core.handOver()
        departed.discarded.append(successor)
        departed.remains.append(remains)
      }
    }
    return departed
  }
}

/// What is left of ports that have moved on, to be released without any lock.
struct DepartedPorts: Sendable {
  /// The ports of a message that was discarded: dropping them closes them.
  var discarded: [MessagePort] = []
  /// What the old objects of ports had that stayed in this process.
  var remains: [Remains] = []
  /// The ports' rings and sockets are somebody else's now: ours can go.
  var isInAnotherProcess = false
  var followUp = FollowUp.none

  struct Remains: Sendable {
    var receiver: Receiver
    var spaceWaiters: [SpaceWaiter]
  }

  func finish(old cores: [PortCore]) {
    for core in cores {
      core.stopWatching()
      core.waitForCallToBegin()
      core.sendThreadsAway(from: core.incoming.state.withLock { $0.doorbell })
      if isInAnotherProcess { core.takeApart(because: .detached) }
    }
    for remains in remains {
      for waiter in remains.spaceWaiters { waiter.resume(.failure(.detached)) }
      for waiter in remains.receiver.waiters { waiter.resumption.resume(nil) }
      remains.receiver.parker?.wakeAll()
    }
    followUp.perform()
  }
}

extension PortCore {
  /// Lets this end go over to a new port in this process, which takes its lanes, its queue, everything but the handlers.
  fileprivate func handOver() -> (successor: MessagePort, remains: DepartedPorts.Remains) {
    // Before anyone can see the successor: its own watch would be of the same socket.
    stopWatching()
    let successor = PortCore(succeeding: self)
    successor.isInMessage.store(true, ordering: .relaxed)
    let receiver = incoming.state.withLock { lane in
      let old = lane.receiver
      lane.receiver = Receiver()
      lane.receiver.core = successor
      lane.wakeThreads(of: self)
      // Nobody has heard of the end at the new place.
      if let reason = old.peerClosed { lane.receiver.end = .gone(reason) }
      return old
    }
    let spaceWaiters = outgoing.state.withLock { lane in
      lane.overflow = .none
      return lane.spaceWaiters.removeAll()
    }
    return (MessagePort(successor), DepartedPorts.Remains(receiver: receiver, spaceWaiters: spaceWaiters))
  }
}

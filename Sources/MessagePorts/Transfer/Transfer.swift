import CSupport
import Glibc
import SharedRing
import Synchronization

// Posting a message with ports: the only operation that concerns several ports at once.

extension PortCore {
  /// Posts a message that carries ports: either all of it happens, or nothing.
  @inline(never)
  func postWithPorts(_ bytes: RawSpan, _ ports: [MessagePort]) throws(PortError) {
    try checkCount(of: ports)
    guard bytes.byteCount <= options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: bytes.byteCount, limit: options.messageLimitBytes)
    }
    let cores = ports.map(\.core)
    let outcome = try TransferLock.exclusively { () throws(PortError) -> Result<DepartedPorts, PortError> in
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
    incoming.state.withLock { $0.receiving.wakeThreads(of: self) }
    loop.schedule(self)
  }

  private func transferExclusively(_ bytes: RawSpan, _ cores: [PortCore]) throws(PortError) -> DepartedPorts {
    let isShared = try outgoing.state.withLock { (lane) throws(PortError) -> Bool in
      try lifecycle.checkUsable()
      return lane.sending.transport.channel != nil && !lane.sending.audience.isGone
    }
    return isShared ? try transferShared(bytes, cores) : try transferLocally(bytes, cores)
  }

  // MARK: The list

  /// Throws what is wrong with the list alone, or with this port: found before user code runs that encodes a value, and
  /// looked at again when the message is posted.
  func check(transfer ports: [MessagePort]) throws(PortError) {
    if ports.isEmpty { return }
    try checkCount(of: ports)
    let cores = ports.map(\.core)
    try TransferLock.exclusively { () throws(PortError) in
      try lifecycle.checkUsable()
      try checkTransferList(cores)
    }
  }

  private func checkCount(of ports: [MessagePort]) throws(PortError) {
    guard ports.count <= TransferPacket.maximumPorts else {
      throw .tooManyPorts(count: ports.count, limit: TransferPacket.maximumPorts)
    }
  }

  private func checkTransferList(_ cores: [PortCore]) throws(PortError) {
    // Of a shared channel both of whose ends are here, only the memory tells that they belong together.
    let memory = outgoing.state.withLock { $0.sending.transport.channel?.memory.identity }
    var seen = Set<ObjectIdentifier>()
    for (index, core) in cores.enumerated() {
      if core === self { throw .invalidTransfer(index: index, .isSendingPort) }
      switch core.lifecycle.state {
      case .closed: throw .invalidTransfer(index: index, .isClosed)
      case .detached: throw .invalidTransfer(index: index, .isDetached)
      case .open, .departing: break
      }
      if core.incoming === outgoing { throw .invalidTransfer(index: index, .isPeerOfSendingPort) }
      if let memory, core.outgoing.state.withLock({ $0.sending.transport.channel?.memory.identity }) == memory {
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
      let payload = lane.sending.audience.isGone || isForItself ? nil : try lane.makeLocalPayload(bytes)
      var departed = DepartedPorts()
      let successors = cores.map { $0.handOver(&departed.toOldOwners) }
      if let payload {
        departed.toReceiver = lane.appendLocally(QueuedMessage(payload: payload, ports: successors))
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
    guard let peer = outgoing.state.withLock({ $0.receiving.receiver.core }),
      peer.isInMessage.load(ordering: .relaxed)
    else { return false }
    var pending = cores
    while let core = pending.popLast() {
      let waiting = core.incoming.state.withLock { $0.receiving.queue.ports }
      for port in waiting where port.core === peer { return true }
      pending += waiting.lazy.map(\.core)
    }
    return false
  }

  // MARK: To another process

  private func transferShared(_ bytes: RawSpan, _ cores: [PortCore]) throws(PortError) -> DepartedPorts {
    // What is refused should not have made channels shared: that takes descriptors until they close.
    try outgoing.state.withLock { (lane) throws(PortError) in
      if let limit = lane.sending.policy.unreadLimitBytes,
        RecordHeader.recordBytes(payloadBytes: bytes.byteCount) > lane.freeBytes()
      {
        throw .queueFull(limit: limit)
      }
    }
    for (index, core) in cores.enumerated() {
      do throws(ShareError) {
        try core.share()
      } catch {
        switch error {
        case .holdsItself: throw .invalidTransfer(index: index, .holdsItself)
        case .port(let error): throw error
        }
      }
    }
    let wasTaken = try outgoing.state.withLock { (lane) throws(PortError) -> Bool in
      try lifecycle.checkUsable()
      return try lane.sending.post(bytes, with: cores)
    }
    var departed = DepartedPorts()
    if wasTaken {
      departed.isInAnotherProcess = true
    } else {
      // The receiver turned out to be gone: the message is discarded, and its ports close.
      departed.discarded = cores.map { $0.handOver(&departed.toOldOwners) }
    }
    return departed
  }
}

extension SendingHalf {
  /// Puts the message on the ring and its ports on the socket. `false`: nobody will ever receive it.
  fileprivate mutating func post(_ bytes: RawSpan, with cores: [PortCore]) throws(PortError) -> Bool {
    guard case .ring(let channel) = transport else { return false }
    let header: RecordHeader
    do throws(RingError) {
      header = try producer.stage(bytes, policy: policy, contact: channel)
    } catch {
      try handle(error)
      return false
    }
    crashPoint(.transferStaged)
    do throws(PortError) {
      guard try channel.send(cores) else {
        producer.abandonStaged(header)
        audience.leave()
        return false
      }
    } catch {
      producer.abandonStaged(header)
      throw error
    }
    crashPoint(.transferSent)
    producer.publish(header.carrying(cores.count))
    crashPoint(.transferPublished)
    wakeReceiver()
    return true
  }
}

/// What is left of ports that have moved on, to be released without any lock.
struct DepartedPorts: Sendable {
  /// The ports of a message that was discarded: dropping them closes them.
  var discarded: [MessagePort] = []
  /// What those who waited at ports that stayed in this process have to hear.
  var toOldOwners = AfterLock.none
  var toReceiver = AfterLock.none
  /// The ports' rings and sockets are somebody else's now: ours can go.
  var isInAnotherProcess = false

  func finish(old cores: [PortCore]) {
    for core in cores {
      core.stopWatching()
      core.waitForCallToBegin()
      core.sendThreadsAway(from: core.incoming.state.withLock { $0.receiving.doorbell })
      if isInAnotherProcess { core.takeApart(because: .detached) }
    }
    toOldOwners.perform()
    toReceiver.perform()
  }
}

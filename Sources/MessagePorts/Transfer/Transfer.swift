import CSupport
import Glibc
import SharedRing

// Posting a message that carries something: the only operation that concerns several ports at once.

extension PortCore {
  /// Without the other lists, so that a plain post need not have them ready.
  @inline(never)
  func postWithPorts(_ bytes: RawSpan, _ ports: [MessagePort]) throws(PortError) {
    try postWithCargo(bytes, ports, Freight())
  }

  /// Posts a message that carries something: either all of it happens, or nothing.
  @inline(never)
  func postWithCargo(
    _ bytes: RawSpan, _ ports: [MessagePort], _ freight: Freight
  ) throws(PortError) {
    try Self.checkCount(of: ports, freight)
    guard bytes.byteCount <= options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: bytes.byteCount, limit: options.messageLimitBytes)
    }
    let cores = ports.map(\.core)
    let payload = makePayloadIfLocal(bytes)
    let departed = try transfer(bytes, payload, cores, freight)
    // Outside the lock: closing a port, or releasing what its handlers hold, may run any code.
    departed.finish(old: cores)
    crashPoint(.transferFinished)
    giveBackOverflowWhenRead()
  }

  private func transfer(
    _ bytes: RawSpan, _ payload: MessagePayload?, _ cores: [PortCore], _ freight: Freight
  ) throws(PortError) -> DepartedPorts {
    let peers = indicesOfPeers(in: cores)
    while let other = try TransferLock.exclusively({ () throws(PortError) in try begin(cores, peers, freight) }) {
      switch other {
      case .port(let core): TransferLock.wait { core.isInTransfer }
      case .freight(let isDeparting): TransferLock.wait(while: isDeparting)
      }
    }
    crashPoint(.transferListed)
    // Operations that saw the ports open are over once their lanes could be locked, and so is a long post on this port.
    for core in cores {
      core.outgoing.state.withLock { _ in }
      core.incoming.state.withLock { _ in }
    }
    let result: Result<DepartedPorts, PortError>
    do throws(PortError) {
      let departed = try TransferLock.exclusively { () throws(PortError) in
        try transferLocallyOrShare(bytes, payload, cores, freight)
      }
      if let departed {
        result = .success(departed)
      } else {
        result = .success(try postShared(bytes, cores, freight))
      }
    } catch {
      for core in cores { core.outgoing.state.withLock { $0.sending.producer.sayInMessage(false) } }
      result = .failure(error)
    }
    let state: PortLifecycle.State = if case .success = result { .detached } else { .open }
    TransferLock.end {
      for core in cores { _ = core.lifecycle.change(from: .departing, to: state) }
      freight.stay()
      carried.wrappingSubtract(1, ordering: .relaxed)
    }
    if case .failure = result { for core in cores { core.goOnAfterRefusal() } }
    return try result.get()
  }

  /// Whether a transfer of this port, or of others on it, is under way.
  var isInTransfer: Bool { lifecycle.state == .departing || carried.load(ordering: .relaxed) > 0 }

  /// Returns once it is known whether this port leaves that another thread is transferring. Not with a lane locked.
  func waitForDeparture() { TransferLock.wait { lifecycle.state == .departing } }

  /// Returns once no thread sends the ports of a message posted here. Not with a lane locked.
  func waitForPacket() { TransferLock.wait { outgoing.state.withLock { $0.sending.isPacketUnderWay } } }

  private enum Departing: Sendable {
    case port(PortCore)
    case freight(@Sendable () -> Bool)
  }

  /// Marks what is listed as departing. Returns something of it if what becomes of that, in a transfer that is under
  /// way, has to be known first; nothing has changed then.
  private func begin(
    _ cores: [PortCore], _ peers: [Int], _ freight: Freight
  ) throws(PortError) -> Departing? {
    try checkTransferList(cores, peers)
    try freight.check()
    if lifecycle.state == .departing { return .port(self) }
    if let core = cores.first(where: \.isInTransfer) { return .port(core) }
    if let isDeparting = freight.departing { return .freight(isDeparting) }
    try Self.depart(cores)
    do throws(PortError) {
      try freight.depart()
    } catch {
      for core in cores { _ = core.lifecycle.change(from: .departing, to: .open) }
      throw error
    }
    carried.wrappingAdd(1, ordering: .relaxed)
    return nil
  }

  /// `nil`: the message is for another process. The ports' channels are shared then, and what is left to do concerns the
  /// lane of this port alone.
  private func transferLocallyOrShare(
    _ bytes: RawSpan, _ payload: MessagePayload?, _ cores: [PortCore], _ freight: Freight
  ) throws(PortError) -> DepartedPorts? {
    let isForAnotherProcess = try outgoing.state.withLock { (lane) throws(PortError) -> Bool in
      try lifecycle.checkUsable()
      return lane.sending.transport.channel != nil && !lane.sending.audience.isGone
    }
    guard isForAnotherProcess else { return try transferLocally(bytes, payload, cores, freight) }
    try share(cores, for: bytes.byteCount)
    return nil
  }

  /// While the port was departing, its loop passed over it, and its channel may have become shared meanwhile: let the
  /// loop have another look.
  private func goOnAfterRefusal() {
    watchIfShared()
    let threads = incoming.state.withLock { lane in
      // What came meanwhile was left for the next owner.
      lane.receiving.records.packetsMayWait = lane.receiving.records.consumer.isAttached
      return lane.receiving.receiver.threads.ring()
    }
    threads?.ring()
    loop.schedule(self)
  }

  // MARK: The list

  /// Throws what is wrong with the list alone, or with this port: found before user code runs that encodes a value, and
  /// looked at again when the message is posted.
  func check(transfer ports: [MessagePort]) throws(PortError) {
    if !ports.isEmpty { try check(transfer: ports, Freight()) }
  }

  /// The same of all lists.
  func check(transfer ports: [MessagePort], _ freight: Freight) throws(PortError) {
    if ports.isEmpty, freight.isEmpty { return }
    try Self.checkCount(of: ports, freight)
    let cores = ports.map(\.core)
    let peers = indicesOfPeers(in: cores)
    try TransferLock.exclusively { () throws(PortError) in
      try lifecycle.checkUsable()
      try checkTransferList(cores, peers)
      try freight.check()
    }
  }

  private static func checkCount(of ports: [MessagePort], _ freight: Freight) throws(PortError) {
    guard ports.count <= MessagePort.maximumPortsPerMessage else {
      throw .tooManyPorts(count: ports.count, limit: MessagePort.maximumPortsPerMessage)
    }
    guard CargoCount(ports: ports.count, descriptors: freight.count).fitsInPacket else {
      let taken = CargoCount(ports: ports.count).mostDescriptors
      throw .tooManyDescriptors(
        count: freight.count, limit: MessagePort.maximumDescriptorsPerMessage - taken)
    }
  }

  /// Which of the ports are the other end of this one's channel, as far as the memory tells: both may be here, and have come
  /// separately. Whose lanes are the same is seen without looking into them.
  private func indicesOfPeers(in cores: [PortCore]) -> [Int] {
    guard let memory = outgoing.state.withLock({ $0.sending.transport.channel?.memory.identity }) else { return [] }
    return cores.indices.filter { index in
      cores[index] !== self
        && cores[index].outgoing.state.withLock { $0.sending.transport.channel?.memory.identity } == memory
    }
  }

  private func checkTransferList(_ cores: [PortCore], _ peers: [Int]) throws(PortError) {
    var seen = Set<ObjectIdentifier>()
    for (index, core) in cores.enumerated() {
      if core === self { throw .invalidTransfer(index: index, .isSendingPort) }
      switch core.lifecycle.state {
      case .closed: throw .invalidTransfer(index: index, .isClosed)
      case .detached: throw .invalidTransfer(index: index, .isDetached)
      case .open, .departing: break
      }
      if core.incoming === outgoing || peers.contains(index) {
        throw .invalidTransfer(index: index, .isPeerOfSendingPort)
      }
      if !seen.insert(ObjectIdentifier(core)).inserted { throw .invalidTransfer(index: index, .isListedTwice) }
    }
  }

  private static func depart(_ cores: [PortCore]) throws(PortError) {
    for (index, core) in cores.enumerated() {
      guard let state = core.lifecycle.change(from: .open, to: .departing) else { continue }
      for earlier in cores[..<index] { _ = earlier.lifecycle.change(from: .departing, to: .open) }
      throw .invalidTransfer(index: index, state == .closed ? .isClosed : .isDetached)
    }
  }

  // MARK: To this process

  /// A copy of a message that stays in this process, as it seems now: nobody has to wait for it. What is wrong is found
  /// later.
  private func makePayloadIfLocal(_ bytes: RawSpan) -> MessagePayload? {
    let isLocal = outgoing.state.withLock { lane in
      lane.sending.transport.channel == nil && !lane.sending.audience.isGone
        && (try? lane.checkLocalRoom(byteCount: bytes.byteCount)) != nil
    }
    return isLocal ? MessagePayload(copying: bytes) : nil
  }

  private func transferLocally(
    _ bytes: RawSpan, _ prepared: MessagePayload?, _ cores: [PortCore], _ freight: Freight
  ) throws(PortError) -> DepartedPorts {
    let isForItself = peerWaits(in: cores)
    return try outgoing.state.withLock { (lane) throws(PortError) -> DepartedPorts in
      try lifecycle.checkUsable()
      // First what can fail, then what cannot.
      var payload: MessagePayload?
      if !lane.sending.audience.isGone, !isForItself {
        try lane.checkLocalRoom(byteCount: bytes.byteCount)
        if let prepared { payload = prepared } else { payload = try .copy(of: bytes) }
      }
      var departed = DepartedPorts()
      let successors = MessageCargo(cores.map { $0.handOver(&departed.toOldOwners) }, freight.moveOn())
      if let payload {
        departed.toReceiver = lane.appendLocally(QueuedMessage(payload: payload, cargo: successors))
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

  private func share(_ cores: [PortCore], for byteCount: Int) throws(PortError) {
    // What is refused should not have made channels shared: that takes descriptors until they close.
    try outgoing.state.withLock { (lane) throws(PortError) in
      if let limit = lane.sending.policy.unreadLimitBytes,
        RecordHeader.recordBytes(payloadBytes: byteCount) > lane.freeBytes()
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
        case .port(let error):
          // Of what waits at that port, too much is on its way.
          if case .transferQueueFull = error { outgoing.state.withLock { $0.sending.transferRefusal = .untold } }
          throw error
        }
      }
    }
  }

  private func postShared(
    _ bytes: RawSpan, _ cores: [PortCore], _ freight: Freight
  ) throws(PortError) -> DepartedPorts {
    let packet = try OutgoingPacket(of: cores, freight)
    freight.setOut()
    let wasTaken: Bool
    do throws(PortError) {
      wasTaken = try announceAndSend(bytes, packet)
    } catch {
      freight.turnBack()
      throw error
    }
    var departed = DepartedPorts()
    if wasTaken {
      departed.isInAnotherProcess = true
      departed.sent = freight.leave()
    } else {
      // The receiver turned out to be gone: the message is discarded, and what it carries closes.
      freight.turnBack()
      departed.discarded = MessageCargo(cores.map { $0.handOver(&departed.toOldOwners) }, freight.moveOn())
    }
    return departed
  }
}

extension PortCore {
  /// Puts the message on the ring and what it carries on the socket. `false`: nobody will ever receive it.
  ///
  /// The record comes first: so the receiver knows a packet that nobody has announced. The packet is sent without the lane's
  /// lock: where many descriptors are in flight, the kernel makes their sender wait until it has looked for cycles. Nobody
  /// can post meanwhile, because the producer is here.
  private func announceAndSend(_ bytes: RawSpan, _ packet: borrowing OutgoingPacket) throws(PortError) -> Bool {
    guard var announcement = try announce(bytes, cargo: packet.cargo) else { return false }
    do throws(PortError) {
      announcement.isSent = try announcement.channel.send(packet)
      if announcement.isSent { crashPoint(.transferSent) }
    } catch {
      if case .transferQueueFull(let error) = error { announcement.noteRefusal(error) }
      announcement.producer.withdrawAnnouncement()
      finish(announcement)
      throw error
    }
    let isSent = announcement.isSent
    finish(announcement)
    return isSent
  }

  /// Publishes the record, and takes the producer out of the lane. `nil`: nobody will ever receive the message.
  private func announce(_ bytes: RawSpan, cargo: CargoCount) throws(PortError) -> Announcement? {
    while true {
      let step = try outgoing.state.withLock { (lane) throws(PortError) -> sending AnnouncementStep in
        try lifecycle.checkUsable()
        return try lane.sending.announce(bytes, cargo: cargo)
      }
      switch consume step {
      case .announced(let announcement): return announcement
      case .nobodyReceives: return nil
      case .packetUnderWay: waitForPacket()
      }
    }
  }

  /// Puts the producer back, unless the port was closed meanwhile.
  private func finish(_ announcement: consuming Announcement) {
    var returned: Announcement? = announcement
    let needsLoop = outgoing.state.withLock { lane in
      guard let announcement = returned.take() else { preconditionFailure("returned twice") }
      return lane.sending.takeBack(announcement)
    }
    if needsLoop { loop.schedule(self) }
  }
}

/// A message whose record is published, and whose packet is not sent yet: whoever has this has the lane's producer.
private struct Announcement: ~Copyable {
  var producer: RingProducer
  let channel: SharedChannel
  /// How much the receiver had released, and whether it had anything left to read: before the packet was sent.
  let released: UInt64
  let isFirst: Bool
  var isSent = false
  var refusal = TransferRefusal.none

  /// The kernel queues no more.
  mutating func noteRefusal(_ error: SystemError) {
    refusal = error.errno == EAGAIN && !isFirst ? .socketFull(released: released) : .untold
  }
}

private enum AnnouncementStep: ~Copyable {
  case announced(Announcement)
  case nobodyReceives
  case packetUnderWay
}

extension SendingHalf {
  /// Another thread sends the ports of a message that is announced, and has the producer.
  var isPacketUnderWay: Bool { transport.channel != nil && !producer.isAttached }

  fileprivate mutating func announce(_ bytes: RawSpan, cargo: CargoCount) throws(PortError) -> AnnouncementStep {
    guard case .ring(let channel) = transport, !audience.isGone else { return .nobodyReceives }
    if isPacketUnderWay { return .packetUnderWay }
    let header: RecordHeader
    do throws(RingError) {
      header = try producer.stage(bytes, policy: policy, contact: channel)
    } catch {
      try handle(error)
      return .nobodyReceives
    }
    crashPoint(.transferStaged)
    let released = producer.releasedPosition()
    let isFirst = released == producer.position
    producer.publish(header.carrying(cargo))
    crashPoint(.transferAnnounced)
    return .announced(
      Announcement(producer: takeProducer(), channel: channel, released: released, isFirst: isFirst))
  }

  /// Returns whether the loop has to see to those who wait for space, or to an overflow: it has not been able to.
  fileprivate mutating func takeBack(_ announcement: consuming Announcement) -> Bool {
    guard let channel = transport.channel, channel === announcement.channel else { return false }
    let isSent = announcement.isSent
    transferRefusal = announcement.refusal
    producer = announcement.producer
    if !isSent, channel.isHungUp { audience.leave() }
    if audience.isGone { producer.abandon() }
    // A receiver that has seen the record may have gone to sleep again until now: it is woken whatever becomes of the packet.
    wakeReceiver()
    return !spaceWaiters.isEmpty || overflow != .none
  }
}

/// What is left of what has moved on, to be released without any lock.
struct DepartedPorts: Sendable {
  /// What came with a message that was discarded: dropping it closes all of it.
  var discarded: MessageCargo?
  /// What those who waited at ports that stayed in this process have to hear.
  var toOldOwners = AfterLock.none
  var toReceiver = AfterLock.none
  /// The ports' rings and sockets are somebody else's now: ours can go.
  var isInAnotherProcess = false
  /// So is this.
  var sent = SentFreight()

  func finish(old cores: [PortCore]) {
    for core in cores {
      core.stopWatching()
      core.waitForCallToBegin()
      if isInAnotherProcess { core.takeApart(because: .detached) }
    }
    sent.letGo()
    toOldOwners.perform()
    toReceiver.perform()
  }
}

import Glibc
import SharedRing

// A channel becomes shared when its first port leaves. Until then it needs nothing from the kernel.

/// Why a channel could not become shared.
enum ShareError: Error {
  /// By way of other channels, it holds its own other end: neither can be first.
  case holdsItself
  case port(PortError)

  /// What the caller is told who did not list the port.
  var withoutIndex: PortError {
    switch self {
    case .holdsItself: .system(SystemError(call: "sendmsg", errno: ELOOP))
    case .port(let error): error
    }
  }
}

extension PortCore {
  /// Moves a local channel, with everything that waits in it, into shared memory. On failure it is as it was.
  ///
  /// Only within ``TransferLock/exclusively(_:)``, because it locks both lanes, and those of ports that wait in them.
  func share() throws(ShareError) {
    // Ports that wait in the channel, and those that wait in theirs, are shared before it. With a list, and not by
    // recursion: a nesting may be deeper than the stack.
    var pending = [(core: self, isPrepared: false)]
    var seen: Set<ObjectIdentifier> = []
    while let (core, isPrepared) = pending.popLast() {
      if core.isShared { continue }
      let waiting = isPrepared ? [] : core.waitingPorts
      if waiting.isEmpty {
        try core.shareAlone()
      } else if seen.insert(ObjectIdentifier(core.end == 0 ? core.outgoing : core.incoming)).inserted {
        pending.append((core, isPrepared: true))
        for port in waiting { pending.append((port.core, isPrepared: false)) }
      }
    }
  }

  fileprivate var isShared: Bool { outgoing.state.withLock { $0.sending.transport.channel != nil } }

  private var waitingPorts: [MessagePort] {
    [outgoing, incoming].flatMap { lane in lane.state.withLock { $0.receiving.queue.ports } }
  }

  private func shareAlone() throws(ShareError) {
    let channels: (SharedChannel, SharedChannel)
    do throws(MemoryError) {
      channels = try SharedChannel.makePair(options: options)
    } catch {
      throw .port(PortError(error))
    }
    crashPoint(.shareMade)
    let (mine, theirs) = end == 0 ? (channels.0, channels.1) : (channels.1, channels.0)

    for lane in [outgoing, incoming] { lane.isMoving.store(true, ordering: .relaxed) }
    defer { for lane in [outgoing, incoming] { lane.isMoving.store(false, ordering: .relaxed) } }
    let moved = try outgoing.state.withLock { (outgoing) throws(ShareError) -> [QueuedMessage] in
      try incoming.state.withLock { (incoming) throws(ShareError) -> [QueuedMessage] in
        var toThem = RingProducer(memory: mine.memory, lane: end)
        var toMe = RingProducer(memory: mine.memory, lane: 1 - end)
        do throws(ShareError) {
          try outgoing.receiving.queue.write(into: &toThem, through: mine)
          try incoming.receiving.queue.write(into: &toMe, through: theirs)
        } catch {
          outgoing.receiving.queue.callOffDeparture()
          incoming.receiving.queue.callOffDeparture()
          throw error
        }

        // From here on nothing fails.
        crashPoint(.shareWritten)
        for message in outgoing.receiving.queue.messages { message.freight.setOut() }
        for message in incoming.receiving.queue.messages { message.freight.setOut() }
        let sent = outgoing.becomeShared(
          producer: toThem, consumer: RingConsumer(memory: mine.memory, lane: end), from: mine, to: theirs)
        let received = incoming.becomeShared(
          producer: toMe, consumer: RingConsumer(memory: mine.memory, lane: 1 - end), from: theirs, to: mine)
        return sent + received
      }
    }
    crashPoint(.shared)
    // What waited in the channel is on its way now; its old objects stand for nothing.
    for message in moved {
      for port in message.ports {
        _ = port.core.lifecycle.change(from: .departing, to: .detached)
        port.core.takeApart(because: .detached)
      }
      message.freight.leave().letGo()
    }
    for lane in [outgoing, incoming] {
      guard let core = lane.state.withLock({ $0.receiving.receiver.core }) else { continue }
      let waitsForSpace = core.outgoing.state.withLock { !$0.sending.spaceWaiters.isEmpty }
      if waitsForSpace || lane.state.withLock({ $0.receiving.receiver.wantsEvents }) { core.watchIfShared() }
      // So far the receiver would have let a poster that waits go on. Now the loop has to announce it on the ring.
      if waitsForSpace { core.loop.schedule(core) }
      core.tellSetWhoListens()
      lane.state.withLock { $0.receiving.receiver.lookAgain() }.perform()
      core.giveBackOverflowWhenRead()
    }
  }
}

extension LocalQueue {
  /// Copies what waits in the local queue onto a new ring. The queue itself stays, in case something fails.
  fileprivate func write(into producer: inout RingProducer, through channel: SharedChannel) throws(ShareError) {
    var policy = GrowthPolicy()
    policy.waitsForConsumer = false
    for message in messages {
      #if PLANTED_FORGOTTEN_MESSAGE
        if PlantedBug.strikes() { continue }
      #endif
      let cores = message.ports.map(\.core)
      for core in cores {
        _ = core.lifecycle.change(from: .open, to: .departing)
        // A port waits, by way of other channels, in its own channel: neither can be first.
        let isMoving =
          core.outgoing.isMoving.load(ordering: .relaxed) || core.incoming.isMoving.load(ordering: .relaxed)
        if isMoving || !core.isShared { throw .holdsItself }
      }
      let header: RecordHeader
      do throws(RingError) {
        header = try message.payload.withBytes { (bytes) throws(RingError) in
          try producer.stage(bytes, policy: policy, contact: channel)
        }
      } catch {
        switch error {
        case .system(let error): throw .port(.system(error))
        default: preconditionFailure("a new ring without a reader refuses nothing: \(error)")
        }
      }
      producer.publish(
        header.carrying(CargoCount(ports: cores.count, descriptors: message.freight.count)))
      // Nobody else has the other end of the new socket, so it cannot be hung up.
      do throws(PortError) {
        if message.cargo != nil { _ = try channel.send(OutgoingPacket(of: cores, message.freight)) }
      } catch {
        throw .port(error)
      }
    }
    producer.publishPosition()
  }

  /// The ports that wait in the queue do not leave after all.
  fileprivate func callOffDeparture() {
    for port in ports {
      port.core.outgoing.state.withLock { $0.sending.producer.sayInMessage(false) }
      _ = port.core.lifecycle.change(from: .departing, to: .open)
    }
  }
}

extension LaneState {
  /// Goes over to the ring, whose both ends are still in this process. Returns the queue that is on the ring now.
  fileprivate mutating func becomeShared(
    producer: consuming RingProducer, consumer: consuming RingConsumer, from sender: SharedChannel,
    to recipient: SharedChannel
  ) -> [QueuedMessage] {
    let isSenderGone = receiving.receiver.peerClosed != nil
    if isSenderGone {
      producer.sayClosed()
      sender.hangUp()
    } else {
      sending.attach(producer, to: sender)
    }
    if !sending.audience.isGone { receiving.attach(RecordReader(consumer), to: recipient) }
    return receiving.queue.removeAll()
  }
}

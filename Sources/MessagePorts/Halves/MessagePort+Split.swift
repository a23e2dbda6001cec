import CSupport
import SharedRing

extension MessagePort {
  /// Takes the port apart into the half that writes and the half that reads, for one thread each: the ring with nothing
  /// in between.
  ///
  /// The port is detached, as by a transfer; its handlers are released. Messages that wait go to the reader. The channel
  /// becomes shared if it was local. ``init(joining:_:)`` puts the halves together again. The end of the channel closes
  /// when both halves are gone.
  ///
  /// The first call in a process registers it for `membarrier`, which takes milliseconds if there are several threads.
  ///
  /// - Throws: ``PortError/closed``, ``PortError/detached``, ``PortError/system(_:)``; the port is as before.
  public func split() throws(PortError) -> (PortWriter, PortReader) {
    let core = self.core
    var halves = try Departure.exclusively { () throws(PortError) -> PortHalves in
      try core.lifecycle.checkUsable()
      try core.share()
      guard core.lifecycle.change(from: .open, to: .detached) == nil else {
        try core.lifecycle.checkUsable()
        throw .detached
      }
      crashPoint(.splitDetached)
      return core.takeHalves()
    }
    crashPoint(.splitTaken)
    core.takeApart(because: .detached)
    halves.producer.isRegisteredForMembarrier = Membarrier.isRegistered
    let end = SplitEnd(channel: halves.channel, end: core.end, options: core.options, loop: core.loop)
    return PortHalves.wrap(consume halves, end)
  }

  /// Puts the two halves of a port together again. What the reader has not read waits in the port; it is not started.
  ///
  /// - Throws: ``PortError/halvesDiffer`` if they are not of one port; both are gone then, and their channels close.
  public convenience init(joining writer: consuming PortWriter, _ reader: consuming PortReader) throws(PortError) {
    guard writer.end === reader.end else { throw .halvesDiffer }
    let end = writer.end
    self.init(PortCore(joining: PortHalves(writer, reader), of: end))
    crashPoint(.joined)
    end.handOver()
    crashPoint(.joinHandedOver)
  }
}

/// Both halves of an end, on their way from a port to their owners.
struct PortHalves: ~Copyable {
  let channel: SharedChannel
  var producer: RingProducer
  var consumer: RingConsumer
  var assembler: MessageAssembler
  /// How the other end broke the protocol, if it did.
  let violation: String?

  init(
    channel: SharedChannel, producer: consuming RingProducer, consumer: consuming RingConsumer,
    assembler: MessageAssembler, violation: String?
  ) {
    self.channel = channel
    self.producer = producer
    self.consumer = consumer
    self.assembler = assembler
    self.violation = violation
  }

  init(_ writer: consuming PortWriter, _ reader: consuming PortReader) {
    channel = writer.end.channel
    assembler = reader.assembler
    violation = reader.violation
    producer = writer.producer
    consumer = reader.consumer
  }

  static func wrap(_ halves: consuming PortHalves, _ end: SplitEnd) -> (PortWriter, PortReader) {
    (PortWriter(end, halves.producer), PortReader(end, halves.consumer, halves.assembler, violation: halves.violation))
  }
}

extension PortCore {
  /// Takes the rings out of the lanes. The channel is shared, and nobody uses this end any more.
  fileprivate func takeHalves() -> PortHalves {
    let producer = outgoing.state.withLock { lane in
      var producer = RingProducer()
      swap(&producer, &lane.producer)
      return producer
    }
    let (assembler, peerClosed) = incoming.state.withLock { ($0.assembler, $0.receiver.peerClosed) }
    let violation: String? = if case .protocolViolation(let what) = peerClosed { what } else { nil }
    guard let channel = incoming.state.withLock({ $0.receivingChannel }) else {
      preconditionFailure("a shared channel has a socket")
    }
    let doorbell = incoming.state.withLock { $0.doorbell }
    let consumer = incoming.state.withLock { lane in
      // Threads that sleep in a receive find the port detached.
      lane.wakeThreads(of: self)
      var consumer = RingConsumer()
      swap(&consumer, &lane.consumer)
      // A poster with a limit has to know of each message that was read.
      consumer.releaseStride = lane.options.queueLimitBytes == nil ? .max : 1
      consumer.release()
      if consumer.takeOwedRing() { channel.ring() }
      return consumer
    }
    sendThreadsAway(from: doorbell)
    return PortHalves(
      channel: channel, producer: producer, consumer: consumer, assembler: assembler, violation: violation)
  }

  /// An end whose halves were apart.
  fileprivate convenience init(joining halves: consuming PortHalves, of end: SplitEnd) {
    var producer = halves.producer
    producer.isRegisteredForMembarrier = false
    self.init(
      outgoing: Lane(end.options, producer: producer, channel: end.channel),
      incoming: Lane(end.options, consumer: halves.consumer, channel: end.channel),
      end: end.end, options: end.options, loop: end.loop)
    let assembler = halves.assembler
    incoming.state.withLock { $0.assembler = assembler }
    if let violation = halves.violation { endReceiving(violation) }
  }
}

/// Whether this process answers `membarrier`, so that writers need no fence while their reader polls.
enum Membarrier {
  static let isRegistered = csupport_membarrier_is_available() == 1 && csupport_membarrier_register() >= 0
}

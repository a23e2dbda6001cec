import SharedRing

/// What makes both halves of an end, on the way from a port to their owners, or back.
struct BareHalves: ~Copyable {
  let channel: SharedChannel
  var producer: RingProducer
  var records: RecordReader
  /// How the other end broke the protocol, if it did.
  let violation: String?

  init(
    channel: SharedChannel, producer: consuming RingProducer, records: consuming RecordReader, violation: String?
  ) {
    self.channel = channel
    self.producer = producer
    self.records = records
    self.violation = violation
  }

  init(_ writer: consuming PortWriter, _ reader: consuming PortReader) {
    channel = writer.end.channel
    violation = reader.violation
    producer = writer.producer
    records = reader.records
  }

  /// The halves, which now hold `end`.
  consuming func bound(to end: SplitEnd) -> PortHalves {
    PortHalves(PortWriter(end, producer), PortReader(end, records, violation: violation))
  }
}

extension PortCore {
  /// The core of an end whose halves were apart.
  convenience init(joining halves: consuming BareHalves, of end: SplitEnd) {
    var producer = halves.producer
    producer.isRegisteredForMembarrier = false
    self.init(
      outgoing: Lane(end.options, producer: producer, channel: end.channel),
      incoming: Lane(end.options, records: halves.records, channel: end.channel),
      end: end.end, options: end.options, loop: end.loop)
    if let violation = halves.violation { endReceiving(violation) }
  }
}

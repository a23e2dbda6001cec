import SharedRing

/// Both halves of an end, on their way from a port to their owners, or back.
struct PortHalves: ~Copyable {
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

  static func wrap(_ halves: consuming PortHalves, _ end: SplitEnd) -> (PortWriter, PortReader) {
    (PortWriter(end, halves.producer), PortReader(end, halves.records, violation: halves.violation))
  }
}

extension PortCore {
  /// An end whose halves were apart.
  convenience init(joining halves: consuming PortHalves, of end: SplitEnd) {
    var producer = halves.producer
    producer.isRegisteredForMembarrier = false
    self.init(
      outgoing: Lane(end.options, producer: producer, channel: end.channel),
      incoming: Lane(end.options, records: halves.records, channel: end.channel),
      end: end.end, options: end.options, loop: end.loop)
    if let violation = halves.violation { endReceiving(violation) }
  }
}

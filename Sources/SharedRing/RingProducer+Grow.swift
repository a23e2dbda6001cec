import CSupport

extension RingProducer {
  /// Continues the lane in a new segment of `capacity` bytes, where the next record goes.
  ///
  /// The consumer finds out when it gets to the link record, for which space is always reserved. After a failure,
  /// nothing has changed.
  package mutating func grow(capacity requested: Int) throws(RingError) {
    guard let memory else { preconditionFailure("growing a lane that is not attached") }
    precondition(!isBatching, "a batch never grows its lane")
    let newCapacity = min(
      (requested + RingLayout.pageBytes - 1) / RingLayout.pageBytes * RingLayout.pageBytes, RingLayout.largestCapacity)
    let offset = segment.offsetOfNext(capacity: newCapacity, lane: laneIndex)
    let mapping: Mapping
    do throws(SystemError) {
      try check("fallocate") { csupport_memory_reserve(memory.fd, offset, UInt64(newCapacity)) }
      crashPoint(.growReserved)
      mapping = try memory.mapSegment(at: offset, byteCount: newCapacity)
    } catch {
      _ = csupport_memory_discard(memory.fd, offset, UInt64(newCapacity))
      throw .system(error)
    }
    crashPoint(.growMapped)
    unsafe RecordHeader.terminate(at: mapping.address)

    let linkBytes = RecordHeader.recordBytes(payloadBytes: 16)
    if unsafe segment.room(from: cursor) < linkBytes { wrap() }
    unsafe (cursor + 8).storeBytes(of: offset, as: UInt64.self)
    unsafe (cursor + 16).storeBytes(of: UInt64(newCapacity), as: UInt64.self)
    let link = RecordHeader(kind: .link, byteCount: 16)
    crashPoint(.growLinkWritten)
    unsafe link.commit(at: cursor)
    crashPoint(.growLinked)

    segmentPosition = position &+ UInt64(linkBytes)
    segment = Segment(mapping, lapPosition: segmentPosition)
    unsafe cursor = unsafe segment.start
    recomputeLimit(released: seenReleased)
  }

  /// Goes on in a segment that the lane may keep, and gives back the memory of the big one. All of that was read, and
  /// nobody knows when the consumer will look again. What it then finds stays: a pad perhaps, and the link.
  package mutating func shrink(_ policy: GrowthPolicy) throws(RingError) {
    let (oldOffset, oldCapacity, linkOffset) = (segment.offset, capacity, unsafe cursor - segment.start)
    try grow(capacity: policy.steadyCapacity)
    crashPoint(.shrunk)
    guard let memory else { return }
    let page = RingLayout.pageBytes
    let linkEnd = min(linkOffset + RecordHeader.recordBytes(payloadBytes: 16), oldCapacity)
    let before = page..<max(page, linkOffset / page * page)
    let behind = (linkEnd + page - 1) / page * page..<oldCapacity
    for unused in [before, behind] where !unused.isEmpty {
      _ = csupport_memory_discard(memory.fd, oldOffset + UInt64(unused.lowerBound), UInt64(unused.count))
    }
  }
}

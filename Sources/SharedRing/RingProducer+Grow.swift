import CSupport

extension RingProducer {
  /// Continues the lane in a new segment of `capacity` bytes. Whatever is written next goes there.
  ///
  /// The consumer finds out when it gets to the link record, for which space is always reserved. On failure nothing
  /// has changed.
  package mutating func grow(capacity requested: Int) throws(RingError) {
    guard let memory else { preconditionFailure("growing a lane that is not attached") }
    precondition(!isBatching, "a batch never grows its lane")
    let newCapacity = min(
      (requested + RingLayout.pageBytes - 1) / RingLayout.pageBytes * RingLayout.pageBytes, RingLayout.largestCapacity)
    let offset = nextSegmentOffset(capacity: newCapacity)
    let mapping: Mapping
    do throws(SystemError) {
      try check("fallocate") { csupport_memory_reserve(memory.fd, offset, UInt64(newCapacity)) }
      crashPoint(.growReserved)
      mapping = try Mapping(fd: memory.fd, fileOffset: offset, byteCount: newCapacity)
    } catch {
      _ = csupport_memory_discard(memory.fd, offset, UInt64(newCapacity))
      throw .system(error)
    }
    crashPoint(.growMapped)
    unsafe RecordHeader.terminate(at: mapping.address)

    let linkBytes = RecordHeader.recordBytes(payloadBytes: 16)
    if unsafe end - cursor < linkBytes { wrap() }
    unsafe (cursor + 8).storeBytes(of: offset, as: UInt64.self)
    unsafe (cursor + 16).storeBytes(of: UInt64(newCapacity), as: UInt64.self)
    let link = RecordHeader(kind: .link, byteCount: 16)
    crashPoint(.growLinkWritten)
    unsafe link.commit(at: cursor)
    crashPoint(.growLinked)

    segmentPosition = position &+ UInt64(linkBytes)
    lapPosition = segmentPosition
    unsafe start = unsafe mapping.address
    unsafe cursor = unsafe mapping.address
    unsafe end = unsafe mapping.address + newCapacity
    segmentOffset = offset
    segment = consume mapping
    recomputeLimit(released: seenReleased)
  }

  /// Goes on in a segment that the lane may keep, and gives the memory of the big one back, of which everything was read:
  /// it is not known when the consumer will look again. What it finds when it does stays: a pad perhaps, and the link.
  package mutating func shrink(_ policy: GrowthPolicy) throws(RingError) {
    let (oldOffset, oldCapacity, linkOffset) = (segmentOffset, capacity, unsafe cursor - start)
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

  /// Segments follow each other through the lane's region, and start over when it is used up: by then, with at most
  /// a few gigabytes unread, its beginning has long been left by the consumer.
  private func nextSegmentOffset(capacity: Int) -> UInt64 {
    let regionStart = RingLayout.regionOffset(lane: laneIndex)
    guard segmentOffset >= regionStart else { return regionStart }
    let next = segmentOffset + UInt64(self.capacity)
    return next + UInt64(capacity) <= regionStart + RingLayout.regionBytes ? next : regionStart
  }
}

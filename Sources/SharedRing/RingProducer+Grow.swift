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
      mapping = try Mapping(fd: memory.fd, fileOffset: offset, byteCount: newCapacity)
    } catch {
      _ = csupport_memory_discard(memory.fd, offset, UInt64(newCapacity))
      throw .system(error)
    }
    unsafe RecordHeader.terminate(at: mapping.address)

    let linkBytes = RecordHeader.recordBytes(payloadBytes: 16)
    if unsafe end - cursor < linkBytes { wrap() }
    unsafe (cursor + 8).storeBytes(of: offset, as: UInt64.self)
    unsafe (cursor + 16).storeBytes(of: UInt64(newCapacity), as: UInt64.self)
    let link = RecordHeader(kind: .link, byteCount: 16)
    unsafe link.commit(at: cursor)

    segmentPosition = position &+ UInt64(linkBytes)
    lapPosition = segmentPosition
    unsafe start = unsafe mapping.address
    unsafe cursor = unsafe mapping.address
    unsafe end = unsafe mapping.address + newCapacity
    segmentOffset = offset
    segment = consume mapping
    recomputeLimit(released: seenReleased)
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

/// Where a producer or consumer stands in its lane: what moves to the new owner when the end is transferred.
///
/// The previous owner wrote it, so the new one believes none of it before ``isPlausible(in:lane:)``. A lie that passes
/// can make a mess of the liar's own channel only.
package struct LanePosition: Hashable, Sendable {
  /// Where the segment lies in the file; 0: the initial data.
  package var segmentOffset: UInt64
  package var capacity: UInt64
  /// From the segment's start to the next header.
  package var cursorOffset: UInt64
  /// The lane position of the next header.
  package var position: UInt64
  /// The lane position at which the segment began (for a producer).
  package var segmentPosition: UInt64

  package init(
    segmentOffset: UInt64, capacity: UInt64, cursorOffset: UInt64, position: UInt64, segmentPosition: UInt64
  ) {
    self.segmentOffset = segmentOffset
    self.capacity = capacity
    self.cursorOffset = cursorOffset
    self.position = position
    self.segmentPosition = segmentPosition
  }

  /// No lane ever gets this far, in bytes. Differences between positions stay far from what an `Int` can hold, so that
  /// sums of them cannot overflow.
  private static var limit: UInt64 { 1 << 62 }

  func isPlausible(in memory: ChannelMemory, lane: Int) -> Bool {
    guard RingLayout.isPlausibleCapacity(capacity), cursorOffset % 8 == 0, cursorOffset <= capacity - 8,
      segmentPosition <= position, position <= Self.limit
    else { return false }
    if segmentOffset == 0 { return capacity == UInt64(memory.laneCapacity) }
    let regionStart = RingLayout.regionOffset(lane: lane)
    let page = UInt64(RingLayout.pageBytes)
    guard segmentOffset >= regionStart, segmentOffset <= regionStart + RingLayout.regionBytes - capacity,
      segmentOffset % page == 0, capacity % page == 0
    else { return false }
    guard let facts = try? ChannelMemory.fileFacts(memory.fd) else { return false }
    return facts.size_bytes >= segmentOffset + capacity
  }
}

extension LanePosition {
  /// The mapping of the segment, unless it is the initial data.
  func mapSegment(of memory: ChannelMemory, lane: Int) throws(ResumeError) -> Mapping? {
    guard isPlausible(in: memory, lane: lane) else { throw .implausible }
    guard segmentOffset != 0 else { return nil }
    do throws(SystemError) {
      return try Mapping(fd: memory.fd, fileOffset: segmentOffset, byteCount: Int(capacity))
    } catch {
      throw .system(error)
    }
  }
}

/// A position that cannot be one, or whose segment could not be mapped.
package enum ResumeError: Error, Hashable {
  case implausible
  case system(SystemError)
}

extension RingProducer {
  /// Where this producer stands. Nothing may be staged.
  package var lanePosition: LanePosition {
    LanePosition(
      segmentOffset: segmentOffset, capacity: UInt64(capacity), cursorOffset: UInt64(unsafe cursor - start),
      position: position, segmentPosition: segmentPosition)
  }

  /// The producer of an end that arrived here: it goes on where the previous owner stopped.
  package static func resume(
    memory: ChannelMemory, lane: Int, at saved: LanePosition
  ) throws(ResumeError) -> RingProducer {
    let segment = try saved.mapSegment(of: memory, lane: lane)
    var producer = RingProducer(memory: memory, lane: lane)
    producer.enter(segment, at: saved)
    return producer
  }

  private mutating func enter(_ mapping: consuming Mapping?, at saved: LanePosition) {
    if let mapping = consume mapping {
      unsafe start = unsafe mapping.address
      segment = consume mapping
    }
    unsafe end = unsafe start + Int(saved.capacity)
    unsafe cursor = unsafe start + Int(saved.cursorOffset)
    segmentOffset = saved.segmentOffset
    segmentPosition = saved.segmentPosition
    lapPosition = saved.position &- saved.cursorOffset
    unsafe limit = unsafe cursor  // room is found out with the first message
  }
}

extension RingConsumer {
  /// Where this consumer stands. Everything read has been released.
  package var lanePosition: LanePosition {
    LanePosition(
      segmentOffset: segmentOffset, capacity: UInt64(capacity), cursorOffset: UInt64(unsafe cursor - start),
      position: position, segmentPosition: 0)
  }

  /// The consumer of an end that arrived here: it goes on where the previous owner stopped.
  package static func resume(
    memory: ChannelMemory, lane: Int, at saved: LanePosition
  ) throws(ResumeError) -> RingConsumer {
    let segment = try saved.mapSegment(of: memory, lane: lane)
    var consumer = RingConsumer(memory: memory, lane: lane)
    consumer.enter(segment, at: saved)
    return consumer
  }

  private mutating func enter(_ mapping: consuming Mapping?, at saved: LanePosition) {
    if let mapping = consume mapping {
      unsafe start = unsafe mapping.address
      segment = consume mapping
    }
    unsafe end = unsafe start + Int(saved.capacity)
    unsafe cursor = unsafe start + Int(saved.cursorOffset)
    unsafe emptyCursor = unsafe cursor
    segmentOffset = saved.segmentOffset
    lapPosition = saved.position &- saved.cursorOffset
    released = saved.position
    setReleasePoint()
  }
}

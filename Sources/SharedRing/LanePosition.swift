/// Where a producer or consumer stands in its lane: what moves to the new owner when the end is transferred.
///
/// The previous owner wrote it, so the new one believes none of it before ``segment(of:lane:)`` has succeeded. A lie
/// that passes makes a mess of nothing but the liar's own channel.
package struct LanePosition: Hashable, Sendable {
  /// Where the segment lies in the file; 0 for the initial data.
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

  /// No lane ever gets this far. Differences between positions are so much smaller than what an `Int` can hold that
  /// sums of them cannot overflow.
  private static var limit: UInt64 { 1 << 62 }

  var isPlausible: Bool {
    RingLayout.isPlausibleCapacity(capacity) && cursorOffset % 8 == 0 && cursorOffset <= capacity - 8
      && segmentPosition <= position && position <= Self.limit
  }

  /// The segment, with its lap, checked.
  func segment(of memory: ChannelMemory, lane: Int) throws(ResumeError) -> Segment {
    guard isPlausible else { throw .implausible }
    let lapPosition = position &- cursorOffset
    if segmentOffset == 0 {
      guard capacity == UInt64(memory.laneCapacity) else { throw .implausible }
      return Segment(initialOf: memory, lane: lane, lapPosition: lapPosition)
    }
    let place = Segment.Place(offset: segmentOffset, capacity: capacity)
    do throws(Segment.Refusal) {
      return try Segment(at: place, of: memory, lane: lane, lapPosition: lapPosition)
    } catch {
      switch error {
      case .outsideRegion, .beyondFile: throw .implausible
      case .system(let error): throw .system(error)
      }
    }
  }
}

/// Why a side cannot go on from a position.
package enum ResumeError: Error, Hashable {
  case implausible
  case system(SystemError)
}

extension RingProducer {
  /// Where this producer stands. Nothing may be staged.
  package var lanePosition: LanePosition {
    unsafe segment.lanePosition(cursor: cursor, segmentPosition: segmentPosition)
  }

  /// The producer of an end that arrived here: it goes on where the previous owner stopped.
  package static func resume(
    memory: ChannelMemory, lane: Int, at saved: LanePosition
  ) throws(ResumeError) -> RingProducer {
    var producer = RingProducer(memory: memory, lane: lane)
    producer.segment = try saved.segment(of: memory, lane: lane)
    unsafe producer.cursor = unsafe producer.segment.start + Int(saved.cursorOffset)
    producer.segmentPosition = saved.segmentPosition
    unsafe producer.limit = unsafe producer.cursor  // the first message looks for room
    return producer
  }
}

extension RingConsumer {
  /// Where this consumer stands. Everything read has been released.
  package var lanePosition: LanePosition { unsafe segment.lanePosition(cursor: cursor, segmentPosition: 0) }

  /// The consumer of an end that arrived here: it goes on where the previous owner stopped.
  package static func resume(
    memory: ChannelMemory, lane: Int, at saved: LanePosition
  ) throws(ResumeError) -> RingConsumer {
    var consumer = RingConsumer(memory: memory, lane: lane)
    consumer.segment = try saved.segment(of: memory, lane: lane)
    unsafe consumer.cursor = unsafe consumer.segment.start + Int(saved.cursorOffset)
    unsafe consumer.emptyCursor = unsafe consumer.cursor
    consumer.released = saved.position
    consumer.setReleasePoint()
    return consumer
  }
}

extension Segment {
  fileprivate func lanePosition(cursor: UnsafeMutableRawPointer, segmentPosition: UInt64) -> LanePosition {
    LanePosition(
      segmentOffset: offset, capacity: UInt64(capacity), cursorOffset: UInt64(unsafe cursor - start),
      position: unsafe position(of: cursor), segmentPosition: segmentPosition)
  }
}

import CSupport

/// The piece of a channel's memory in which one side of a lane goes on: its addresses, and where in the lane they are.
///
/// Producer and consumer have one each, of the same memory or, while the consumer lags, of different ones.
@safe  // The addresses lie in a mapping that this owns, or that the channel's memory keeps.
@usableFromInline struct Segment: ~Copyable {
  @usableFromInline let start: UnsafeMutableRawPointer
  @usableFromInline let end: UnsafeMutableRawPointer
  /// The lane position of `start` in this lap.
  @usableFromInline var lapPosition: UInt64
  /// Where it lies in the file; 0 for the initial data in the first pages.
  let offset: UInt64
  /// Keeps the addresses valid; `nil` for the initial data, which the channel's memory maps.
  private let mapping: Mapping?

  /// Memory that outlives this value.
  @unsafe init(start: UnsafeMutableRawPointer, capacity: Int, lapPosition: UInt64 = 0) {
    unsafe self.start = unsafe start
    unsafe end = unsafe start + capacity
    self.lapPosition = lapPosition
    offset = 0
    mapping = nil
  }

  /// The lane's initial data.
  init(initialOf memory: ChannelMemory, lane: Int, lapPosition: UInt64 = 0) {
    unsafe self.init(
      start: memory.initialData(lane: lane), capacity: memory.laneCapacity, lapPosition: lapPosition)
  }

  /// All of a mapping in the lane's region.
  init(_ mapping: consuming Mapping, lapPosition: UInt64) {
    unsafe start = unsafe mapping.address
    unsafe end = unsafe mapping.address + mapping.byteCount
    self.lapPosition = lapPosition
    offset = mapping.fileOffset
    self.mapping = consume mapping
  }

  var isInitial: Bool { offset == 0 }

  @inlinable @inline(__always)
  var capacity: Int { unsafe end - start }

  /// How many bytes there are from `cursor` to the end.
  @inlinable @inline(__always)
  func room(from cursor: UnsafeMutableRawPointer) -> Int { unsafe end - cursor }

  /// The lane position of `cursor` in this lap.
  @inlinable @inline(__always)
  func position(of cursor: UnsafeMutableRawPointer) -> UInt64 {
    unsafe lapPosition &+ UInt64(truncatingIfNeeded: cursor - start)
  }

  /// Begins the next lap, and returns where.
  @unsafe mutating func startLap() -> UnsafeMutableRawPointer {
    lapPosition &+= UInt64(capacity)
    return unsafe start
  }
}

// MARK: - In the lane's region

extension Segment {
  /// Where a segment is said to lie in the file. The peer says so; it is believed when it has been mapped.
  struct Place {
    let offset: UInt64
    let capacity: UInt64

    /// Whether a correct producer of the lane can have put a segment there.
    func isInside(regionOf lane: Int) -> Bool {
      let page = UInt64(RingLayout.pageBytes)
      let regionStart = RingLayout.regionOffset(lane: lane)
      return capacity >= page && capacity <= UInt64(RingLayout.largestCapacity)
        && capacity % page == 0 && offset % page == 0
        && offset >= regionStart && offset <= regionStart + RingLayout.regionBytes - capacity
    }
  }

  /// Why there is no segment at a place.
  enum Refusal: Error {
    case outsideRegion
    case beyondFile
    case system(SystemError)
  }

  /// Maps the segment at `place`, after finding out that it can be one.
  init(at place: Place, of memory: ChannelMemory, lane: Int, lapPosition: UInt64) throws(Refusal) {
    guard place.isInside(regionOf: lane) else { throw .outsideRegion }
    let fileBytes: UInt64
    let mapping: Mapping
    do throws(SystemError) {
      fileBytes = try ChannelMemory.fileFacts(memory.fd).size_bytes
    } catch {
      throw .system(error)
    }
    // The file cannot shrink, so what is inside now stays inside.
    guard fileBytes >= place.offset + place.capacity else { throw .beyondFile }
    do throws(SystemError) {
      mapping = try memory.mapSegment(at: place.offset, byteCount: Int(place.capacity))
    } catch {
      throw .system(error)
    }
    self.init(mapping, lapPosition: lapPosition)
  }

  /// Segments follow each other through the lane's region, and start over when it is used up: by then, with at most
  /// a few gigabytes unread, its beginning has long been left by the consumer.
  func offsetOfNext(capacity: Int, lane: Int) -> UInt64 {
    let regionStart = RingLayout.regionOffset(lane: lane)
    guard offset >= regionStart else { return regionStart }
    let next = offset + UInt64(self.capacity)
    return next + UInt64(capacity) <= regionStart + RingLayout.regionBytes ? next : regionStart
  }
}

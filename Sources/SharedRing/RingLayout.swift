import CSupport

/// Sizes, offsets and limits of a channel's memory; the drawing is in `CSupport/include/ring_layout.h`.
///
/// One file holds the channel: first the header and both lanes' initial data, and far behind that, sparse, a region for
/// each lane, where its producer places bigger segments. The file can grow and never shrinks, so a segment needs no
/// descriptor of its own, and what was once inside the file stays inside.
package enum RingLayout {
  package static var magic: UInt64 { 0x5452_4f50_4753_4d01 }  // "\x01MSGPORT", little-endian
  /// Both sides must have the same; it changes with every incompatible change of memory, records or packets.
  package static var version: UInt32 { 3 }

  @inlinable package static var pageBytes: Int { 4096 }
  @inlinable package static var headerBytes: Int { CSUPPORT_CHANNEL_HEADER_BYTES }
  /// What fits beside the header in the first page.
  @inlinable package static var smallestCapacity: Int { (pageBytes - headerBytes) / 2 }
  /// The largest segment a producer makes and a consumer accepts.
  @inlinable package static var largestCapacity: Int { 1 << 30 }

  /// Segments up to here, which a lane keeps, are treated as the channel's first pages are where those are to be resident. Larger
  /// ones hold unread data, and are given back.
  static var residentSegmentBytes: Int { 1 << 20 }

  /// Kept free at all times, so that a full lane can still say where it continues, or that a message is abandoned:
  /// perhaps a pad first (at most 32 bytes), an abort (8), a link (24) and the header behind it, with room to spare.
  @inlinable package static var reservedBytes: Int { 128 }

  /// Each lane's region for segments: `regionBytes` from `regionOffset(lane)`.
  package static var regionBytes: UInt64 { 1 << 40 }
  package static func regionOffset(lane: Int) -> UInt64 { UInt64(lane + 1) << 40 }

  /// Where a lane's header group lies.
  @inlinable package static func laneOffset(_ lane: Int) -> Int {
    CSUPPORT_LANES + lane * CSUPPORT_LANE_BYTES
  }
  /// Where a lane's initial data lies.
  package static func initialDataOffset(lane: Int, capacity: Int) -> Int { headerBytes + lane * capacity }
  /// How much of the file the header and both lanes' initial data take, in whole pages.
  package static func baseBytes(capacity: Int) -> Int {
    (headerBytes + 2 * capacity + pageBytes - 1) / pageBytes * pageBytes
  }

  /// The capacity a lane really gets: at least `requested`, filling the last page, a multiple of 64. Never more than
  /// the other end accepts.
  package static func roundedCapacity(_ requested: Int) -> Int {
    let wanted = min(max(requested, smallestCapacity), largestCapacity)
    let pages = (headerBytes + 2 * wanted + pageBytes - 1) / pageBytes
    return min((pages * pageBytes - headerBytes) / 2 / 64 * 64, largestCapacity)
  }

  package static func isPlausibleCapacity(_ capacity: UInt64) -> Bool {
    capacity >= UInt64(smallestCapacity) && capacity <= UInt64(largestCapacity) && capacity % 64 == 0
  }
}

import CSupport

/// A point in time that processes can compare.
struct Moment: Codable, Comparable, Sendable {
  private let nanoseconds: UInt64

  static var now: Moment { Moment(nanoseconds: csupport_monotonic_ns()) }

  static func < (earlier: Moment, later: Moment) -> Bool { earlier.nanoseconds < later.nanoseconds }
}

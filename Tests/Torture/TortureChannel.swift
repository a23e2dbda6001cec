/// A channel as the coordinator knows it, between rounds.
struct TortureChannel {
  let id: UInt32
  /// Where its ends are.
  var workers: [Int]
  /// Whether somebody takes what comes there.
  var isRead = [true, true]
  /// It connects two workers as long as both live, and carries others. It is never moved.
  var isTrunk = false

  func port(_ end: Int) -> PortID { PortID(channel: id, end: end) }
}

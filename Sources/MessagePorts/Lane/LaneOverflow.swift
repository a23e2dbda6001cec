import SharedRing

/// What a lane took when its receiver did not keep up is given back once that was read, although nothing more is posted:
/// the poster's loop waits for the reading as it would for space.
enum LaneOverflow: Sendable, Equatable {
  /// There is none, or it has not been noticed.
  case none
  case noticed
  /// The receiver was asked, on the doorbell, to tell when it has read further than this.
  case announced(position: UInt64)
  /// It did, and there was more to read. A receiver that gets on is not to be bothered with each step.
  case resting
}

extension SendingHalf {
  private var holdsOverflow: Bool { transport.channel != nil && !audience.isGone && producer.hasOverflowed(policy) }

  /// Whether the lane has overflowed since it was last asked: the poster's loop has to see to it then.
  mutating func noticeOverflow() -> Bool {
    guard overflow == .none, holdsOverflow else { return false }
    overflow = .noticed
    return true
  }

  /// Gives an overflow back that was read; otherwise says whether the doorbell has to be armed for it.
  ///
  /// - Parameter rest: to ask again a little later.
  mutating func overflowNeedsDoorbell(rest: () -> Void) -> Bool {
    guard overflow != .none else { return false }
    guard holdsOverflow else {
      overflow = .none
      return false
    }
    let unread = producer.unreleasedBytes()
    if unread == 0 {
      overflow = .none
      // Without memory for a small segment, there is still the big one.
      guard (try? producer.shrink(policy)) != nil else { return false }
      // The receiver leaves the big one when it looks.
      wakeReceiver()
      return false
    }
    let position = producer.position - UInt64(unread)
    if case .announced(let before) = overflow, position > before {
      overflow = .resting
      rest()
    }
    guard overflow != .resting else { return false }
    overflow = .announced(position: position)
    return true
  }
}

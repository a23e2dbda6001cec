import SharedRing

/// One lock for the process puts all operations that concern several lanes in a row.
///
/// Under it, any lanes may be locked together, because nobody else ever waits for a lane while holding another one's
/// lock. What takes long and concerns one lane only, to wait for a post that is under way or to copy a message onto a ring,
/// is done outside: the ports that leave stay `departing` meanwhile, and whoever wants to use them waits for the outcome.
enum TransferLock {
  /// How many wait for transfers that go on outside.
  private static let waiters = PerProcess { 0 }
  private static let ended = PrivateWord()

  /// Returns once `isUnderWay` says no more that a transfer is, which has succeeded or failed then. Not to be called with
  /// a lane locked.
  static func wait(while isUnderWay: () -> Bool) {
    var hasWaited = false
    while true {
      let ticket = waiters.withLock { waiters -> PrivateWord.Ticket? in
        if hasWaited { waiters -= 1 }
        guard isUnderWay() else { return nil }
        waiters += 1
        return ended.ticket
      }
      guard let ticket else { return }
      hasWaited = true
      ticket.wait(timeoutNanoseconds: -1)
    }
  }

  /// Runs `body` as the only operation of the process that locks several lanes.
  static func exclusively<Result: ~Copyable, Failure: Error>(
    _ body: () throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    try waiters.withLock { _ throws(Failure) in try body() }
  }

  /// Lets `body` write down that a transfer is over, for those who wait.
  static func end(_ body: () -> Void) {
    let areAwaited = waiters.withLock { waiters in
      body()
      return waiters > 0
    }
    if areAwaited { ended.ring() }
  }
}

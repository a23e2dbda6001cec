import Synchronization

/// One lock for the process puts all operations that concern several lanes in a row.
///
/// Under it, any lanes may be locked together, because nobody else ever waits for a lane while holding another one's
/// lock. A port that is being transferred is `departing`; whoever wants to use it meanwhile waits for the outcome here.
enum TransferLock {
  private static let lock = Mutex<Void>(())

  /// Returns once the transfer under way, if any, has succeeded or failed. Not to be called with a lane locked.
  static func waitForOthers() { lock.withLock { _ in } }

  /// Runs `body` as the only operation of the process that locks several lanes.
  static func exclusively<Result: ~Copyable, Failure: Error>(
    _ body: () throws(Failure) -> sending Result
  ) throws(Failure) -> sending Result {
    try lock.withLock { _ throws(Failure) in try body() }
  }
}

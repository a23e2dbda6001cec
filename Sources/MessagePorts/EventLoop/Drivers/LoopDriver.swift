import SharedRing

/// What has happened while a loop slept.
enum LoopEvent {
  /// A client's message doorbell rang, or its wait has to be armed anew.
  case message(EventLoop.Token)
  /// The same for a poster that waits for space.
  case space(EventLoop.Token)
  /// A watched descriptor has something to say.
  case descriptor(EventLoop.Token, events: UInt32)
}

enum LoopWait: UInt64 {
  case message = 0
  case space = 1
}

/// What a loop sleeps on: all that a new kind needs, but for its line in ``DriverChoice``.
protocol LoopDriver: AnyObject, Sendable {
  // MARK: From any thread

  var kind: EventLoop.Driver { get }
  /// Ends the sleep of the loop's thread, or the one that it is about to begin.
  func wake()
  /// Begins to tell of `events` on a descriptor, of its hang-up in any case, and of rings if it is a client's socket
  /// and this driver is rung there. Returns 0, or a negative error.
  func watch(_ fd: CInt, events: UInt32, isClient: Bool, _ token: EventLoop.Token) -> CInt
  /// Takes effect at once.
  func unwatch(_ fd: CInt)

  // MARK: On the loop's thread

  /// What a client that is about to sleep says in its doorbell.
  var doorbell: UInt32 { get }
  /// To be read before looking whether there is anything to do: a sleep since then ends at once if it was woken.
  var ticket: UInt32 { get }
  /// Sees to it that a ring on `word` ends the sleep; the memory stays mapped until it has, or ``disarm(_:)``.
  func arm(_ wait: LoopWait, _ token: EventLoop.Token, _ word: UnsafeMutableRawPointer, in memory: ChannelMemory)
  /// Ends the waits of a client that is gone.
  func disarm(_ token: EventLoop.Token)
  /// Collects what has happened, some hundred events at most; if `ticket` is given, sleeps until something does, the
  /// time is over (negative: never), or the loop was woken since the ticket.
  ///
  /// Returns what has to take over, if the kernel will not let this driver work any more.
  func collect(
    sleepingSince ticket: UInt32?, timeoutNanoseconds: Int64, into events: inout [LoopEvent]
  ) -> (any LoopDriver)?
}

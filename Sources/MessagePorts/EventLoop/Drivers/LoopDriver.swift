import SharedRing

/// What has happened while a loop slept.
enum LoopEvent {
  /// A client's message doorbell was signalled, or its wait has to be armed anew.
  case message(EventLoop.Token)
  /// The same for its space doorbell.
  case space(EventLoop.Token)
  /// A watched descriptor has something to say.
  case descriptor(EventLoop.Token, events: UInt32)
}

enum LoopWait: UInt64 {
  case message = 0
  case space = 1
}

/// What a loop sleeps on. A new kind needs all of this, and a line in ``DriverChoice``.
protocol LoopDriver: AnyObject, Sendable {
  // MARK: From any thread

  var kind: EventLoop.Driver { get }
  /// Ends the sleep of the loop's thread, or the one that it is about to begin.
  func wake()
  /// Begins to tell of `events` on a descriptor, of its hang-up in any case, and of each packet if it is a client's
  /// socket. Returns 0, or a negative error.
  func watch(_ fd: CInt, events: UInt32, isClient: Bool, _ token: EventLoop.Token) -> CInt
  /// Takes effect at once.
  func unwatch(_ fd: CInt)

  // MARK: On the loop's thread

  /// What a client that is about to sleep says in its doorbell.
  var doorbell: UInt32 { get }
  /// Read it before looking for work: a sleep since this ticket ends at once if there was a wake-up after it.
  var ticket: UInt32 { get }
  /// Makes a signal on `word` end the sleep. The memory stays mapped until it has, or until ``disarm(_:)``.
  func arm(_ wait: LoopWait, _ token: EventLoop.Token, _ word: UnsafeMutableRawPointer, in memory: ChannelMemory)
  /// Ends the waits of a client that is gone.
  func disarm(_ token: EventLoop.Token)
  /// Collects what has happened, a few hundred events at most. With a `ticket`, first sleeps until something does, the
  /// time is up (negative: never), or the loop was woken since the ticket.
  ///
  /// Returns the driver that has to take over, if the kernel no longer lets this one work.
  func collect(
    sleepingSince ticket: UInt32?, timeoutNanoseconds: Int64, into events: inout [LoopEvent]
  ) -> (any LoopDriver)?
  /// The thread ends: what others do for it ends as well.
  func stopLookingOut()
}

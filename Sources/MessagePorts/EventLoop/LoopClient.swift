import SharedRing

/// Whoever wants to hear of events on a descriptor. Called on the loop's thread.
protocol LoopWatcher: AnyObject, Sendable {
  func ready(_ events: UInt32)
  /// The loop was stopped, and will tell nothing any more. On any thread.
  func loopHasEnded()
}

extension LoopWatcher {
  func loopHasEnded() {}
}

/// Whoever gets turns on a loop, and sleeps on doorbells in between. All that a loop knows of a port. Whenever it
/// is ready, it has a turn next.
protocol LoopClient: LoopWatcher {
  /// The loop that it belongs to now.
  var loop: EventLoop { get }
  /// A loop's note, kept here for it; see `LoopStanding`.
  var loopNote: UInt64 { get set }
  /// Does up to `budget` things, on `runner`'s thread. If the client has another loop by now, leaves them to that one.
  func turn(budget: Int, on runner: EventLoop) -> TurnResult
  /// Whether something has come, for a loop that looks around before it sleeps. Claims the next turn if so.
  func claimTurnIfReady() -> Bool
  /// Says on the doorbell for messages that the loop is going to sleep.
  func prepareToSleep(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation
  /// Lets the posters go on that have room now, and announces on the space doorbell that others wait.
  func spaceTurn(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation
  /// How `loop` knows this client, if it is the client's loop and watches it. For arming a doorbell.
  func tokenForDoorbell(on loop: EventLoop) -> EventLoop.Token?
  /// Returns once whatever was about to be called has been, or will not be: something was decided that forbids it.
  func finishCall()
  /// `loop` was stopped: it no longer keeps this client alive.
  func letGo(of loop: EventLoop)
}

/// What a client's turn came to.
enum TurnResult {
  /// There may be more to deliver: it needs another turn, after the others have had theirs.
  case more
  /// The same, but what was done is more than a port's share already: the others come first, also those that have
  /// something to do only by then.
  case spent
  /// Everything was delivered: arm the doorbell.
  case wait
  /// Everything was delivered, and nothing needs to be armed.
  case idle
  /// Something waits that cannot be taken because resources ran out: try again soon.
  case blocked
}

/// What came of saying on a doorbell that the loop is going to sleep.
@safe
enum SleepPreparation: @unchecked Sendable {  // the word lies in the memory
  case ready(UnsafeMutableRawPointer, ChannelMemory)
  /// There is something to do after all.
  case hasWork
  /// Nobody will ring: it has to be asked again soon.
  case mustPoll
  case notNeeded
}

import SharedRing

/// Who wants to know of events on a descriptor. Called on the loop's thread.
protocol LoopWatcher: AnyObject, Sendable {
  func ready(_ events: UInt32)
}

/// Whoever gets turns on a loop, and sleeps on doorbells between them. All that a loop knows of a port.
protocol LoopClient: LoopWatcher {
  /// The loop that it belongs to now.
  var loop: EventLoop { get }
  /// Does up to `budget` things, on `runner`'s thread. If the client has another loop by now, that one is asked to.
  func turn(budget: Int, on runner: EventLoop) -> TurnResult
  /// Whether something has come, for a loop that looks around before it sleeps. Claims the next turn if so.
  func claimTurnIfReady() -> Bool
  /// Says on the doorbell for messages that the loop is going to sleep.
  func prepareToSleep(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation
  /// Lets those go on for whom there is room, and announces on the doorbell for space that others wait.
  func spaceTurn(_ doorbell: UInt32, on runner: EventLoop) -> SleepPreparation
  /// How `loop` knows this client, if it is the client's loop and watches it: to arm a doorbell.
  func tokenForDoorbell(on loop: EventLoop) -> EventLoop.Token?
  /// `loop` was stopped: it does not keep this client alive any more.
  func letGo(of loop: EventLoop)
}

/// What a client's turn came to.
enum TurnResult {
  /// There may be more to deliver: another turn, after the others had theirs.
  case more
  /// Everything was delivered; arm the doorbell.
  case wait
  /// Everything was delivered, and nothing needs to be armed.
  case idle
  /// Something waits and cannot be taken because resources lack: try again soon.
  case blocked
}

/// What came of saying on a doorbell that the loop is going to sleep.
@safe
enum SleepPreparation: @unchecked Sendable {  // the word lies in the memory
  case ready(UnsafeMutableRawPointer, ChannelMemory)
  /// There is something to do after all.
  case hasWork
  case notNeeded
}

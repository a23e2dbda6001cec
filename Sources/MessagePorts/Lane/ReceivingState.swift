/// What decides a receiving end's next step. A value, and its verdicts are pure: the lane's lock is the caller's business,
/// and `LaneState.nextDelivery` does what they say. Nothing else decides when `close` is due.
struct ReceivingState: Sendable {
  enum Taker: Sendable, CaseIterable {
    case nobody
    case handler
    /// Tasks that wait for a message come before the handler.
    case task
    /// Nobody takes messages, but a set is to be told of the next one.
    case set
  }

  enum Phase: Sendable, CaseIterable {
    case open
    /// Nothing more will be posted; what is queued is still delivered.
    case gone
    /// `close` was delivered.
    case over
  }

  var taker: Taker
  var phase: Phase
  var hasCloseHandler: Bool
  /// A ring is still read: messages may come without this process noticing.
  var isOnRing: Bool
  /// Ports may have come that no message announces; whoever takes messages finds out.
  var packetsMayWait: Bool

  enum Step: Sendable {
    /// Take the next message; then ask ``afterTaking(_:)``.
    case take
    /// Look whether a message is left, without taking it; then ask ``afterLooking(_:)``.
    case lookAhead
    /// What was taken goes there.
    case deliver(to: Taker)
    /// Tell the set that there is something.
    case announce
    case report(MessageError)
    /// The peer broke the format: read nothing more, and hang up.
    case hangUp(String)
    /// Tell the task at the front that there will be no message.
    case dismissTask
    case close
    /// `close` is due, and nobody wants to hear it: whoever asks later is still told.
    case finish
    /// Somebody else has a turn first.
    case yield
    /// The turn is over. If nobody takes messages, the doorbell is left to threads.
    case rest(TurnResult)
  }

  var first: Step { takesMessages ? .take : withoutMessage }

  private var takesMessages: Bool { taker == .handler || taker == .task }

  /// Whether a handler that finds the ring empty has nothing to do but wait. Says no more than ``afterTaking(_:)`` does, and
  /// of less: what most turns end with is found without making a state.
  @inline(__always)
  static func onlyWaits(isOpen: Bool, isOnRing: Bool, packetsMayWait: Bool) -> Bool {
    isOpen && isOnRing && !packetsMayWait
  }

  func afterTaking(_ taken: Taken) -> Step {
    switch taken {
    case .message: .deliver(to: taker)
    case .failed(let error): .report(error)
    case .violation(let what): .hangUp(what)
    case .blocked: .rest(.blocked)
    case .unfinished: .yield
    case .nothing: withoutMessage
    }
  }

  func afterLooking(_ sighting: ReceivingHalf.Sighting) -> Step {
    switch sighting {
    // A message that came in many fragments, so that others had their turn first; or one that nobody takes.
    case .message: takesMessages ? .yield : taker == .set ? .announce : .rest(.idle)
    case .violation(let what): .hangUp(what)
    case .blocked: .rest(.blocked)
    case .unfinished, .doorbells: .yield
    case .nothing where phase == .open: .rest(taker == .set && isOnRing ? .wait : .idle)
    case .nothing: taker == .task ? .dismissTask : hasCloseHandler ? .close : .finish
    }
  }

  /// No message can be delivered: the port waits for one, or is at its end.
  private var withoutMessage: Step {
    switch phase {
    case .open where taker == .nobody: packetsMayWait ? .lookAhead : .rest(.idle)
    case .open where taker == .set: .lookAhead
    case .open: .rest(isOnRing ? .wait : .idle)
    case .gone: .lookAhead
    case .over: .rest(.idle)
    }
  }
}

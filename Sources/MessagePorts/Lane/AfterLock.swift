import SharedRing

/// What is left to do once a lane's lock is released: to wake, to resume, or to release whatever may run code of the
/// program when it goes. None of it may happen under the lock.
///
/// Nothing in most cases, so that a plain post pays for three words.
struct AfterLock: Sendable {
  /// The loop gives this port a turn.
  var scheduled: PortCore?
  /// Threads that receive look again.
  var rung: PrivateWord?
  private var rest: [Deed] = []

  private enum Deed: Sendable {
    case resumeReceiver(MessageWaiter, MessageEvent?)
    case resumePoster(SpaceWaiter, Result<Void, PortError>)
    case resumeEndWaiter(EndWaiter, Result<CloseReason, PortError>)
    case ring(PrivateWord)
    case list(SetMember)
    case release(PortHandlers)
    case releaseKept(KeptPort)
    case end(@Sendable (PortError) -> Void, PortError)
  }

  static let none = AfterLock()

  mutating func resume(_ waiter: MessageWaiter, _ event: MessageEvent?) { rest.append(.resumeReceiver(waiter, event)) }
  mutating func resume(_ waiter: SpaceWaiter, _ result: Result<Void, PortError>) {
    rest.append(.resumePoster(waiter, result))
  }
  mutating func resumeAll(_ waiters: SpaceWaiters, _ result: Result<Void, PortError>) {
    for waiter in waiters.inOrder { resume(waiter, result) }
  }
  mutating func resumeAll(_ waiters: [EndWaiter], _ result: Result<CloseReason, PortError>) {
    for waiter in waiters { rest.append(.resumeEndWaiter(waiter, result)) }
  }
  mutating func release(_ handlers: PortHandlers) { if !handlers.isEmpty { rest.append(.release(handlers)) } }
  /// Tells those who wait for answers; see ``PortHandlers/onEnd``.
  mutating func end(_ handlers: PortHandlers, _ reason: PortError) {
    if let onEnd = handlers.onEnd { rest.append(.end(onEnd, reason)) }
  }
  /// A set looks at its member.
  mutating func list(_ member: SetMember) { rest.append(.list(member)) }
  mutating func release(_ kept: KeptPort?) { if let kept { rest.append(.releaseKept(kept)) } }

  /// All that a receiver has is given up; those who wait for a message hear that there will be none.
  mutating func dismiss(_ receiver: consuming Receiver, because reason: PortError) {
    end(receiver.handlers, reason)
    release(receiver.handlers)
    release(receiver.retained)
    for waiter in receiver.waiters { resume(waiter, nil) }
    resumeAll(receiver.endWaiters, .failure(reason))
    if let place = receiver.awaitedAt { list(place.member) }
    // Several receivers may be dismissed at once.
    if let word = receiver.threads.ring() { rest.append(.ring(word)) }
  }

  /// Not with a lane locked.
  @inline(__always)
  func perform() {
    if let scheduled { scheduled.loop.schedule(scheduled) }
    if let rung { rung.ring() }
    if !rest.isEmpty { performRest() }
  }

  /// What is only to be released goes with this value.
  @inline(never)
  private func performRest() {
    for deed in rest {
      switch deed {
      case .resumeReceiver(let waiter, let event): waiter.resumption.resume(event)
      case .resumePoster(let waiter, let result):
        waiter.resume(result)
        crashPoint(.spaceResumed)
      case .resumeEndWaiter(let waiter, let result): waiter.resumption.resume(result)
      case .ring(let word): word.ring()
      case .list(let member): member.set.list(member)
      case .end(let onEnd, let reason): onEnd(reason)
      case .release, .releaseKept: break
      }
    }
  }
}

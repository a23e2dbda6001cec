import CSupport
import SharedRing

/// What is behind a ``PortSet``: its members, those among them that may have something, and who waits for that.
///
/// A member's lane says once that something has come, and the member is listed. Whoever takes it off the list looks at the
/// lane; if there is nothing, the lane is to say so again. So nobody ever looks at a member for which nothing has come.
///
/// The lock is taken without a lane's, and the other way round.
final class ReadySet: Sendable {
  private let state = Lock(ReadySetState())

  /// Nobody has it any more.
  deinit {
    if let descriptor = state.withLock({ $0.descriptor }) { _ = csupport_close(descriptor) }
  }

  // MARK: Members

  var count: Int { state.withLock { $0.count } }

  /// How often a listed member was looked at.
  var lookCount: Int { state.withLock { $0.lookCount } }

  func add(_ source: PortSet.Member) throws(PortError) {
    guard let member = state.withLock({ $0.insert(source, of: self) }) else { throw .notWaitable(.isInSet) }
    let core = source.core
    do throws(PortError) {
      try core.join(member)
    } catch {
      _ = state.withLock { $0.remove(member) }
      throw error
    }
    crashPoint(.setJoined)
    // Another thread may have taken it out before it was in.
    guard state.withLock({ $0.holds(member) }) else { return core.leave(member) }
    if core.look(for: member) != .nothing { list(member) }
  }

  func remove(_ id: ObjectIdentifier) -> Bool {
    guard let entry = state.withLock({ state in state.member(id).flatMap { state.remove($0) } }) else { return false }
    entry.source.core.leave(entry.member)
    return true
  }

  /// Lets go of all.
  func dissolve() {
    let entries = state.withLock { $0.removeAll() }
    for entry in entries { entry.source.core.leave(entry.member) }
  }

  /// `loop` listens for a member. Should one of those that wait be its thread, it must not sleep any longer.
  func isHeard(by loop: EventLoop) {
    let threads = state.withLock { state -> PrivateWord? in
      if state.loops.contains(where: { $0 === loop }) { return nil }
      state.loops.append(loop)
      return state.threads.ring()
    }
    threads?.ring()
  }

  // MARK: Listing

  /// There may be something at `member`. Not with a lane locked.
  func list(_ member: SetMember) {
    let woken = state.withLock { $0.list(member) }
    crashPoint(.setListed)
    woken.perform()
  }

  /// The next member that has something, if there is one: it is listed again behind the others, or has come to its end.
  func next() -> PortSet.Member? {
    // No more than there are now: a peer may see to it that there is always one.
    for _ in 0..<state.withLock({ $0.listed.count }) {
      guard let entry = state.withLock({ $0.takeFirst() }) else { break }
      crashPoint(.setTaken)
      switch entry.source.core.look(for: entry.member) {
      case .nothing: continue
      case .something:
        list(entry.member)
        crashPoint(.setTold)
        return entry.source
      case .end:
        _ = state.withLock { $0.remove(entry.member) }
        return entry.source
      }
    }
    state.withLock { $0.settle() }
    return nil
  }

  // MARK: Waiting

  func first(deadline: ContinuousClock.Instant?) throws(PortError) -> PortSet.Member {
    while true {
      if let member = next() { return member }
      if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
      guard let ticket = try prepareToSleep() else { continue }
      ticket.wait(timeoutNanoseconds: Deadline.nanoseconds(until: deadline))
      state.withLock { $0.threads.remove(ticket) }
    }
  }

  /// `nil`: something is listed by now.
  private func prepareToSleep() throws(PortError) -> PrivateWord.Ticket? {
    try state.withLock { (state) throws(PortError) in
      guard state.listed.isEmpty else { return nil }
      if state.loops.contains(where: \.isCurrent) { throw .notWaitable(.isOnItsLoop) }
      return state.threads.add()
    }
  }

  func first() async throws(PortError) -> PortSet.Member {
    while true {
      if let member = next() { return member }
      guard await waitUntilListed() else { throw .cancelled }
    }
  }

  /// `false`: the task was cancelled.
  private func waitUntilListed() async -> Bool {
    let id = WaiterID.next()
    return await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let known = state.withLock { state -> Bool? in
          if !state.listed.isEmpty { return true }
          // The handler below may have run before there was anybody to give up.
          if Task.isCancelled { return false }
          state.tasks[id] = resumption
          return nil
        }
        if let known { resumption.resume(known) }
      }
    } onCancel: {
      let waiter = state.withLock { $0.tasks.removeValue(forKey: id) }
      waiter?.resume(false)
    }
  }

  /// The descriptor that is readable as long as something is listed.
  func descriptor() throws(PortError) -> CInt {
    if let descriptor = state.withLock({ $0.descriptor }) { return descriptor }
    let made: CInt
    do throws(SystemError) {
      made = try check("eventfd") { csupport_eventfd_create() }
    } catch {
      throw .system(error)
    }
    let descriptor = state.withLock { $0.adopt(made) }
    if descriptor != made { _ = csupport_close(made) }
    return descriptor
  }
}

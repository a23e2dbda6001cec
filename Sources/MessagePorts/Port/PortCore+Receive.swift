import CSupport
import Glibc
import SharedRing

/// What ``MessagePort/tryReceive()`` found.
public enum ReceiveResult: Sendable {
  /// The next message, which is taken from the queue.
  case message(MessageEvent)
  /// Nothing waits now; more may come.
  case empty
  /// The other end is closed, and everything it had sent was received.
  case closed(CloseReason)
}

extension PortCore {
  /// Takes the next message if there is one. Does not start the port and never blocks.
  func tryReceive() throws(PortError) -> ReceiveResult {
    var event = MessageEvent()
    switch try tryReceive(into: &event) {
    case .message: return .message(event)
    case .closed(let reason): return .closed(reason)
    case .empty: return .empty
    }
  }

  /// What there is. A message itself is in the caller's event: it is some 150 bytes, and would otherwise be copied often.
  enum Found {
    case message
    case closed(CloseReason)
    case empty
  }

  /// Takes the next message if there is one into `event`, which is empty.
  func tryReceive(into event: inout MessageEvent) throws(PortError) -> Found {
    if takePlain(into: &event) { return .message }
    var thread = ReceivingThread()
    let found = try receiveOrPrepare(into: &event, .toReturn, &thread).found
    // Whoever only ever looks has to hear of the other end's death as well.
    if case .empty = found { watchIfShared() }
    return found
  }

  /// The common case of all that takes by hand, made short: a whole message without ports on a ring, and nobody to be told of
  /// it. `false`: nothing was done.
  @inline(__always)
  func takePlain(into event: inout MessageEvent) -> Bool {
    incoming.state.withLock { lane in lifecycle.isOpen && lane.receiving.takeUnnoticed(into: &event) }
  }

  @safe
  private enum Preparation: @unchecked Sendable {  // the word lies in the memory
    /// On this doorbell, which `memory` keeps, and on the private word.
    case sleepOnDoorbell(UnsafeMutableRawPointer, ChannelMemory)
    /// On the private word alone.
    case sleep
    /// The same, and not for long: nobody will ring.
    case nap
    case none
  }

  /// What a thread does if there is no message.
  private enum Intent {
    case toReturn
    /// Looks again, a little later.
    case toSpin
    /// Gets ready to sleep until there is one.
    case toSleep
  }

  /// What a thread that receives has told others under the lane's lock.
  private struct ReceivingThread {
    /// It is counted among those who sleep.
    var ticket: PrivateWord.Ticket?
    /// It has announced itself on the doorbell, perhaps in place of others: the loop, or threads that sleep.
    var hasAnnounced = false
  }

  /// Takes the next message, or prepares for what the thread intends if there is none.
  ///
  /// One lock for all of it: a thread that was just woken finds nothing in the caches, and every line counts.
  private func receiveOrPrepare(
    into event: inout MessageEvent, _ intent: Intent, _ thread: inout ReceivingThread
  ) throws(PortError) -> (found: Found, preparation: Preparation) {
    while true {
      var after = AfterLock.none
      let outcome: ReceiveOutcome = incoming.state.withLock { lane in
        if let ticket = thread.ticket.take() { lane.receiving.receiver.threads.remove(ticket) }
        switch lifecycle.state {
        case .open: break
        case .departing:
          switch intent {
          case .toReturn: return .departing
          case .toSpin: return .empty(.none)
          // What becomes of the port is told by the private word.
          case .toSleep:
            // Once the end has gone over to another port, the departure does not fail any more.
            guard lane.receiving.receiver.core === self else { return .failed(.detached) }
            thread.ticket = lane.receiving.receiver.threads.add()
            return .empty(.sleep)
          }
        case .closed: return .failed(.closed)
        case .detached: return .failed(.detached)
        }
        switch lane.take(into: &event, &after, loop: loop) {
        case .message:
          lane.receiving.noteTaken(&after, hasAnnounced: thread.hasAnnounced)
          return .message
        case .failed(let error):
          lane.receiving.noteTaken(&after, hasAnnounced: thread.hasAnnounced)
          return .messageError(lane.receiving.receiver.handlers.onMessageError, error)
        case .violation(let what):
          defer { after.rung = lane.receiving.receiver.threads.ring() }
          return .hangUp(lane.receiving.endReading(what))
        case .blocked(let error?): return .failed(.system(error))
        case .blocked(nil):
          guard intent == .toSleep else { return .empty(.none) }
          thread.ticket = lane.receiving.receiver.threads.add()
          return .empty(.nap)
        case .unfinished: return .again
        case .nothing: return prepare(&lane.receiving, intent, &thread)
        }
      }
      after.perform()
      switch outcome {
      case .message: return (.message, .none)
      case .messageError(let handler, let error):
        // Handlers of a port never overlap, so this one, too, is called on the loop.
        loop.run { [self] in if lifecycle.isOpen, !ProcessEnd.hasCome { handler?(error) } }
      case .hangUp(let channel):
        breakOff(channel)
        loop.schedule(self)
      case .closed(let reason): return (.closed(reason), .none)
      case .empty(let preparation): return (.empty, preparation)
      case .failed(let error): throw error
      case .departing: waitForDeparture()
      // Something has come at the last moment. Whoever waits looks at the time first.
      case .again: return (.empty, .none)
      }
    }
  }

  private enum ReceiveOutcome: Sendable {
    case message
    case messageError((@Sendable (MessageError) -> Void)?, MessageError)
    case hangUp(SharedChannel?)
    case closed(CloseReason)
    case empty(Preparation)
    case failed(PortError)
    case departing
    case again
  }

  /// There is no message now. Under the lane's lock.
  private func prepare(
    _ receiving: inout ReceivingHalf, _ intent: Intent, _ thread: inout ReceivingThread
  ) -> ReceiveOutcome {
    if let reason = receiving.receiver.peerClosed {
      receiving.transport.channel?.discardPackets()
      return .closed(reason)
    }
    guard intent == .toSleep else {
      receiving.release()
      return .empty(.none)
    }
    guard receiving.records.consumer.isAttached else {
      thread.ticket = receiving.receiver.threads.add()
      return .empty(.sleep)
    }
    let maySleep = receiving.records.prepareToSleep(
      Doorbell.asleepOnFutex, through: receiving.transport.channel)
    thread.hasAnnounced = true
    receiving.payOwedSignal()
    if maySleep, case .ready(let word, let memory) = receiving.doorbell {
      thread.ticket = receiving.receiver.threads.add()
      return unsafe .empty(.sleepOnDoorbell(word, memory))
    }
    guard receiving.records.consumer.mustPoll, !receiving.isWorthLooking() else { return .again }
    thread.ticket = receiving.receiver.threads.add()
    return .empty(.nap)
  }

  /// Waits for the next message, at most until `deadline`.
  func receive(deadline: ContinuousClock.Instant?) throws(PortError) -> MessageEvent {
    var thread = ReceivingThread()
    var event = MessageEvent()
    do throws(PortError) {
      if case .message = try receiveOrPrepare(into: &event, .toSpin, &thread).found { return event }
      var spin = Spin(options.spinPolicy, learned: learnedSpin.load(ordering: .relaxed))
      listen()
      while true {
        let (found, preparation) = try receiveOrPrepare(into: &event, spin.goesOn() ? .toSpin : .toSleep, &thread)
        switch found {
        case .message:
          if let learned = spin.ended() { learnedSpin.store(learned, ordering: .relaxed) }
          return event
        case .closed(let reason): throw .peerClosed(reason)
        case .empty: break
        }
        if let deadline, ContinuousClock.now >= deadline { throw .timedOut }
        sleep(preparation, thread.ticket, until: deadline)
        if spin.isVisitDue() { askForHangUp() }
      }
    } catch {
      leave(thread)
      throw error
    }
  }

  /// Sees to it that the loop hears the other end die: nobody who waits here does.
  func listen() { if !isWatched.load(ordering: .relaxed) { watchIfShared() } }

  /// On a loop's own thread, and where the loop was stopped, nobody listens but who waits. Whether it is so.
  @discardableResult
  private func askForHangUp() -> Bool {
    guard loop.isDeaf else { return false }
    let channel = incoming.state.withLock { $0.receiving.transport.channel }
    if channel?.isHungUp == true { peerHungUp() }
    notePackets()
    return true
  }

  /// Sleeps as ``receiveOrPrepare(_:_:)`` has prepared it. Without a time-out, if it can be: a timer costs as much as the
  /// wake-up.
  private func sleep(
    _ preparation: Preparation, _ ticket: PrivateWord.Ticket?, until deadline: ContinuousClock.Instant?
  ) {
    guard let ticket else { return }
    let timeout = Deadline.nanoseconds(until: deadline)
    switch preparation {
    case .none: break
    case .sleep: ticket.wait(timeoutNanoseconds: timeout)
    case .nap:
      askForHangUp()
      ticket.wait(timeoutNanoseconds: Deadline.shorter(timeout, Spin.napNanoseconds))
    case .sleepOnDoorbell(let word, let memory):
      // The port may have been local when it was last asked for. Who stops watching rings, or watches again.
      listen()
      let isAlone = askForHangUp()
      unsafe ticket.wait(
        orFor: word, timeoutNanoseconds: isAlone ? Deadline.shorter(timeout, Spin.aloneNanoseconds) : timeout)
      withExtendedLifetime(memory) {}
    }
  }

  /// A thread that waited goes without a message.
  private func leave(_ thread: consuming ReceivingThread) {
    let after = withReceiver { receiver -> AfterLock in
      if let ticket = thread.ticket.take() { receiver.threads.remove(ticket) }
      var after = AfterLock.none
      if receiver.core === self { receiver.noteTaken(&after, hasAnnounced: thread.hasAnnounced) }
      return after
    }
    after.perform()
  }
}

extension ReceivingHalf {
  /// What ``PortCore/takePlain(into:)`` does under the lock.
  @inline(__always)
  fileprivate mutating func takeUnnoticed(into event: inout MessageEvent) -> Bool {
    guard case .open = receiver.outlook, !records.packetsMayWait, !hasOverflowed else { return false }
    return takePlain(into: &event)
  }

  /// A message was taken by hand; see ``Receiver/noteTaken(_:hasAnnounced:packetsMayWait:)``.
  @inline(__always)
  fileprivate mutating func noteTaken(_ after: inout AfterLock, hasAnnounced: Bool) {
    receiver.noteTaken(&after, hasAnnounced: hasAnnounced, packetsMayWait: records.packetsMayWait)
  }
}

extension Receiver {
  /// A thread leaves, with a message perhaps. If that was the last one, `close` is due, or a packet is one that nobody has
  /// announced; and if the thread has announced itself, others have to do so again.
  @inline(__always)
  fileprivate mutating func noteTaken(
    _ after: inout AfterLock, hasAnnounced: Bool, packetsMayWait: Bool = false
  ) {
    // The port's turn works it out; here it is only made to have one.
    if case .open = outlook {
      guard hasAnnounced || packetsMayWait else { return }
      if hasTaker || packetsMayWait { after.scheduled = schedule() }
    } else {
      after.scheduled = schedule()
    }
    after.rung = threads.ring()
  }
}

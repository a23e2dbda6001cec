import CSupport
import Glibc
import SharedRing
import Synchronization

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
    let result = try receiveOrPrepare(.toReturn, afterAnnouncing: false).result
    // Whoever only ever looks has to hear of the other end's death as well.
    if case .empty = result { watchIfShared() }
    return result
  }

  @safe
  private enum Preparation: @unchecked Sendable {  // the word lies in the memory
    /// On this word, which `memory` keeps.
    case sleepOnDoorbell(UnsafeMutableRawPointer, ChannelMemory)
    case sleepOn(Parker, UInt32)
    case none
  }

  /// What a thread does if there is no message.
  private enum Intent {
    case toReturn
    /// Gets ready to sleep until there is one.
    case toSleep
  }

  /// Takes the next message, or prepares for what the thread intends if there is none.
  ///
  /// One lock for all of it: a thread that was just woken finds nothing in the caches, and every line counts.
  ///
  /// - Parameter afterAnnouncing: this thread has announced itself on the doorbell, perhaps in place of the loop.
  private func receiveOrPrepare(
    _ intent: Intent, afterAnnouncing: Bool
  ) throws(PortError) -> (result: ReceiveResult, preparation: Preparation) {
    while true {
      var after = AfterLock.none
      let outcome: ReceiveOutcome = incoming.state.withLock { lane in
        switch lifecycle.state {
        case .open: break
        case .departing: return .departing
        case .closed: return .failed(.closed)
        case .detached: return .failed(.detached)
        }
        switch lane.take(&after, loop: loop) {
        case .message(let event):
          lane.receiving.receiver.noteTaken(&after, afterAnnouncing: afterAnnouncing)
          return .message(event)
        case .failed(let error):
          lane.receiving.receiver.noteTaken(&after, afterAnnouncing: afterAnnouncing)
          return .messageError(lane.receiving.receiver.handlers.onMessageError, error)
        case .violation(let what): return .hangUp(lane.receiving.endReading(what))
        case .blocked(let error): return .failed(.system(error))
        case .nothing: return prepare(&lane.receiving, intent)
        }
      }
      after.perform()
      switch outcome {
      case .message(let event): return (.message(event), .none)
      case .messageError(let handler, let error):
        // Handlers of a port never overlap, so this one, too, is called on the loop.
        loop.run { [self] in if lifecycle.isOpen { handler?(error) } }
      case .hangUp(let channel):
        channel?.hangUp()
        loop.schedule(self)
      case .closed(let reason): return (.closed(reason), .none)
      case .empty(let preparation): return (.empty, preparation)
      case .failed(let error): throw error
      case .departing: TransferLock.waitForOthers()
      // Something has come at the last moment. Whoever waits looks at the time first.
      case .again: return (.empty, .none)
      }
    }
  }

  private enum ReceiveOutcome: Sendable {
    case message(MessageEvent)
    case messageError((@Sendable (MessageError) -> Void)?, MessageError)
    case hangUp(SharedChannel?)
    case closed(CloseReason)
    case empty(Preparation)
    case failed(PortError)
    case departing
    case again
  }

  /// There is no message now. Under the lane's lock.
  private func prepare(_ receiving: inout ReceivingHalf, _ intent: Intent) -> ReceiveOutcome {
    if let reason = receiving.receiver.peerClosed {
      receiving.transport.channel?.discardPackets()
      return .closed(reason)
    }
    guard intent == .toSleep else {
      receiving.release()
      return .empty(.none)
    }
    guard receiving.records.consumer.isAttached else {
      let parker = receiving.receiver.parker ?? Parker()
      receiving.receiver.parker = parker
      return .empty(.sleepOn(parker, parker.ticket))
    }
    let maySleep = receiving.records.consumer.prepareToSleep(Doorbell.asleepOnFutex)
    receiving.payOwedRing()
    guard maySleep, case .ready(let word, let memory) = receiving.doorbell else { return .again }
    // Nothing may return between this and the sleep without taking it back.
    sleepingThreads.wrappingAdd(1, ordering: .relaxed)
    return unsafe .empty(.sleepOnDoorbell(word, memory))
  }

  /// Waits for the next message, at most until `deadline`.
  func receive(deadline: ContinuousClock.Instant?) throws(PortError) -> MessageEvent {
    var spin = Spin(options.spinPolicy)
    // This thread's announcement may have taken the place of the loop's, whether it came to sleeping or not.
    var hasAnnounced = false
    do throws(PortError) {
      while true {
        let (result, preparation) = try receiveOrPrepare(
          spin.isOver ? .toSleep : .toReturn, afterAnnouncing: hasAnnounced)
        switch result {
        case .message(let event): return event
        case .closed(let reason): throw .peerClosed(reason)
        case .empty: if spin.isOver { hasAnnounced = true }
        }
        if let deadline, ContinuousClock.now >= deadline {
          // [threads-left] Release, as after a sleep: pairs with `sendThreadsAway`.
          if case .sleepOnDoorbell = preparation { sleepingThreads.wrappingSubtract(1, ordering: .releasing) }
          throw .timedOut
        }
        switch preparation {
        case .none: spin.pause()
        case .sleepOn(let parker, let ticket):
          parker.wait(since: ticket, timeoutNanoseconds: Deadline.nanoseconds(until: deadline))
        case .sleepOnDoorbell(let word, let memory):
          unsafe sleep(on: word, of: memory, until: deadline)
        }
      }
    } catch {
      if hasAnnounced, ifUsable({ $0.receiving.receiver.hasTaker }) == true { loop.schedule(self) }
      throw error
    }
  }

  /// Sleeps on the doorbell on which ``receiveOrPrepare(_:afterAnnouncing:)`` has announced it. Without a time-out, if
  /// it can be: a timer costs as much as the wake-up.
  private func sleep(
    on word: UnsafeMutableRawPointer, of memory: ChannelMemory, until deadline: ContinuousClock.Instant?
  ) {
    // [threads-left] Release: pairs with ``sendThreadsAway(from:)``; whoever sees the number go down need not wake us.
    defer { sleepingThreads.wrappingSubtract(1, ordering: .releasing) }
    // The loop is what hears the other end die. Who stops watching wakes those who sleep, or watches again.
    if !isWatched.load(ordering: .relaxed) { watchIfShared() }
    // On the loop's own thread, nobody listens but this call.
    var timeout = Deadline.nanoseconds(until: deadline)
    if loop.isCurrent {
      timeout = timeout < 0 ? 10_000_000 : min(timeout, 10_000_000)
      let channel = incoming.state.withLock { $0.receiving.transport.channel }
      if channel?.isHungUp == true { return peerHungUp() }
    }
    _ = unsafe csupport_futex_wait(word, Doorbell.asleepOnFutex, timeout)
    withExtendedLifetime(memory) {}
  }

  /// Wakes threads that sleep in a receive of this port, which is detached by now, until the last has left.
  ///
  /// The doorbell belongs to the port's next owner, who may announce on it at any time: a thread that was about to sleep
  /// would then sleep for somebody else, and for ever.
  func sendThreadsAway(from doorbell: SleepPreparation) {
    guard case .ready(let word, let memory) = doorbell else { return }
    // [threads-left] Acquire: pairs with the releases in `sleep` and `receive`. Nobody new comes, for the port is detached.
    while sleepingThreads.load(ordering: .acquiring) > 0 {
      _ = unsafe csupport_futex_wake_all(word)
      usleep(50)
    }
    withExtendedLifetime(memory) {}
  }
}

extension Receiver {
  /// A message was taken by hand: if it was the last, `close` is due; and the loop may have to announce itself again.
  @inline(__always)
  fileprivate mutating func noteTaken(_ after: inout AfterLock, afterAnnouncing: Bool) {
    // The port's turn works it out; here it is only made to have one.
    if case .open = end, !(afterAnnouncing && hasTaker) { return }
    let due = notify()
    (after.scheduled, after.parker) = (due.scheduled, due.parker)
  }
}

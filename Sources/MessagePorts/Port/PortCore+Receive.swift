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
    let result = try receiveOrPrepare(nil, afterAnnouncing: false).result
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

  /// Takes the next message; if there is none, and `preparing`, gets ready to sleep until there is.
  ///
  /// One lock for all of it: a thread that was just woken finds nothing in the caches, and every line counts.
  ///
  /// - Parameter afterAnnouncing: this thread has announced itself on the doorbell, perhaps in place of the loop.
  private func receiveOrPrepare(
    _ preparing: Void?, afterAnnouncing: Bool
  ) throws(PortError) -> (result: ReceiveResult, preparation: Preparation) {
    while true {
      let outcome: ReceiveOutcome = incoming.state.withLock { lane in
        switch lifecycle.state {
        case .open: break
        case .departing: return .departing
        case .closed: return .failed(.closed)
        case .detached: return .failed(.detached)
        }
        switch lane.take(loop: loop) {
        case .message(let event): return .message(event, lane.followUp(afterAnnouncing: afterAnnouncing))
        case .failed(let error):
          let handler = lane.receiver.handlers.onMessageError
          return .messageError(handler, error, lane.followUp(afterAnnouncing: afterAnnouncing))
        case .violation(let what): return .hangUp(lane.endReading(what))
        case .blocked(let error): return .failed(.system(error))
        case .nothing: break
        }
        if let reason = lane.receiver.peerClosed {
          lane.receivingChannel?.discardPackets()
          return .closed(reason)
        }
        guard preparing != nil else {
          lane.consumer.release()
          if lane.consumer.takeOwedRing() { lane.receivingChannel?.ring() }
          return .empty(.none)
        }
        guard lane.consumer.isAttached else {
          let parker = lane.receiver.parker ?? Parker()
          lane.receiver.parker = parker
          return .empty(.sleepOn(parker, parker.ticket))
        }
        let maySleep = lane.consumer.prepareToSleep(Doorbell.asleepOnFutex)
        if lane.consumer.takeOwedRing() { lane.receivingChannel?.ring() }
        guard maySleep else { return .again }
        guard case .ready(let word, let memory) = lane.doorbell else { return .again }
        // Nothing may return between this and the sleep without taking it back.
        sleepingThreads.wrappingAdd(1, ordering: .relaxed)
        return unsafe .empty(.sleepOnDoorbell(word, memory))
      }
      switch outcome {
      case .message(let event, let followUp):
        followUp.perform()
        return (.message(event), .none)
      case .messageError(let handler, let error, let followUp):
        followUp.perform()
        // Handlers of a port never overlap, so this one, too, is called on the loop.
        loop.run { [self] in if lifecycle.isOpen { handler?(error) } }
      case .hangUp(let channel):
        channel?.hangUp()
        loop.schedule(self)
      case .closed(let reason): return (.closed(reason), .none)
      case .empty(let preparation): return (.empty, preparation)
      case .failed(let error): throw error
      case .departing: Departure.waitForOthers()
      // Something has come at the last moment. Whoever waits looks at the time first.
      case .again: return (.empty, .none)
      }
    }
  }

  private enum ReceiveOutcome: Sendable {
    case message(MessageEvent, FollowUp)
    case messageError((@Sendable (MessageError) -> Void)?, MessageError, FollowUp)
    case hangUp(SharedChannel?)
    case closed(CloseReason)
    case empty(Preparation)
    case failed(PortError)
    case departing
    case again
  }

  /// Waits for the next message, at most until `deadline`.
  func receive(deadline: ContinuousClock.Instant?) throws(PortError) -> MessageEvent {
    var spin = Spin(options.spinPolicy)
    // This thread's announcement may have taken the place of the loop's, whether it came to sleeping or not.
    var hasAnnounced = false
    do throws(PortError) {
      while true {
        let (result, preparation) = try receiveOrPrepare(spin.isOver ? () : nil, afterAnnouncing: hasAnnounced)
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
          parker.wait(since: ticket, timeoutNanoseconds: Self.nanoseconds(until: deadline))
        case .sleepOnDoorbell(let word, let memory):
          unsafe sleep(on: word, of: memory, until: deadline)
        }
      }
    } catch {
      if hasAnnounced, ifUsable({ $0.receiver.hasTaker }) == true { loop.schedule(self) }
      throw error
    }
  }

  /// Sleeps on the doorbell on which ``receiveOrPrepare(_:afterAnnouncing:)`` has announced it. Without a time-out, if
  /// it can be: a timer costs as much as the wake-up.
  private func sleep(on word: UnsafeMutableRawPointer, of memory: ChannelMemory, until deadline: ContinuousClock.Instant?) {
    // [threads-left] Release: pairs with ``sendThreadsAway(from:)``; whoever sees the number go down need not wake us.
    defer { sleepingThreads.wrappingSubtract(1, ordering: .releasing) }
    // The loop is what hears the other end die. Who stops watching wakes those who sleep, or watches again.
    if !isWatched.load(ordering: .relaxed) { watchIfShared() }
    // On the loop's own thread, nobody listens but this call.
    var timeout = Self.nanoseconds(until: deadline)
    if loop.isCurrent {
      timeout = timeout < 0 ? 10_000_000 : min(timeout, 10_000_000)
      let channel = incoming.state.withLock { $0.receivingChannel }
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

  static func nanoseconds(until deadline: ContinuousClock.Instant?) -> Int64 {
    guard let deadline else { return -1 }
    return max(0, (deadline - ContinuousClock.now).nanoseconds)
  }
}

extension LaneState {
  /// The word on which this end sleeps, if the channel is shared.
  var doorbell: SleepPreparation {
    consumer.memory.map { unsafe .ready(consumer.doorbellWord, $0) } ?? .notNeeded
  }

  /// After a message was taken by hand: if it was the last, `close` is due; and the loop may have to announce itself again.
  @inline(__always)
  fileprivate mutating func followUp(afterAnnouncing: Bool) -> FollowUp {
    // The port's turn works it out; here it is only made to have one.
    if case .gone = receiver.end { return receiver.notify() }
    return afterAnnouncing && receiver.hasTaker ? receiver.notify() : .none
  }
}

extension Duration {
  /// Whole nanoseconds, as far as they fit.
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    return product &+ attoseconds / 1_000_000_000
  }
}

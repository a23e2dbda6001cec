public import CSupport

// Sleeping without a lost wake-up.
//
//     sleeper (consumer)                     waker (producer)
//     1. doorbell := asleep                  1. commit the record
//     2. fence                               2. fence
//     3. look at the ring; not empty:        3. look at the doorbell; asleep:
//        doorbell := awake, do not sleep        doorbell := awake (compare-exchange), wake
//     4. sleep while doorbell == asleep
//
// Each side stores, fences, then loads what the other stored. In whatever order the two fences take effect, the side
// whose fence is second sees the other's store: so either the sleeper finds the record, or the waker finds the
// announcement. If the wake-up comes between 3 and 4, the futex call finds another value and does not sleep; a
// packet on the socket stays there until the poll sees it. The waker wakes all waiters of the word, because a waiter
// that was given up (a cancelled wait, another thread) may still be queued before the one that matters.
//
// A peer can do to the doorbell what it likes: write anything, wake for nothing, move those who sleep on it to another
// word. So a thread that sleeps sleeps on a `PrivateWord` as well, by which its own process tells it everything else: that
// the port was closed, or has left, or that its peer is gone. And what a side has announced it remembers, and never reads
// back.
//
// Several may rely on one announcement: threads that receive, and a loop. Whoever has announced and leaves may have taken
// it back, or replaced it, and makes the others look, and announce, again.
//
// The fence of the waker is the expensive part, once per message. A consumer that polls says so (`polling`), and a
// producer whose process is registered for `membarrier` then leaves it out. Before such a consumer sleeps, its step 2
// is `membarrier`, a full fence in every registered process at a moment between steps 1 and 3: a producer that looked
// at the doorbell before that moment has its commit visible to step 3; one that looks after it sees the announcement.
// A producer that is not registered always fences, so the two sides need to agree on nothing.
//
// The same in the other direction, with the released position and the space doorbell, lets a producer wait for space.

/// What the side that might sleep says in its doorbell.
@usableFromInline package enum Doorbell {
  /// It looks by itself before it sleeps: nobody need signal.
  @inlinable package static var awake: UInt32 { 0 }
  /// It sleeps on the doorbell: wake it with a futex call.
  @inlinable package static var asleepOnFutex: UInt32 { 1 }
  /// It sleeps on the channel's socket: wake it with a packet.
  @inlinable package static var asleepOnSocket: UInt32 { 2 }
  /// It will not sleep without first putting a fence into every registered process (`membarrier`): a registered
  /// producer need not fence before it looks here.
  @inlinable package static var polling: UInt32 { 3 }

  /// Whether somebody has to be woken. A peer may have written anything: what means nothing wakes nobody.
  @inlinable @inline(__always)
  package static func isAsleep(_ doorbell: UInt32) -> Bool { doorbell == asleepOnFutex || doorbell == asleepOnSocket }
}

@usableFromInline package enum DoorbellKind {
  /// The consumer waits for a message.
  case message
  /// The producer waits for space.
  case space

  @inlinable var offset: Int {
    switch self {
    case .message: CSUPPORT_LANE_MESSAGE_DOORBELL
    case .space: CSUPPORT_LANE_SPACE_DOORBELL
    }
  }
}

// MARK: - The sleeping consumer

extension RingConsumer {
  /// Steps 1 to 3: whether the caller may sleep now. `doorbell` says where it will.
  ///
  /// What was read is released first, so that a producer that waits for space is not forgotten by a sleeper.
  ///
  /// - Parameter isIdle: step 3, where more than the ring has to be looked at.
  package mutating func prepareToSleep(
    _ doorbell: UInt32, if isIdle: (inout RingConsumer) -> Bool = { $0.isEmpty }
  ) -> Bool {
    guard isAttached else { return true }
    let position = self.position
    let released = position != self.released
    if released {
      self.released = position
      words.storeReleased(position)
    }
    // What this side has said is remembered here: the peer can change the word, and must not choose what we do.
    let before = announced
    announce(doorbell)
    crashPoint(.sleepAnnounced)
    // [polling-barrier] Pairs with the compiler's barrier in `RingProducer.consumerSleeps`: a producer that looked before
    // has committed before, one that looks afterwards sees the announcement.
    let hasBarrier = before != Doorbell.polling || csupport_membarrier_global() >= 0
    // [message-sleep] Our announcement before our look; pairs with the fence in `RingProducer.consumerSleeps`.
    // [space-sleep] Our release before our look at the other doorbell; pairs with `RingProducer.prepareToSleep`.
    csupport_store_load_fence()
    if released { wakeProducer() }
    if !hasBarrier {
      // No memory for the barrier, say, or a filter that denies it by now: the promise stands; see `mustPoll`.
      announce(Doorbell.polling)
      return false
    }
    if isIdle(&self) { return true }
    announce(Doorbell.awake)
    return false
  }

  /// This side has promised to poll, and could not put the barrier that ends the promise: it has to look by itself, and
  /// may at most nap between two looks.
  package var mustPoll: Bool { announced == Doorbell.polling }

  /// After sleeping, or instead of it: nobody need signal any more. What a polling reader has promised stays promised,
  /// until a barrier ends it.
  package mutating func stayAwake() {
    guard isAttached, Doorbell.isAsleep(announced) else { return }
    announce(Doorbell.awake)
  }

  /// Promises to put a fence into the producer's process before sleeping. Only where `membarrier` is available.
  package mutating func startPolling() {
    guard isAttached, !mustPoll else { return }
    announce(Doorbell.polling)
  }

  private mutating func announce(_ doorbell: UInt32) {
    announced = doorbell
    words.storeDoorbell(.message, doorbell)
  }

  /// Sleeps while the doorbell says that this side is asleep on its futex, and nothing else has happened since `ticket`; at
  /// most so long (< 0: without limit). May return for no reason.
  package borrowing func sleep(since ticket: PrivateWord.Ticket, timeoutNanoseconds: Int64) {
    unsafe ticket.wait(orFor: words.doorbellWord(.message), timeoutNanoseconds: timeoutNanoseconds)
  }

  /// This side is about to be somebody else's, who has promised nothing: takes back what it has said. Throws, and has had
  /// no effect, if a promise to poll cannot be ended.
  package mutating func takeAnnouncementBack() throws(SystemError) {
    guard isAttached, announced != Doorbell.awake else { return }
    let before = announced
    announce(Doorbell.awake)
    guard before == Doorbell.polling else { return }
    // [polling-barrier] As in `prepareToSleep`; pairs with the compiler's barrier in `RingProducer.consumerSleeps`.
    let result = csupport_membarrier_global()
    guard result < 0 else { return }
    announce(before)
    throw SystemError(call: "membarrier", errno: -result)
  }

  /// Whether the producer said that it was closing. Meaningful once it is gone.
  package var wasClosedByProducer: Bool { isAttached && words.loadClosedByOwner() }

  /// Whether the producer's end was in a message when it was last heard of. Meaningful once it is gone.
  package var wasProducerInMessage: Bool { isAttached && words.loadIsInMessage() }

  /// The doorbell's word, for an event loop that sleeps on many. It stays valid as long as `memory`.
  @unsafe package var doorbellWord: UnsafeMutableRawPointer { unsafe words.doorbellWord(.message) }
}

// MARK: - The sleeping producer

extension RingProducer {
  /// Says that this end closes of its own will; the hang-up that follows makes it known.
  package func sayClosed() { words.storeClosedByOwner() }

  /// Says that this end is in a message from now on, or has arrived.
  package func sayInMessage(_ isInMessage: Bool) { if isAttached { words.storeIsInMessage(isInMessage) } }

  /// Steps 1 to 3 for a producer that waits until `byteCount` bytes fit: whether it may sleep now.
  package mutating func prepareToSleep(_ doorbell: UInt32, until isSatisfied: (inout RingProducer) -> Bool) -> Bool {
    guard isAttached else { return true }
    announce(doorbell)
    crashPoint(.spaceAnnounced)
    // [space-sleep] Our announcement before our look; pairs with the fence in `RingConsumer.release`.
    csupport_store_load_fence()
    if !isSatisfied(&self) { return true }
    announce(Doorbell.awake)
    return false
  }

  /// After sleeping, or instead of it: nobody need signal any more.
  package mutating func stayAwake() {
    guard isAttached, Doorbell.isAsleep(announced) else { return }
    announce(Doorbell.awake)
  }

  private mutating func announce(_ doorbell: UInt32) {
    announced = doorbell
    words.storeDoorbell(.space, doorbell)
  }

  /// As in the consumer.
  package borrowing func sleep(since ticket: PrivateWord.Ticket, timeoutNanoseconds: Int64) {
    unsafe ticket.wait(orFor: words.doorbellWord(.space), timeoutNanoseconds: timeoutNanoseconds)
  }

  @unsafe package var doorbellWord: UnsafeMutableRawPointer { unsafe words.doorbellWord(.space) }
}

// MARK: - The wakers

extension RingProducer {
  /// Whether the consumer sleeps and has to be woken, after something was published.
  ///
  /// The fence puts our commit before our look at the doorbell; the consumer announces, fences, and looks at the ring.
  /// One of the two sees the other. No fence is needed while the consumer says that it polls: before it stops doing so
  /// it puts a fence into this process itself, if this process registered for that.
  @inlinable @inline(__always)
  package mutating func consumerSleeps() -> Bool {
    if isRegisteredForMembarrier {
      // [polling-barrier] The fence that this leaves out, `RingConsumer.prepareToSleep` puts into this process.
      csupport_compiler_barrier()
      if words.loadDoorbell(.message) == Doorbell.polling { return false }
    }
    // [message-sleep] Our commit before our look; pairs with the fence in `RingConsumer.prepareToSleep`.
    csupport_store_load_fence()
    let doorbell = words.loadDoorbell(.message)
    return Doorbell.isAsleep(doorbell)
  }

  /// Whether the consumer slept on its socket and has to be signalled there. One that slept on its futex has been woken.
  package mutating func wakeConsumer() -> Bool {
    crashPoint(.wakeDecided)
    guard let doorbell = words.takeSleeper(.message) else { return false }
    #if PLANTED_LOST_WAKE_UP
      if PlantedBug.strikes() { return false }
    #endif
    crashPoint(.wakeTaken)
    if doorbell == Doorbell.asleepOnSocket { return true }
    _ = unsafe csupport_futex_wake_all(words.doorbellWord(.message))
    crashPoint(.wakeDone)
    return false
  }
}

extension RingConsumer {
  /// Wakes a producer that waits for space, or notes that its socket has to be signalled.
  package mutating func wakeProducer() {
    guard isAttached, let doorbell = words.takeSleeper(.space) else { return }
    crashPoint(.spaceWakeTaken)
    if doorbell == Doorbell.asleepOnSocket {
      owesSignal = true
      hasErrand = true
    } else {
      _ = unsafe csupport_futex_wake_all(words.doorbellWord(.space))
    }
  }

  /// Whether the producer's socket has to be signalled since the last time this was asked.
  package mutating func takeOwedSignal() -> Bool {
    defer { (owesSignal, hasErrand) = (false, false) }
    return owesSignal
  }
}

extension SharedWords {
  /// Takes back the announcement of whoever sleeps, and says where that is; `nil`: nobody does, or another was faster.
  func takeSleeper(_ kind: DoorbellKind) -> UInt32? {
    let doorbell = loadDoorbell(kind)
    guard Doorbell.isAsleep(doorbell), takeDoorbell(kind, doorbell) else { return nil }
    return doorbell
  }
}

import CSupport
import Glibc
import SharedRing
import Synchronization
import TestSupport
import Testing

/// Two threads, one lane or two, and the protocol by which either goes to sleep. A wake-up that is lost shows as a sleep
/// that lasts longer than any of these tests may take.
@Suite("Sleep and wake", .serialized, .timeLimit(.minutes(3)))
struct SleepTests {
  /// How one side waits.
  enum Manner: String, CaseIterable, CustomStringConvertible {
    case futex
    case socket
    /// Polls for a while, says so, and sleeps after a `membarrier`.
    case pollingThenFutex = "polling, then futex"
    var description: String { rawValue }
    static var available: [Manner] {
      csupport_membarrier_is_available() == 1 ? allCases : allCases.filter { $0 != .pollingThenFutex }
    }
  }

  /// Longer than this, and a wake-up was lost.
  private static let patience: Int64 = 10_000_000_000

  /// The two ends of a channel's socket.
  private final class Sockets: Sendable, RingConsumerContact {
    let ends: (CInt, CInt)
    /// Nobody rings it: what is tried here are the doorbells.
    let privateWord = PrivateWord()

    init() throws {
      var ends: (CInt, CInt) = (-1, -1)
      try require(unsafe csupport_socket_pair(&ends.0, &ends.1) == 0)
      self.ends = ends
    }

    deinit {
      _ = csupport_close(ends.0)
      _ = csupport_close(ends.1)
    }

    func consumerIsGone() -> Bool { false }
    /// From the producer, whose end is the first, to the consumer.
    func signalOnSocket() { ring(ends.0) }
    func ring(_ fd: CInt) {
      var byte: UInt8 = 1
      _ = unsafe csupport_send_packet(fd, &byte, 1, nil, 0)
    }

    /// Sleeps until the end is readable. Says whether it was.
    static func wait(_ fd: CInt) -> Bool {
      var entry = pollfd(fd: fd, events: Int16(POLLIN), revents: 0)
      let count = unsafe poll(&entry, 1, CInt(patience / 1_000_000))
      var received = csupport_received()
      var byte: UInt8 = 0
      while unsafe csupport_receive_packet(fd, &byte, 1, nil, 0, &received) == 1 {}
      return count == 1
    }
  }

  /// The consumer's sleep, until there is something to read.
  private static func sleep(
    _ consumer: inout RingConsumer, _ manner: Manner, _ sockets: Sockets, _ random: inout Random
  ) throws {
    if manner == .pollingThenFutex {
      consumer.startPolling()
      for _ in 0..<random.below(2000) {
        if !consumer.isEmpty { break }
        csupport_cpu_relax()
      }
    }
    while consumer.isEmpty {
      let doorbell = manner == .socket ? Doorbell.asleepOnSocket : Doorbell.asleepOnFutex
      let maySleep = consumer.prepareToSleep(doorbell)
      if consumer.takeOwedSignal() { sockets.ring(sockets.ends.1) }
      if maySleep {
        let began = csupport_monotonic_ns()
        if manner == .socket {
          _ = Sockets.wait(sockets.ends.1)
        } else {
          consumer.sleep(since: sockets.privateWord.ticket, timeoutNanoseconds: patience)
        }
        try require(
          csupport_monotonic_ns() - began < UInt64(patience), "a wake-up was lost: a consumer slept on (\(manner))")
      }
      // Now and then it keeps what it has announced: a ring that comes late is no harm.
      if random.below(4) > 0 { consumer.stayAwake() }
    }
    if manner != .pollingThenFutex || random.below(2) == 0 { consumer.stayAwake() }
  }

  /// The producer's sleep, until `byteCount` bytes fit.
  private static func sleep(
    _ producer: inout RingProducer, room byteCount: Int, _ manner: Manner, _ sockets: Sockets, _ random: inout Random
  ) throws {
    for _ in 0..<random.below(100) { csupport_cpu_relax() }
    while !producer.hasRoom(payloadBytes: byteCount) {
      try require(!producer.isCorrupt, "the consumer released too much")
      let doorbell = manner == .socket ? Doorbell.asleepOnSocket : Doorbell.asleepOnFutex
      if producer.prepareToSleep(doorbell, until: { $0.hasRoom(payloadBytes: byteCount) }) {
        let began = csupport_monotonic_ns()
        if manner == .socket {
          _ = Sockets.wait(sockets.ends.0)
        } else {
          producer.sleep(since: sockets.privateWord.ticket, timeoutNanoseconds: patience)
        }
        try require(
          csupport_monotonic_ns() - began < UInt64(patience), "a wake-up was lost: a producer slept on (\(manner))")
      }
      if random.below(4) > 0 { producer.stayAwake() }
    }
    producer.stayAwake()
  }

  /// Runs two bodies on threads of their own, and waits for both.
  private func race(
    _ first: @escaping @Sendable () throws -> Void, _ second: @escaping @Sendable () throws -> Void
  ) async throws {
    // If one side fails, the other waits in vain: both errors count.
    async let one: String? = onThread { do { try first(); return nil } catch { return "\(error)" } }
    async let two: String? = onThread { do { try second(); return nil } catch { return "\(error)" } }
    let problems = await [try one, try two].compactMap { $0 }
    if !problems.isEmpty { throw Failure(problems.joined(separator: "; ")) }
  }

  private static func register() {
    if csupport_membarrier_is_available() == 1 { _ = csupport_membarrier_register() }
  }

  @Test(
    "Two sides that race, and sleep for lack of messages and of room, lose nothing", arguments: Manner.available,
    [false, true])
  func oneLane(_ manner: Manner, _ twoMappings: Bool) async throws {
    Self.register()
    let memory = try ChannelMemory.fresh()
    let theirs = twoMappings ? try memory.again() : memory
    let sockets = try Sockets()
    let seed = Random("one lane, \(manner), \(twoMappings ? 2 : 1) mappings").seed
    let shared = Shared()
    let nanoseconds: UInt64 = 500_000_000
    try await race {
      var random = Random(quiet: seed)
      var sizes = Random(quiet: seed &+ 1)
      var producer = RingProducer(memory: memory, lane: 0)
      producer.isRegisteredForMembarrier = manner == .pollingThenFutex
      let deadline = csupport_monotonic_ns() + nanoseconds
      var number: UInt64 = 0
      while true {
        // The last message is an empty one; its number says so.
        let isLast = csupport_monotonic_ns() > deadline
        if isLast { shared.last.store(number, ordering: .releasing) }
        let size = sizes.below(3) == 0 ? sizes.below(377) : sizes.below(24)
        try Self.sleep(&producer, room: size, manner, sockets, &random)
        let batch = random.below(4) == 0
        if batch { producer.beginBatch() }
        let wrote = producer.write(number, size)
        try require(wrote, "room that is not there")
        if batch { producer.endBatch() }
        number += 1
        if producer.consumerSleeps(), producer.wakeConsumer() { sockets.signalOnSocket() }
        if isLast { return }
        if random.below(50) == 0 { usleep(UInt32(random.below(200))) }
      }
    } _: {
      var random = Random(quiet: seed &+ 2)
      var sizes = Random(quiet: seed &+ 1)
      var consumer = RingConsumer(memory: theirs, lane: 0)
      var number: UInt64 = 0
      while true {
        let count = sizes.below(3) == 0 ? sizes.below(377) : sizes.below(24)
        // A pad may be there before the message behind it.
        while case .empty = consumer.next() { try Self.sleep(&consumer, manner, sockets, &random) }
        try consumer.expect(number, count)
        if consumer.takeOwedSignal() { sockets.ring(sockets.ends.1) }
        if number == shared.last.load(ordering: .acquiring) { break }
        number += 1
        if random.below(50) == 0 { usleep(UInt32(random.below(200))) }
      }
      try consumer.expectEmpty()
      consumer.release()
      print("one lane, \(manner): \(number + 1) messages")
    }
  }

  @Test("In a conversation, where each message is waited for, no wake-up is lost", arguments: Manner.available)
  func conversation(_ manner: Manner) async throws {
    Self.register()
    let memory = try ChannelMemory.fresh()
    let theirs = try memory.again()
    // For each lane, its producer has the first end.
    let (there, back) = (try Sockets(), try Sockets())
    let seed = Random("conversation, \(manner)").seed
    let rounds = 6000 as UInt64
    @Sendable func side(_ isFirst: Bool) throws {
      var random = Random(quiet: seed &+ (isFirst ? 1 : 2))
      let memory = isFirst ? memory : theirs
      let (outSockets, inSockets) = isFirst ? (there, back) : (back, there)
      var producer = RingProducer(memory: memory, lane: isFirst ? 0 : 1)
      var consumer = RingConsumer(memory: memory, lane: isFirst ? 1 : 0)
      producer.isRegisteredForMembarrier = manner == .pollingThenFutex
      for number in 0..<rounds {
        for turn in isFirst ? [true, false] : [false, true] {
          if turn {
            let wrote = producer.write(number, 8)
            try require(wrote, "no room in a conversation")
            if producer.consumerSleeps(), producer.wakeConsumer() { outSockets.signalOnSocket() }
          } else {
            // From none to enough for the other side to fall asleep.
            for _ in 0..<random.below(400) { csupport_cpu_relax() }
            while case .empty = consumer.next() { try Self.sleep(&consumer, manner, inSockets, &random) }
            try consumer.expect(number, 8)
          }
        }
      }
    }
    try await race {
      try side(true)
    } _: {
      try side(false)
    }
  }

  @Test(
    "Messages of all sizes, in a lane that grows and shrinks, arrive in order while both sides race", arguments: [1, 2])
  func growingRace(_ mappings: Int) async throws {
    let memory = try ChannelMemory.fresh()
    let theirs = mappings == 2 ? try memory.again() : memory
    let sockets = try Sockets()
    let seed = Random("growing race").seed
    let shared = Shared()
    @Sendable func size(_ sizes: inout Random) -> Int {
      [sizes.below(64), sizes.below(2000), sizes.below(100), sizes.below(30) == 0 ? sizes.below(400_000) : 8][
        sizes.below(4)]
    }
    try await race {
      var sizes = Random(quiet: seed)
      var random = Random(quiet: seed &+ 1)
      var producer = RingProducer(memory: memory, lane: 0)
      var policy = GrowthPolicy()
      policy.steadyCapacity = 64 << 10
      policy.firstGrownCapacity = 8 << 10
      policy.waitsForConsumer = seed % 2 == 0
      let deadline = csupport_monotonic_ns() + 1_500_000_000
      var number: UInt64 = 0
      while true {
        let isLast = csupport_monotonic_ns() > deadline
        if isLast { shared.last.store(number, ordering: .releasing) }
        let count = size(&sizes)
        // Bounded, so that the reader comes to an end soon after the writer.
        while producer.unreleasedBytes() > 4 << 20 { usleep(100) }
        let header = try producer.stage(number, count, policy, sockets)
        if random.below(20) == 0 {
          // Called off after all, and then said again.
          producer.abandonStaged(header)
          try producer.publish(producer.stage(number, count, policy, sockets))
        } else {
          producer.publish(header)
        }
        number += 1
        if producer.consumerSleeps(), producer.wakeConsumer() { sockets.signalOnSocket() }
        if isLast { return }
        if random.below(2000) == 0 { usleep(2000) }
      }
    } _: {
      var sizes = Random(quiet: seed)
      var random = Random(quiet: seed &+ 2)
      var consumer = RingConsumer(memory: theirs, lane: 0)
      consumer.releaseStride = 4096
      var assembler = MessageAssembler()
      var number: UInt64 = 0
      while true {
        let count = size(&sizes)
        while true {
          let taken = consumer.take(&assembler)
          if case .message(let bytes) = taken {
            try require(bytes == Noise.message(number, count), "message \(number) of \(count) bytes: \(bytes.count)")
            break
          }
          try require(taken == .nothing, "\(taken) instead of message \(number)")
          try Self.sleep(&consumer, .futex, sockets, &random)
        }
        if number == shared.last.load(ordering: .acquiring) { break }
        number += 1
        if random.below(2000) == 0 { usleep(3000) }
      }
      consumer.release()
      print("growing race: \(number + 1) messages, capacity \(consumer.capacity)")
      let allocated = try memory.allocatedBytes
      try require(allocated <= UInt64(consumer.capacity) + (8 << 20), "\(allocated) bytes are kept")
    }
  }

  @Test("Every thread that sleeps on a doorbell is woken, and one that does not sleep needs no call")
  func everyone() async throws {
    let memory = try ChannelMemory.fresh()
    var consumer = RingConsumer(memory: memory, lane: 0)
    var producer = RingProducer(memory: memory, lane: 0)
    let slept = consumer.prepareToSleep(Doorbell.asleepOnFutex)
    #expect(slept)
    let woken = Collected<Int>()
    for index in 0..<3 {
      startThread {
        let other = RingConsumer(memory: memory, lane: 0)
        other.sleep(since: PrivateWord().ticket, timeoutNanoseconds: 5_000_000_000)
        woken.append(index)
      }
    }
    usleepBriefly(50_000)
    let wrote = producer.write(1, 8)
    let sleeps = producer.consumerSleeps()
    let mustRing = producer.wakeConsumer()
    #expect(wrote && sleeps && !mustRing)
    try await woken.wait(for: 3, within: .seconds(4))
    let stillSleeps = producer.consumerSleeps()
    #expect(!stillSleeps)
  }

  @Test("A reader that finds something at the last look does not sleep; what it has read is reported before it does")
  func lastLook() throws {
    let memory = try ChannelMemory.fresh()
    var consumer = RingConsumer(memory: memory, lane: 0)
    var producer = RingProducer(memory: memory, lane: 0)
    let wrote = producer.write(1, 8)
    let maySleep = consumer.prepareToSleep(Doorbell.asleepOnSocket)
    #expect(wrote && !maySleep)
    #expect(memory.words(lane: 0).loadDoorbell(.message) == Doorbell.awake)
    try consumer.expect(1, 8)
    #expect(memory.words(lane: 0).loadReleased() == 0)
    let sleepsNow = consumer.prepareToSleep(Doorbell.asleepOnSocket)
    #expect(sleepsNow)
    #expect(memory.words(lane: 0).loadReleased() == 16)
    #expect(memory.words(lane: 0).loadDoorbell(.message) == Doorbell.asleepOnSocket)
    let sleeps = producer.consumerSleeps()
    let mustRing = producer.wakeConsumer()
    let mustRingAgain = producer.wakeConsumer()
    #expect(sleeps && mustRing && !mustRingAgain)
  }

  @Test("A producer that waits for room on its socket is owed a ring, once")
  func owedRing() throws {
    let memory = try ChannelMemory.fresh()
    var consumer = RingConsumer(memory: memory, lane: 0)
    var producer = RingProducer(memory: memory, lane: 0)
    let sizes = producer.fill(from: 0)
    let maySleep = producer.prepareToSleep(Doorbell.asleepOnSocket) { $0.hasRoom(payloadBytes: 0) }
    #expect(maySleep)
    try consumer.expect(0, sizes[0])
    consumer.release()
    let (owed, again) = (consumer.takeOwedSignal(), consumer.takeOwedSignal())
    #expect(owed && !again)
    let hasRoom = producer.prepareToSleep(Doorbell.asleepOnSocket) { $0.hasRoom(payloadBytes: 0) }
    #expect(!hasRoom)
  }

  @Test("A registered producer leaves a polling consumer alone; one that is asleep it never does")
  func polling() throws {
    let memory = try ChannelMemory.fresh()
    var consumer = RingConsumer(memory: memory, lane: 0)
    var producer = RingProducer(memory: memory, lane: 0)
    for isRegistered in [false, true] {
      producer.isRegisteredForMembarrier = isRegistered
      consumer.startPolling()
      let whilePolling = producer.consumerSleeps()
      let mustRing = producer.wakeConsumer()
      #expect(!whilePolling && !mustRing)
      #expect(memory.words(lane: 0).loadDoorbell(.message) == Doorbell.polling)
      if csupport_membarrier_is_available() == 1 {
        let maySleep = consumer.prepareToSleep(Doorbell.asleepOnFutex)
        let asleep = producer.consumerSleeps()
        #expect(maySleep && asleep)
      }
    }
  }

  @Test("What a peer writes into a doorbell ends no promise and no announcement: what was said is remembered here")
  func scribbledDoorbell() throws {
    let memory = try ChannelMemory.fresh()
    let words = memory.words(lane: 0)
    var consumer = RingConsumer(memory: memory, lane: 0)
    words.storeDoorbell(.message, Doorbell.polling)
    consumer.stayAwake()
    #expect(consumer.announced == Doorbell.awake)
    let maySleep = consumer.prepareToSleep(Doorbell.asleepOnFutex)
    #expect(maySleep && consumer.announced == Doorbell.asleepOnFutex)
    #expect(words.loadDoorbell(.message) == Doorbell.asleepOnFutex)
    // The announcement is taken back, whatever is in the word by now.
    for scribble in [Doorbell.polling, Doorbell.asleepOnSocket, 77] {
      words.storeDoorbell(.message, scribble)
      consumer.stayAwake()
      #expect(words.loadDoorbell(.message) == Doorbell.awake)
      let maySleep = consumer.prepareToSleep(Doorbell.asleepOnFutex)
      #expect(maySleep)
    }
    // A promise outlives what is written over it, until it is taken back.
    consumer.startPolling()
    words.storeDoorbell(.message, Doorbell.awake)
    consumer.stayAwake()
    #expect(consumer.announced == Doorbell.polling)
    try consumer.takeAnnouncementBack()
    #expect(words.loadDoorbell(.message) == Doorbell.awake)
  }

  @Test("Where barriers are denied, a peer that says for us that we poll keeps nobody from sleeping")
  func scribbledPromise() async throws {
    let maySleep = try await Refusal.during([Refusal(.membarrier, EPERM)]) {
      let memory = try ChannelMemory.fresh()
      var consumer = RingConsumer(memory: memory, lane: 0)
      memory.words(lane: 0).storeDoorbell(.message, Doorbell.polling)
      return consumer.prepareToSleep(Doorbell.asleepOnFutex)
    }
    #expect(maySleep)
  }

  @Test(
    "Where barriers are denied, a promise to poll stands: it keeps its end from sleeping, and from being handed over")
  func deniedBarrier() async throws {
    try await Refusal.during([Refusal(.membarrier, EPERM)]) {
      let memory = try ChannelMemory.fresh()
      var consumer = RingConsumer(memory: memory, lane: 0)
      consumer.startPolling()
      let maySleep = consumer.prepareToSleep(Doorbell.asleepOnFutex)
      try require(!maySleep && consumer.mustPoll, "it sleeps without its barrier")
      do throws(SystemError) {
        try consumer.takeAnnouncementBack()
      } catch {
        try require(error == SystemError(call: "membarrier", errno: EPERM), "\(error)")
      }
      try require(memory.words(lane: 0).loadDoorbell(.message) == Doorbell.polling, "the promise is forgotten")
    }
  }

  @Test("What a peer writes into the space doorbell decides nothing: what was said is remembered here")
  func scribbledSpaceDoorbell() throws {
    let memory = try ChannelMemory.fresh()
    var producer = RingProducer(memory: memory, lane: 0)
    memory.words(lane: 0).storeDoorbell(.space, Doorbell.asleepOnFutex)
    producer.stayAwake()
    #expect(producer.announced == Doorbell.awake)
    #expect(memory.words(lane: 0).loadDoorbell(.space) == Doorbell.asleepOnFutex)
    let maySleep = producer.prepareToSleep(Doorbell.asleepOnFutex) { _ in false }
    #expect(maySleep && producer.announced == Doorbell.asleepOnFutex)
    memory.words(lane: 0).storeDoorbell(.space, Doorbell.awake)
    #expect(producer.announced == Doorbell.asleepOnFutex)
    producer.stayAwake()
    #expect(producer.announced == Doorbell.awake)
  }

  enum Bell: CaseIterable { case doorbell, privateWord }

  @Test("A thread sleeps on the doorbell and on the private word: either wakes it", arguments: Bell.allCases)
  func bothWords(_ bell: Bell) async throws {
    let memory = try ChannelMemory.fresh()
    var consumer = RingConsumer(memory: memory, lane: 0)
    var producer = RingProducer(memory: memory, lane: 0)
    let privateWord = PrivateWord()
    let maySleep = consumer.prepareToSleep(Doorbell.asleepOnFutex)
    #expect(maySleep)
    let woken = Collected<Int>()
    startThread {
      RingConsumer(memory: memory, lane: 0).sleep(since: privateWord.ticket, timeoutNanoseconds: Self.patience)
      woken.append(0)
    }
    usleepBriefly(20_000)
    switch bell {
    case .doorbell: _ = producer.wakeConsumer()
    case .privateWord: privateWord.ring()
    }
    try await woken.wait(for: 1, within: .seconds(4))
  }

  @Test("A thread whose ticket is out of date does not sleep")
  func oldTicket() throws {
    let memory = try ChannelMemory.fresh()
    var consumer = RingConsumer(memory: memory, lane: 0)
    let privateWord = PrivateWord()
    let ticket = privateWord.ticket
    privateWord.ring()
    let maySleep = consumer.prepareToSleep(Doorbell.asleepOnFutex)
    #expect(maySleep)
    try patiently("a wait that ends at once") { _ in
      consumer.sleep(since: ticket, timeoutNanoseconds: -1)
      ticket.wait(timeoutNanoseconds: -1)
    }
  }

  private final class Shared: Sendable {
    /// The number of the last message, once that is decided.
    let last = Atomic<UInt64>(.max)
  }
}

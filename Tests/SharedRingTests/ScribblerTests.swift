import CSupport
import Glibc
import SharedRing
import Synchronization
import TestSupport
import Testing

/// A peer gone mad: another thread writes at random all over the channel's memory while both sides are at work.
@Suite("Scribbler", .timeLimit(.minutes(3)))
struct ScribblerTests {
  /// Words as a malicious peer would choose them: most look like something.
  private static func mad(_ random: inout Random) -> UInt64 {
    let region = RingLayout.regionOffset(lane: random.below(2))
    switch random.below(12) {
    case 0: return random.next()
    case 1: return 0
    case 2: return .max
    case 3: return word(UInt8(random.below(9)), UInt32(random.below(1600)), ports: UInt16(random.below(3)))
    case 4, 5: return word(UInt8(1 + random.below(7)), UInt32(random.below(192) * 8))
    case 6: return word(.pad, UInt32(1536 - 8 - random.below(192) * 8))
    case 7: return word(.link, 16)
    case 8: return region + UInt64(random.below(20)) * 4096
    case 9: return UInt64(4096) << UInt64(random.below(8))
    case 10: return UInt64(random.below(1 << 14) * 8)
    default: return word(.abort)
    }
  }

  @Test("Nothing traps or hangs while a peer scribbles over the header, the rings and the segments", arguments: [0, 1])
  func scribble(_ variant: Int) async throws {
    let outcome = try await onThread { () -> (rounds: Int, violations: Int, corrupt: Int, resident: Int) in
      var random = Random("scribbler \(variant)")
      let started = csupport_monotonic_ns()
      let resident = Resources.residentKilobytes
      var (rounds, violations, corrupt) = (0, 0, 0)
      // How far it comes depends on what else the machine does; a lie has to be found in the end.
      func isOver() -> Bool {
        let elapsed = csupport_monotonic_ns() - started
        return elapsed > (violations > 0 ? 2 : 60) * 1_000_000_000
      }
      while !isOver() {
        let ended = try round(seed: random.next(), spares: variant == 1)
        rounds += 1
        violations += ended.violation ? 1 : 0
        corrupt += ended.corrupt ? 1 : 0
      }
      return (rounds, violations, corrupt, Resources.residentKilobytes - resident)
    }
    print("scribbler \(variant): \(outcome)")
    #expect(outcome.violations > 0)
    #expect(outcome.resident < 200 << 10, "KiB")
  }

  /// Until the consumer has had enough, or for a tenth of a second. `spares`: the header's words stay as they are.
  private func round(seed: UInt64, spares: Bool) throws -> (violation: Bool, corrupt: Bool) {
    let memory = try ChannelMemory.fresh()
    let region = RingLayout.regionOffset(lane: 0)
    let reserved = csupport_memory_reserve(memory.fd, region, 80 << 10)
    try require(reserved == 0)
    let shared = Flags()

    let base = try PeerHand(memory)
    let segments = try PeerHand(memory, offset: region, byteCount: 80 << 10)
    startThread {
      var random = Random(quiet: seed)
      while !shared.stop.load(ordering: .relaxed) {
        // Every other time, close to where things are read at the moment.
        let place = Int(shared.place.load(ordering: .relaxed))
        let isNear = random.below(2) == 0
        let isInSegments = isNear ? place >= Int(region) : random.below(3) == 0
        let hand = isInSegments ? segments : base
        let near = isInSegments ? place - Int(region) : place
        let offset = (isNear ? near + random.below(20) * 8 : random.below(hand.byteCount / 8) * 8) & ~7
        guard offset >= 0, offset <= hand.byteCount - 8 else { continue }
        if spares, hand === base, offset < RingLayout.headerBytes { continue }
        hand.store(Self.mad(&random), at: offset)
        if random.below(4) == 0 { usleep(UInt32(random.below(50))) }
      }
      shared.running.subtract(1, ordering: .releasing)
    }
    startThread {
      var random = Random(quiet: seed &+ 1)
      var producer = RingProducer(memory: memory, lane: 0)
      let policy = GrowthPolicy.impatient(steady: 16 << 10, firstGrown: 4096, limit: 1 << 20)
      while !shared.stop.load(ordering: .relaxed), !producer.isCorrupt {
        try? producer.post(random.next(), random.below(4) == 0 ? random.below(40_000) : random.below(300), policy)
        producer.publishPosition()
        if producer.consumerSleeps() { _ = producer.wakeConsumer() }
        _ = producer.unreleasedBytes()
        _ = producer.prepareToSleep(Doorbell.asleepOnFutex) { $0.hasRoom(payloadBytes: 100) }
        producer.stayAwake()
      }
      if producer.isCorrupt { shared.isCorrupt.store(true, ordering: .relaxed) }
      shared.running.subtract(1, ordering: .releasing)
    }
    defer {
      shared.stop.store(true, ordering: .relaxed)
      while shared.running.load(ordering: .acquiring) > 0 { usleep(50) }
    }

    var random = Random(quiet: seed &+ 2)
    var consumer = RingConsumer(memory: memory, lane: 0)
    var assembler = MessageAssembler()
    let deadline = csupport_monotonic_ns() + 100_000_000
    while csupport_monotonic_ns() < deadline {
      _ = consumer.tryRead { bytes in unsafe bytes.withUnsafeBytes { unsafe $0.reduce(0, &+) } }
      _ = consumer.tryTake { bytes in bytes.byteCount % 2 == 0 }
      if case .violation = consumer.take(&assembler, limit: 1 << 20, stepsAtMost: 1000) {
        return (true, shared.isCorrupt.load(ordering: .relaxed))
      }
      _ = consumer.waitingBytes
      let place = consumer.lanePosition
      let start = place.segmentOffset == 0 ? UInt64(base.data()) : place.segmentOffset
      shared.place.store(start + place.cursorOffset, ordering: .relaxed)
      if random.below(10) == 0, consumer.prepareToSleep(Doorbell.asleepOnFutex) {
        consumer.sleep(since: PrivateWord().ticket, timeoutNanoseconds: 100_000)
      }
      consumer.stayAwake()
      _ = consumer.takeOwedSignal()
    }
    return (false, shared.isCorrupt.load(ordering: .relaxed))
  }

  private final class Flags: Sendable {
    let stop = Atomic<Bool>(false)
    let isCorrupt = Atomic<Bool>(false)
    let running = Atomic<Int>(2)
    /// Where the consumer reads, as an offset in the file.
    let place = Atomic<UInt64>(0)
  }
}

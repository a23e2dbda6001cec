import CSupport
import Glibc
import SharedRing
import TestSupport

/// An attacker's end of a channel: it behaves in part, or the victim would soon hang up.
@safe
final class ChaosEnd {
  private let end: RawEnd
  private let base: Mapping
  private let region: Mapping
  private let lane: Int
  private var producer: RingProducer
  private var consumer: RingConsumer
  private var assembler = MessageAssembler()
  private var isReadable = true
  private static let regionBytes = 80 << 10

  init(_ end: RawEnd) throws {
    self.end = end
    lane = end.end
    let memory = end.memory
    base = try Mapping(fd: memory.fd, fileOffset: 0, byteCount: RingLayout.baseBytes(capacity: memory.laneCapacity))
    let offset = RingLayout.regionOffset(lane: lane)
    try check("fallocate") { csupport_memory_reserve(memory.fd, offset, UInt64(Self.regionBytes)) }
    region = try Mapping(fd: memory.fd, fileOffset: offset, byteCount: Self.regionBytes)
    producer = RingProducer(memory: memory, lane: lane)
    consumer = RingConsumer(memory: memory, lane: 1 - lane)
  }

  /// A few steps of the manner.
  func act(_ manner: ChaosManner, _ random: inout SeededGenerator) {
    switch manner {
    case .scribble:
      post(&random)
      read()
      // Now and then only, so that something works and can be spoiled.
      if Int.random(in: 0..<20, using: &random) == 0 { scribble(&random) }
    case .lie:
      post(&random)
      if Int.random(in: 0..<50, using: &random) == 0 { lie(&random) }
      read()
    case .flood:
      flood(&random)
      if Int.random(in: 0..<100, using: &random) == 0 { post(&random) }
    case .forge:
      forge(&random)
      usleepBriefly(500)
    case .stall, .comeAndGo:
      end.ourLane.storeDoorbell(.message, Doorbell.polling)
      end.theirLane.storeDoorbell(.message, Doorbell.awake)
      usleepBriefly(2000)
    }
    // Cutting off fails: the memory is sealed, or it would not be here.
    _ = ftruncate(end.memory.fd, off_t(Int.random(in: 0..<8192, using: &random)))
  }

  // MARK: As it should be

  private func post(_ random: inout SeededGenerator) {
    let count = Int.random(in: 0..<10, using: &random) == 0 ? 30_000 : Int.random(in: 0..<300, using: &random)
    let bytes = [UInt8](repeating: UInt8.random(in: 0...255, using: &random), count: count)
    var policy = GrowthPolicy(unreadLimitBytes: 1 << 16)
    policy.steadyCapacity = 32 << 10
    guard !producer.isCorrupt, let header = try? unsafe producer.stage(bytes.span.bytes, policy: policy, contact: end)
    else { return end.signal() }
    producer.publish(header)
    producer.publishPosition()
    if producer.consumerSleeps(), producer.wakeConsumer() { end.send([1]) }
  }

  private func read() {
    for _ in 0..<16 where isReadable {
      switch consumer.next() {
      case .empty, .blocked: return
      case .violation: isReadable = false
      case .record(let record):
        let progress = consumer.withPayload(of: record) { assembler.add(record.kind, $0, limitBytes: 1 << 20) }
        if case .violation = progress, record.kind != .message { isReadable = false }
        consumer.consume(record)
      }
    }
  }

  // MARK: And as it should not

  /// Words that look like something.
  private func mad(_ random: inout SeededGenerator) -> UInt64 {
    let offset = RingLayout.regionOffset(lane: lane)
    switch Int.random(in: 0..<10, using: &random) {
    case 0: return random.next()
    case 1: return 0
    case 2: return .max
    case 3:
      return word(
        UInt8.random(in: 0..<9, using: &random), .random(in: 0..<1600, using: &random),
        ports: .random(in: 0..<3, using: &random))
    case 4, 5: return word(UInt8.random(in: 1...7, using: &random), .random(in: 0..<192, using: &random) * 8)
    case 6: return word(.link, 16)
    case 7: return offset + .random(in: 0..<20, using: &random) * 4096
    case 8: return 4096 << UInt64.random(in: 0..<8, using: &random)
    default: return .random(in: 0..<1 << 14, using: &random) * 8
    }
  }

  /// Half of the time where something is read or written at the moment.
  private func scribble(_ random: inout SeededGenerator) {
    let place = producer.lanePosition
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      var (mapping, offset) = unsafe (base.address, Int.random(in: 0..<base.byteCount / 8, using: &random) * 8)
      if Bool.random(using: &random) {
        let near = Int(place.cursorOffset) - Int.random(in: 0..<40, using: &random) * 8
        let isInRegion = place.segmentOffset != 0
        unsafe mapping = isInRegion ? region.address : base.address
        let start = isInRegion ? Int(place.segmentOffset - RingLayout.regionOffset(lane: lane)) : dataOffset
        offset = start + near
        guard offset >= 0, offset <= (isInRegion ? region.byteCount : base.byteCount) - 8 else { continue }
      }
      unsafe RecordHeader(rawValue: mad(&random)).commit(at: mapping + offset)
    }
    signalAnyway()
  }

  private var dataOffset: Int { RingLayout.headerBytes + lane * end.memory.laneCapacity }

  private func lie(_ random: inout SeededGenerator) {
    let ours = end.ourLane, theirs = end.theirLane
    switch Int.random(in: 0..<6, using: &random) {
    case 0: theirs.storeReleased(mad(&random))
    case 1: theirs.storeReleased(theirs.loadReleased() &+ .random(in: 0..<2000, using: &random))
    case 2: ours.storePosted(mad(&random))
    case 3: ours.storeClosedByOwner()
    case 4: ours.storeDoorbell(.message, .random(in: 0..<5, using: &random))
    default: theirs.storeDoorbell(.space, .random(in: 0..<5, using: &random))
    }
    signalAnyway()
  }

  private func flood(_ random: inout SeededGenerator) {
    let fds = [CInt](repeating: end.memory.fd, count: Int.random(in: 0..<10, using: &random))
    for _ in 0..<32 where end.send([1], fds) < 0 { break }
    if Int.random(in: 0..<8, using: &random) == 0 {
      end.send(
        (0..<Int.random(in: 1..<300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }, fds)
    }
    signalAnyway()
  }

  private func forge(_ random: inout SeededGenerator) {
    let isSealed = Int.random(in: 0..<4, using: &random) > 0
    var sockets: (CInt, CInt) = (-1, -1)
    guard let memory = try? ChannelMemory.make(laneCapacity: 0, backing: isSealed ? .memfd : .posixSharedMemory),
      unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0
    else { return }
    defer { _ = csupport_close(sockets.1) }
    guard let far = try? RawEnd(memory, end: 0, owning: sockets.0) else { return }
    var port = ForgedPort(far, near: sockets.1)
    // One lie at most, so that some arrive.
    switch Int.random(in: 0..<8, using: &random) {
    case 0: port.words[Int.random(in: 0..<16, using: &random)] = mad(&random)
    case 1: port.fds[1] = end.memory.fd
    case 2: port.fds.swapAt(0, 1)
    case 3: port.fds.append(memory.fd)
    default: break
    }
    let announced = Int.random(in: 0..<20, using: &random) == 0 ? UInt16.random(in: 0..<300, using: &random) : 1
    guard end.offset < end.memory.laneCapacity - 64 else { return }
    // A connection's message begins with its name, which is empty.
    end.post([0, 0], ports: Int(announced)) { end.send(words: [ForgedPort.header(1)] + port.words, port.fds) }
    for _ in 0..<4 {
      far.store(mad(&random), at: Int.random(in: 0..<64, using: &random) * 8)
      far.signal()
    }
    _ = ftruncate(memory.fd, 0)
  }

  /// Wakes the victim, whether it sleeps or not.
  private func signalAnyway() {
    _ = unsafe csupport_futex_wake_all(end.ourLane.doorbellWord(.message))
    _ = unsafe csupport_futex_wake_all(end.theirLane.doorbellWord(.space))
    end.send([1])
  }
}

extension RawEnd: RingConsumerContact {
  package func consumerIsGone() -> Bool { csupport_socket_is_hung_up(socket) == 1 }
  package func signalOnSocket() { send([1]) }
}

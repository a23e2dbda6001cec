// What these tests need: both sides of a lane in one process, contents that can be told apart, and a peer's hand in the
// memory.

import CSupport
import Glibc
import SharedRing
import TestSupport

/// Something is not as it must be. Thrown instead of `#expect` in loops of a million steps.
struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

func require(_ condition: Bool, _ what: @autoclosure () -> String = "not so", line: Int = #line) throws {
  if !condition { throw Failure("\(what()) (line \(line))") }
}

// MARK: - Contents

/// What messages consist of: a message's number decides where in here its bytes are taken from.
enum Noise {
  static let bytes = patternBytes(count: 8 << 20, seed: 1)

  static func range(_ number: UInt64, _ count: Int) -> Range<Int> {
    let first = Int((number &* 2_654_435_761) % UInt64(bytes.count - count + 1))
    return first..<first + count
  }

  static func message(_ number: UInt64, _ count: Int) -> [UInt8] { Array(bytes[range(number, count)]) }

  static func matches(_ span: RawSpan, _ number: UInt64, _ count: Int) -> Bool {
    guard span.byteCount == count else { return false }
    let first = range(number, count).lowerBound
    return unsafe bytes.withUnsafeBytes { all in
      unsafe span.withUnsafeBytes { found in
        unsafe count == 0 || memcmp(found.baseAddress!, all.baseAddress! + first, count) == 0
      }
    }
  }
}

/// Random numbers that a printed seed repeats.
struct Random: RandomNumberGenerator {
  private var state: UInt64
  let seed: UInt64

  init(seed: UInt64 = .random(in: 0 ... .max), _ what: String) {
    self.seed = seed
    state = seed
    print("\(what): seed \(seed)")
  }

  /// Part of something whose own seed was printed.
  init(quiet seed: UInt64) {
    self.seed = seed
    state = seed
  }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func below(_ bound: Int) -> Int { bound <= 1 ? 0 : Int(next() % UInt64(bound)) }
}

// MARK: - Both sides

extension ChannelMemory {
  static func fresh(_ laneCapacity: Int = 0) throws -> ChannelMemory {
    try make(laneCapacity: laneCapacity, backing: .memfd)
  }

  /// The same memory at another address, as another process has it.
  func again() throws -> ChannelMemory {
    let copy = fcntl(fd, F_DUPFD_CLOEXEC, 0)
    try require(copy >= 0, "no descriptor")
    return try .attach(owning: copy, trustingUnsealed: false)
  }

  var allocatedBytes: UInt64 {
    get throws { try Self.fileFacts(fd).allocated_bytes }
  }

  /// Empties a lane and says where its sides stand then: at `offset` in the initial data, `position` bytes into its life.
  func emptyLane(_ lane: Int = 0, at offset: Int, position: UInt64 = 1 << 20) throws -> LanePosition {
    words(lane: lane).storeReleased(position)
    let hand = try PeerHand(self)
    hand.store(0, at: RingLayout.initialDataOffset(lane: lane, capacity: laneCapacity) + offset)
    return LanePosition(
      segmentOffset: 0, capacity: UInt64(laneCapacity), cursorOffset: UInt64(offset), position: position,
      segmentPosition: 0)
  }
}

/// Nobody to ring.
struct NoContact: RingConsumerContact {
  var isGone = false
  func consumerIsGone() -> Bool { isGone }
  func signalOnSocket() {}
}

extension GrowthPolicy {
  /// Grows at once: the consumer of these tests does not run meanwhile.
  static func impatient(steady: Int = 1 << 20, firstGrown: Int = 64 << 10, limit: Int? = nil) -> GrowthPolicy {
    var policy = GrowthPolicy(unreadLimitBytes: limit)
    policy.steadyCapacity = steady
    policy.firstGrownCapacity = firstGrown
    policy.waitsForConsumer = false
    return policy
  }
}

extension RingProducer {
  /// Writes message `number` if there is room.
  mutating func write(_ number: UInt64, _ count: Int) -> Bool {
    unsafe tryWrite(Noise.bytes.span.bytes.extracting(Noise.range(number, count)))
  }

  /// Writes message `number` of any size, growing the lane as a port does.
  mutating func post(_ number: UInt64, _ count: Int, _ policy: GrowthPolicy) throws {
    publish(try stage(number, count, policy))
  }

  /// Writes message `number` except for the header that completes it.
  mutating func stage(
    _ number: UInt64, _ count: Int, _ policy: GrowthPolicy, _ contact: some RingConsumerContact = NoContact()
  ) throws(RingError) -> RecordHeader {
    let noise = Noise.bytes
    return try unsafe stage(
      noise.span.bytes.extracting(Noise.range(number, count)), policy: policy, contact: contact)
  }

  /// Fills the lane to the last byte that a message may take. Returns the sizes of the messages, numbered from `first`.
  mutating func fill(from first: UInt64, _ size: Int = .max) -> [Int] {
    var sizes: [Int] = []
    var size = min(size, largestRecordPayload)
    while true {
      if write(first + UInt64(sizes.count), size) {
        sizes.append(size)
      } else if size == 0 {
        return sizes
      } else {
        size = max(0, size - 8)
      }
    }
  }
}

extension RingConsumer {
  /// Reads one whole message, which must be `number` with `count` bytes: the quick way, or else the long one.
  mutating func expect(_ number: UInt64, _ count: Int) throws {
    let quick = tryRead { Noise.matches($0, number, count) }
    if let quick { return try require(quick, "message \(number) of \(count) bytes differs") }
    let step = next()
    guard case .record(let record) = step, record.kind == .message else {
      throw Failure("\(step) instead of message \(number) of \(count) bytes")
    }
    let isRight = withPayload(of: record) { Noise.matches($0, number, count) }
    try require(isRight, "message \(number) of \(count) bytes differs")
    consume(record)
  }

  mutating func expectEmpty() throws {
    try require(tryRead { $0.byteCount } == nil, "a message instead of none")
    let step = next()
    guard case .empty = step else { throw Failure("\(step) instead of nothing") }
  }

  /// Reads on until a whole message is there, and says what it found instead otherwise.
  mutating func take(
    _ assembler: inout MessageAssembler, limit: Int = 1 << 30, stepsAtMost: Int = .max
  ) -> Taken {
    for _ in 0..<stepsAtMost {
      switch next() {
      case .empty: return .nothing
      case .violation(let what): return .violation(what)
      case .blocked(let error): return .blocked(error)
      case .record(let record) where record.kind == .message:
        let bytes = withPayload(of: record) { Array(copying: $0) }
        consume(record)
        return .message(bytes)
      case .record(let record):
        let progress = withPayload(of: record) { assembler.add(record.kind, $0, limitBytes: limit) }
        consume(record)
        switch progress {
        case .incomplete: continue
        case .complete(let bytes): return .message(bytes.withBytes { Array(copying: $0) })
        case .violation(let what): return .violation(what)
        case .refused: return .refused
        }
      }
    }
    return .nothing
  }

  mutating func expectWhole(_ number: UInt64, _ count: Int, _ assembler: inout MessageAssembler) throws {
    let taken = take(&assembler)
    guard case .message(let bytes) = taken else { throw Failure("\(taken.short) instead of message \(number)") }
    try require(bytes == Noise.message(number, count), "message \(number) differs: \(bytes.count) bytes of \(count)")
  }
}

enum Taken: Equatable {
  case nothing
  case message([UInt8])
  case violation(String)
  case blocked(SystemError)
  case refused

  var short: String {
    if case .message(let bytes) = self { "message of \(bytes.count) bytes" } else { "\(self)" }
  }
  var isViolation: Bool { if case .violation = self { true } else { false } }
}

extension Array<UInt8> {
  init(copying span: RawSpan) {
    self = unsafe span.withUnsafeBytes { unsafe Array($0) }
  }
}

extension RingStep: CustomStringConvertible {
  package var description: String {
    switch self {
    case .empty: "nothing"
    case .record(let record): "\(record.kind) of \(record.byteCount) bytes"
    case .violation(let what): "violation: \(what)"
    case .blocked(let error): "blocked: \(error)"
    }
  }
  var isViolation: Bool { if case .violation = self { true } else { false } }
  var isEmpty: Bool { if case .empty = self { true } else { false } }
}

// MARK: - The peer's hand

/// Writes into a channel's memory what a peer can write: anything.
@safe final class PeerHand: Sendable {
  private let mapping: Mapping
  let memory: ChannelMemory

  /// The first pages, or any other part of the file.
  init(_ memory: ChannelMemory, offset: UInt64 = 0, byteCount: Int? = nil) throws {
    self.memory = memory
    mapping = try Mapping(
      fd: memory.fd, fileOffset: offset, byteCount: byteCount ?? RingLayout.baseBytes(capacity: memory.laneCapacity))
  }

  var byteCount: Int { mapping.byteCount }

  func store(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset <= byteCount - 8)
    unsafe RecordHeader(rawValue: value).commit(at: mapping.address + offset)
  }

  func load(at offset: Int) -> UInt64 { unsafe RecordHeader.load(at: mapping.address + offset) }

  func store(_ words: [UInt64], at offset: Int) {
    for (index, word) in words.enumerated().reversed() { store(word, at: offset + 8 * index) }
  }

  /// Where a lane's initial data begins.
  func data(_ lane: Int = 0) -> Int { RingLayout.initialDataOffset(lane: lane, capacity: memory.laneCapacity) }
}

/// The header word of a record, correct or not.
func word(_ kind: UInt8, _ byteCount: UInt32 = 0, ports: UInt16 = 0, high: UInt8 = 0) -> UInt64 {
  UInt64(byteCount) | UInt64(kind) << 32 | UInt64(ports) << 40 | UInt64(high) << 56
}

func word(_ kind: RecordHeader.Kind, _ byteCount: UInt32 = 0, ports: UInt16 = 0) -> UInt64 {
  word(kind.rawValue, byteCount, ports: ports)
}

import SharedRing
import TestSupport
import Testing

@testable import MessagePorts

/// What a peer sends is read as a type only if the type has no other patterns of bits than values.
@Suite("Plain values", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct PlainValueTests {
  private struct Sample: PlainValue, Equatable {
    var time: UInt64
    var value: Float
    var channel: UInt16
    var flags: InlineArray<2, UInt8>
    static let layout = PlainLayout<Sample>(\.flags, \.value, \.time, \.channel)
    static func == (left: Self, right: Self) -> Bool {
      left.time == right.time && left.value == right.value && left.channel == right.channel
        && left.flags[0] == right.flags[0] && left.flags[1] == right.flags[1]
    }
  }

  private struct Nested: PlainValue {
    var sample: Sample
    var sum: Int64
    static let layout = PlainLayout<Nested>(\.sample, \.sum)
  }

  @Test("A type that lists all of its fields goes to the other end and comes back")
  func roundTrip() throws {
    let channel = try MessageChannel()
    let sample = Sample(time: .max, value: -1.5, channel: 7, flags: [1, 2])
    try channel.port1.postMessage(bitwise: sample)
    #expect(try channel.port2.receiveSoon().load(as: Sample.self) == sample)
    try channel.port1.postMessage(bitwise: Nested(sample: sample, sum: -3))
    let nested = try channel.port2.receiveSoon().load(as: Nested.self)
    #expect(nested.sample == sample && nested.sum == -3)
  }

  @Test("Any bytes of the right size are a value, and no others are read")
  func anyBytes() throws {
    let channel = try MessageChannel()
    for _ in 0..<100 {
      let bytes = (0..<16).map { _ in UInt8.random(in: .min ... .max) }
      try channel.port1.postMessage(bytes: bytes)
      let sample = try channel.port2.receiveSoon().load(as: Sample.self)
      unsafe withUnsafeBytes(of: sample) { unsafe #expect(Array($0) == bytes) }
    }
    for size in [0, 15, 17] {
      try channel.port1.postMessage(bytes: [UInt8](repeating: 0, count: size))
      let event = try channel.port2.receiveSoon()
      #expect(portError { _ = try event.load(as: Sample.self) } == "decodingFailed")
    }
  }

  private struct Padded: BitwiseCopyable {
    var small: UInt8
    var large: UInt64
    var twice: UInt64 { large * 2 }
  }

  @Test("A list of fields that leaves bytes to nobody proves nothing")
  func padding() {
    let gap = "belongs to no field: padding, or a field not listed"
    #expect(PlainLayout<Padded>.problem(\.small, \.large) == "byte 1 \(gap)")
    #expect(PlainLayout<Padded>.problem(\.large) == "byte 0 \(gap)")
    #expect(PlainLayout<Sample>.problem(\.time) == "byte 8 \(gap)")
    #expect(PlainLayout<Sample>.problem(\.time, \.time) == "byte 0 belongs to two of the fields")
    #expect(PlainLayout<Padded>.problem(\.small, \.twice)?.hasSuffix("is not stored") == true)
    #expect(PlainLayout<Sample>.problem(\.time, \.value, \.channel, \.flags) == nil)
  }

  private struct Pretender: PlainValue {
    var small: UInt8
    var large: UInt64
    static let layout = PlainLayout<Pretender>(\.small, \.large)
  }

  @Test("A type with padding is refused before anything of it is sent or read")
  func refused() async {
    await #expect(processExitsWith: .failure) {
      try MessageChannel().port1.postMessage(bitwise: Pretender(small: 1, large: 2))
    }
    await #expect(processExitsWith: .failure) {
      let channel = try MessageChannel()
      try channel.port1.postMessage(bytes: [UInt8](repeating: 0, count: 16))
      _ = try channel.port2.receive().load(as: Pretender.self)
    }
    await #expect(processExitsWith: .failure) {
      let channel = try MessageChannel()
      try channel.port1.postMessage(bitwise: InlineArray<2, Uneven>(repeating: Uneven(large: 1, small: 2)))
    }
  }

  /// Has no padding within, but between two of them.
  private struct Uneven: PlainValue {
    var large: UInt32
    var small: UInt8
    static let layout = PlainLayout<Uneven>(\.large, \.small)
  }

  @Test("What only trusted peers may send is read by calls that say so")
  func trusted() throws {
    let channel = try MessageChannel()
    try unsafe channel.port1.postMessage(unsafeBitwise: Padded(small: 1, large: 2))
    let value = try unsafe channel.port2.receiveSoon().unsafeLoad(as: Padded.self)
    #expect(value.small == 1 && value.large == 2)
    try unsafe channel.port1.postMessage(unsafeBitwise: true)
    #expect(try unsafe channel.port2.receiveSoon().unsafeLoad(as: Bool.self))
  }

  @Test("A value of few bytes that came in pieces is read like any other")
  func inPieces() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    far.put(word(.firstFragment, 12), [8, 0, 0, 0, 0, 0, 0, 0, 42, 0, 0, 0])
    far.put(word(.lastFragment, 4), [0, 0, 0, 0])
    far.signal()
    let event = try await onThread { try port.receiveSoon() }
    #expect(try event.load(as: UInt64.self) == 42)
    #expect(event.bytes == [42, 0, 0, 0, 0, 0, 0, 0])
  }
}

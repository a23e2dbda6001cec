import CBench
import MessagePorts

extension Scenario {
  static let inPlace = Scenario(name: "in-place", near: InPlace.produce, far: InPlace.consume)
}

/// One way between halves, without a copy: each word of a message is written where it will be read, and read where it was
/// written. The peers that lend memory do the same.
enum InPlace {
  /// Added to the sequence of the last one. Its highest bit would not show in a sum of an even number of words.
  private static let last: UInt64 = 1 << 40

  private static func options(_ job: Job) -> ChannelOptions {
    ChannelOptions(laneCapacityBytes: FastTier.capacity(job.size))
  }

  static func produce(_ job: Job, _ near: NearSide) throws -> Outcome {
    let halves = try near.openChannel(options(job)).split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    try near.waitUntilReady()
    let meter = Meter(near)
    let mask: UInt64 = job.size <= 1024 ? 63 : 0
    var sequence: UInt64 = 0
    while true {
      try write(&writer, sequence, job.size)
      sequence &+= 1
      if sequence & mask == 0, try reader.tryRead(bitwise: UInt64.self) != nil { break }
    }
    try write(&writer, sequence &+ last, job.size)
    var outcome = Outcome(try near.report(), meter)
    outcome.value *= Double(job.size)
    return outcome
  }

  @inline(__always)
  private static func write(_ writer: inout PortWriter, _ sequence: UInt64, _ size: Int) throws {
    while try !writer.tryReserve(
      byteCount: size,
      { (output) throws(PortError) in
        unsafe output.withUnsafeMutableBytes { memory, written in
          unsafe cbench_fill_words(memory.baseAddress, size, sequence)
          written = size
        }
      })
    { cbench_relax() }
  }

  static func consume(_ job: Job, _ far: FarSide) throws {
    let halves = try far.nextPort().split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    reader.startPolling()
    var window = ArrivalWindow(job)
    try far.sayReady()
    let size = job.size
    let mask: UInt64 = size <= 1024 ? 63 : 0
    var expected: UInt64 = 0
    while true {
      let sum = try reader.tryRead { message in
        message.byteCount == size ? unsafe message.withUnsafeBytes { unsafe cbench_sum_words($0.baseAddress, size) } : 0
      }
      guard let sum else {
        cbench_relax()
        continue
      }
      guard sum == cbench_expected_sum(size, expected) else {
        guard sum == cbench_expected_sum(size, expected &+ last) else {
          throw Message.Damaged(description: "message \(expected) is missing or damaged")
        }
        break
      }
      expected &+= 1
      if expected & mask == 0, window.isOver(received: Int(expected)) { _ = try writer.tryWrite(bitwise: UInt64(1)) }
    }
    if let report = window.report { try far.send(report) }
  }
}

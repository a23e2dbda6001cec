import CBench
import MessagePorts
import Synchronization

// The fast tier: the two halves of a port, one thread each, nothing in between but the ring.

extension Scenario {
  static let fastTier: [Scenario] = [
    Scenario(name: "fast-round-trip", near: FastTier.ask, far: FastTier.answer),
    Scenario(name: "fast-sleeping", near: FastTier.askSleeping, far: FastTier.answerSleeping),
    Scenario(name: "fast-one-way", near: FastTier.produce, far: FastTier.consume),
  ]
}

enum FastTier {
  /// What the ring holds, in bytes: as much as the rings of the peers. A quarter of it is the largest message.
  static func capacity(_ size: Int) -> Int {
    switch size {
    case ...8: 64 << 10
    case ...64: 256 << 10
    case ...8192: 512 << 10
    case ...65536: 768 << 10  // Twice that does not fit the second-level cache.
    default: 8 << 20
    }
  }

  static func options(_ job: Job) -> ChannelOptions { ChannelOptions(laneCapacityBytes: capacity(job.size)) }

  // MARK: Round trip, polling

  static func ask(_ job: Job, _ near: NearSide) throws -> Outcome {
    let halves = try near.openChannel(options(job)).split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    reader.startPolling()
    try near.waitUntilReady()
    let samples = LatencySamples()
    let meter = Meter(near)
    let asked =
      if job.size == 8 {
        try askWords(&writer, &reader, samples, job)
      } else {
        try askBytes(&writer, &reader, samples, job)
      }
    return try Outcome(samples, meter.cost(of: Int(asked)))
  }

  @inline(never)
  private static func askWords(
    _ writer: inout PortWriter, _ reader: inout PortReader, _ samples: LatencySamples, _ job: Job
  ) throws -> UInt64 {
    samples.start(job)
    var sequence: UInt64 = 0
    while true {
      guard try writer.tryWrite(bitwise: sequence) else { continue }
      while true {
        guard let answer = try reader.tryRead(bitwise: UInt64.self) else {
          cbench_relax()
          continue
        }
        guard answer == sequence else { throw Message.Damaged(description: "answer \(answer) to \(sequence)") }
        break
      }
      sequence &+= 1
      if !samples.lap() { break }
    }
    while try !writer.tryWrite(bitwise: sequence | Message.last) {}
    return sequence
  }

  @inline(never)
  private static func askBytes(
    _ writer: inout PortWriter, _ reader: inout PortReader, _ samples: LatencySamples, _ job: Job
  ) throws -> UInt64 {
    let question = MessageBuffer(size: job.size), answer = MessageBuffer(size: job.size)
    let checker = Checker(size: job.size)
    samples.start(job)
    var sequence: UInt64 = 0
    while true {
      question.stamp(sequence)
      while try !writer.tryWrite(unsafe question.raw.bytes) {}
      while try reader.tryRead({ answer.copy($0) }) == nil { cbench_relax() }
      _ = try unsafe checker.check(answer.raw)
      sequence &+= 1
      if !samples.lap() { break }
    }
    question.stamp(sequence | Message.last)
    while try !writer.tryWrite(unsafe question.raw.bytes) {}
    return sequence
  }

  static func answer(_ job: Job, _ far: FarSide) throws {
    let halves = try far.nextPort().split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    reader.startPolling()
    try far.sayReady()
    if job.size == 8 {
      while true {
        guard let question = try reader.tryRead(bitwise: UInt64.self) else {
          cbench_relax()
          continue
        }
        if question & Message.last != 0 { break }
        while try !writer.tryWrite(bitwise: question) {}
      }
      return
    }
    let question = MessageBuffer(size: job.size), answer = MessageBuffer(size: job.size)
    let checker = Checker(size: job.size)
    while true {
      while try reader.tryRead({ question.copy($0) }) == nil { cbench_relax() }
      if try unsafe checker.check(question.raw) { break }
      answer.stamp(checker.expected - 1)
      while try !writer.tryWrite(unsafe answer.raw.bytes) {}
    }
  }

  // MARK: Round trip, sleeping

  static func askSleeping(_ job: Job, _ near: NearSide) throws -> Outcome {
    let halves = try near.openChannel(options(job)).split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    reader.spinPolicy = .never
    try near.waitUntilReady()
    let samples = LatencySamples()
    let meter = Meter(near)
    samples.start(job)
    var sequence: UInt64 = 0
    repeat {
      guard try writer.tryWrite(bitwise: sequence) else { continue }
      let answer = try reader.read { unsafe $0.unsafeLoad(as: UInt64.self) }
      guard answer == sequence else { throw Message.Damaged(description: "answer \(answer) to \(sequence)") }
      sequence &+= 1
    } while samples.lap()
    let cost = meter.cost(of: Int(sequence))
    _ = try writer.tryWrite(bitwise: sequence | Message.last)
    return try Outcome(samples, cost)
  }

  static func answerSleeping(_ job: Job, _ far: FarSide) throws {
    let halves = try far.nextPort().split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    reader.spinPolicy = .never
    try far.sayReady()
    while true {
      let question = try reader.read { unsafe $0.unsafeLoad(as: UInt64.self) }
      if question & Message.last != 0 { break }
      _ = try writer.tryWrite(bitwise: question)
    }
  }

  // MARK: One way

  static func produce(_ job: Job, _ near: NearSide) throws -> Outcome {
    let halves = try near.openChannel(options(job)).split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    try near.waitUntilReady()
    let meter = Meter(near)
    if job.inRuns {
      try FastRuns.produce(&writer, &reader, job)
    } else if job.size == 8, job.batch == 1 {
      try produceWords(&writer, &reader)
    } else if job.size == 8 {
      try produceWordsBatched(&writer, &reader, count: job.batch)
    } else {
      try produceBytes(&writer, &reader, job)
    }
    return Outcome(try near.report(), meter)
  }

  @inline(never)
  private static func produceWords(_ writer: inout PortWriter, _ reader: inout PortReader) throws {
    var sequence: UInt64 = 0
    while true {
      while try !writer.tryWrite(bitwise: sequence) { cbench_relax() }
      sequence &+= 1
      if sequence % 64 == 0, try reader.tryRead(bitwise: UInt64.self) != nil { break }
    }
    while try !writer.tryWrite(bitwise: sequence | Message.last) {}
  }

  @inline(never)
  private static func produceWordsBatched(
    _ writer: inout PortWriter, _ reader: inout PortReader, count: Int
  ) throws {
    var sequence: UInt64 = 0
    while try reader.tryRead(bitwise: UInt64.self) == nil {
      let next = try writer.batch { (batch) throws(PortError) -> UInt64 in
        var next = sequence
        for _ in 0..<count {
          guard try batch.tryWrite(bitwise: next) else { break }
          next &+= 1
        }
        return next
      }
      if next == sequence { cbench_relax() }
      sequence = next
    }
    while try !writer.tryWrite(bitwise: sequence | Message.last) {}
  }

  @inline(never)
  private static func produceBytes(_ writer: inout PortWriter, _ reader: inout PortReader, _ job: Job) throws {
    let buffer = MessageBuffer(size: job.size)
    let mask: UInt64 = job.size <= 1024 ? 63 : 0
    var sequence: UInt64 = 0
    while true {
      if job.batch == 1 {
        buffer.stamp(sequence)
        while try !writer.tryWrite(unsafe buffer.raw.bytes) { cbench_relax() }
        sequence &+= 1
      } else {
        let next = try writer.batch { (batch) throws(PortError) -> UInt64 in
          var next = sequence
          for _ in 0..<job.batch {
            buffer.stamp(next)
            guard try batch.tryWrite(unsafe buffer.raw.bytes) else { break }
            next &+= 1
          }
          return next
        }
        if next == sequence { cbench_relax() }
        sequence = next
      }
      if job.batch > 1 || sequence & mask == 0, try reader.tryRead(bitwise: UInt64.self) != nil { break }
    }
    buffer.stamp(sequence | Message.last)
    while try !writer.tryWrite(unsafe buffer.raw.bytes) {}
  }

  static func consume(_ job: Job, _ far: FarSide) throws {
    let halves = try far.nextPort().split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    reader.startPolling()
    var window = ArrivalWindow(job)
    try far.sayReady()
    if job.inRuns {
      try FastRuns.consume(&writer, &reader, &window, job)
    } else if job.size == 8 {
      try consumeWords(&writer, &reader, &window)
    } else {
      try consumeBytes(&writer, &reader, &window, job)
    }
    if let report = window.report { try far.send(report) }
  }

  @inline(never)
  private static func consumeWords(
    _ writer: inout PortWriter, _ reader: inout PortReader, _ window: inout ArrivalWindow
  ) throws {
    var expected: UInt64 = 0
    while true {
      guard let sequence = try reader.tryRead(bitwise: UInt64.self) else {
        cbench_relax()
        continue
      }
      guard sequence == expected else {
        guard sequence == expected | Message.last else {
          throw Message.Damaged(description: "message \(sequence) instead of \(expected)")
        }
        return
      }
      expected &+= 1
      if expected % 64 == 0, window.isOver(received: Int(expected)) { _ = try writer.tryWrite(bitwise: UInt64(1)) }
    }
  }

  @inline(never)
  private static func consumeBytes(
    _ writer: inout PortWriter, _ reader: inout PortReader, _ window: inout ArrivalWindow, _ job: Job
  ) throws {
    let buffer = MessageBuffer(size: job.size)
    let checker = Checker(size: job.size)
    let mask: UInt64 = job.size <= 1024 ? 63 : 0
    while true {
      var target = unsafe buffer.target.mutableBytes
      guard let byteCount = try reader.tryRead(into: &target) else {
        cbench_relax()
        continue
      }
      guard byteCount == job.size else { throw Message.Damaged(description: "a message of another size") }
      if try unsafe checker.check(buffer.raw) { return }
      if checker.expected & mask == 0, window.isOver(received: Int(checker.expected)) {
        _ = try writer.tryWrite(bitwise: UInt64(1))
      }
    }
  }
}

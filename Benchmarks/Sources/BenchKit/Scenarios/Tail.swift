import CBench
import MessagePorts

// The tail: messages at a fixed rate, one way, whose latency counts from when they were due. With everything that the library has
// against surprises (memory that is locked, threads that are placed and never sleep), and as it is by default.

extension Scenario {
  static let tail: [Scenario] = [
    Scenario(name: "tail-fast", near: Tail.write, far: Tail.read),
    Scenario(name: "tail-port", near: Tail.post, far: Tail.handle),
  ]
}

/// What the far side has seen.
struct TailReport: Codable, Sendable {
  var latency: LatencyHistogram
  var maximum: Double
  var costs: ThreadCosts
}

enum Tail {
  /// Stands for the end.
  private static let last = UInt64.max
  /// Larger than what is needed, so that the whole of it is walked through while it is measured.
  private static let laneCapacity = 1 << 20

  private static func options(_ job: Job) -> ChannelOptions {
    var options = ChannelOptions(laneCapacityBytes: laneCapacity)
    if job.isPrepared { (options.spinPolicy, options.residency) = (.always, .locked) }
    return options
  }

  // MARK: The sender, which is a thread of the program's in both tiers

  static func write(_ job: Job, _ near: NearSide) throws -> Outcome {
    let halves = try near.openChannel(options(job)).split()
    var writer = halves.takeWriter()
    try near.waitUntilReady()
    return try send(job, near) { due in
      while try !writer.tryWrite(bitwise: due) { cbench_relax() }
    }
  }

  static func post(_ job: Job, _ near: NearSide) throws -> Outcome {
    let port = try near.openChannel(options(job))
    try near.waitUntilReady()
    return try send(job, near) { due in try port.postMessage(bitwise: due) }
  }

  @inline(__always)
  private static func send(_ job: Job, _ near: NearSide, _ send: (UInt64) throws -> Void) throws -> Outcome {
    if job.isPrepared { try Machine.pin(0) }
    var pace = Pace(job)
    var due = pace.next()
    var meter = CostMeter(job, first: due)
    while meter.stretch != .over {
      try send(due)
      due = pace.next()
      meter.note(due)
    }
    // With this one, the receiver's last stretch is over as well.
    try send(due)
    try send(last)
    let report = try near.tailReport()
    var outcome = Outcome(report.latency.median)
    outcome.latency = report.latency
    outcome.others["maximum"] = report.maximum
    for (who, costs) in [("sender", meter.costs), ("receiver", report.costs)] {
      outcome.others["\(who), minor faults"] = Double(costs.minorFaults)
      outcome.others["\(who), major faults"] = Double(costs.majorFaults)
      outcome.others["\(who), involuntary switches"] = Double(costs.involuntarySwitches)
      if let calls = costs.systemCalls { outcome.others["\(who), system calls per second"] = calls }
    }
    return outcome
  }

  // MARK: The receiver

  static func read(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    if job.isPrepared { try port.makeResident(.locked) }
    var reader = try port.split().takeReader()
    if job.isPrepared {
      reader.spinPolicy = .always
      try Machine.pin(1)
    }
    let listener = Listener(job)
    try far.sayReady()
    while try reader.read({ listener.hear(unsafe $0.unsafeLoad(as: UInt64.self)) }) {}
    try far.send(listener.report())
  }

  static func handle(_ job: Job, _ far: FarSide) throws {
    let port = try far.nextPort()
    if job.isPrepared {
      try port.makeResident(.locked)
      let scheduling = job.isRealTime ? EventLoop.Scheduling.fifo(priority: 1) : nil
      port.setEventLoop(
        try EventLoop(
          name: "tail", spinPolicy: .always,
          placement: EventLoop.Placement(processors: [1], scheduling: scheduling)))
    }
    let listener = Listener(job)
    let isOver = Mailbox<Void>()
    port.onMessage = { event in
      let due = (try? event.load(as: UInt64.self)) ?? last
      if !listener.hear(due) { isOver.put(()) }
    }
    try far.sayReady()
    try isOver.take(seconds: 600)
    try far.send(listener.report())
    withExtendedLifetime(port) {}
  }

  /// Stores latencies as messages come. One thread at a time: the receiving one, then whoever reports.
  @safe
  private final class Listener: @unchecked Sendable {
    private let job: Job
    private let samples: UnsafeMutableBufferPointer<UInt32>
    private var count = 0
    private var meter: CostMeter?

    init(_ job: Job) {
      self.job = job
      unsafe samples = .allocate(capacity: Int(Double(job.rate) * job.seconds * 1.1) + 1000)
      unsafe samples.initialize(repeating: 0)  // also sees to it that the pages exist
    }

    deinit { unsafe samples.deallocate() }

    /// `false`: it was the last one.
    @inline(__always)
    func hear(_ due: UInt64) -> Bool {
      let now = Ticks.now
      if due == last { return false }
      if meter == nil { meter = CostMeter(job, first: due) }
      meter!.note(due)
      if meter!.stretch == .measured, unsafe count < samples.count {
        unsafe samples[count] = UInt32(truncatingIfNeeded: min(now > due ? now - due : 0, UInt64(UInt32.max)))
        count += 1
      }
      return true
    }

    func report() throws -> TailReport {
      guard count > 0, let meter else { throw Machine.Failure(description: "nothing came in the measured time") }
      var latency = LatencyHistogram()
      var maximum = 0.0
      for index in 0..<count {
        let nanoseconds = Double(unsafe samples[index]) * Ticks.nanosecondsPerTick
        latency.record(nanoseconds: nanoseconds)
        maximum = max(maximum, nanoseconds)
      }
      return TailReport(latency: latency, maximum: maximum, costs: meter.costs)
    }
  }
}

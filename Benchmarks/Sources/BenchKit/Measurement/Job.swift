/// What one run of a scenario is to do. The near process gets it as an argument and hands it on to the far one.
public struct Job: Codable, Sendable {
  public var scenario: String
  /// Bytes per message.
  public var size = 8
  /// Measured time, after the warm-up.
  public var seconds = 0.12
  public var warmUpSeconds = 0.05
  public var placement = Placement.twoCores
  /// Whether event loops and adaptive waits may look around for a moment before they sleep. The library decides that by
  /// counting the processors that the process may use, at its first use: see ``ChildProcesses``.
  public var looksAround = true
  /// How many ports, where it matters.
  public var ports = 1
  /// How many messages are published, or channels under way, at once.
  public var batch = 1
  /// A batch is one call for many values, instead of many calls that are published together.
  public var inRuns = false
  public var receive = Receive.handler
  /// Messages per second, where they are paced.
  public var rate = 20_000
  /// With all that the library has against surprises; see `Tail`.
  public var isPrepared = false
  public var isRealTime = false
  /// Set in the environment of both processes.
  public var driver: String?
  public var backing: String?

  public init(_ scenario: String) { self.scenario = scenario }

  /// How the far side takes messages from a port.
  public enum Receive: String, Codable, Sendable {
    case handler, sequence, sequenceOnLoop, batches, batchesOnLoop, blocking, polling
  }

  func with(_ change: (inout Job) -> Void) -> Job {
    var job = self
    change(&job)
    return job
  }
}

/// Where the two processes run.
public enum Placement: String, Codable, Sendable {
  case twoCores, oneCore, unpinned

  /// The processor of the near and of the far side.
  var processors: (near: Int, far: Int)? {
    switch self {
    case .twoCores: (0, 1)
    case .oneCore: (0, 0)
    case .unpinned: nil
    }
  }
}

/// What the far side of a one-way measurement has counted.
struct Report: Codable, Sendable {
  var count: Int
  /// The warm-up included.
  var total = 0
  var seconds: Double
  var perSecond: Double { Double(count) / seconds }
}

/// What one run of one scenario came to.
public struct Outcome: Codable, Sendable {
  /// In the unit of the scenario's metric; of a latency, the median.
  public var value: Double
  public var latency: LatencyHistogram?
  /// What else came out of the same run, by variant.
  public var others: [String: Double] = [:]
  /// How often the near process lost its processor against its will.
  public var preempted = 0
  /// `nil`: nobody counted.
  public var cost: Cost?

  init(_ value: Double) { self.value = value }

  init(_ report: Report, _ meter: Meter) {
    self.init(report.perSecond)
    cost = meter.cost(of: report.total)
  }

  init(_ histogram: LatencyHistogram) {
    value = histogram.median
    latency = histogram
  }

  /// Throws if there are none: something kept the processes from running.
  init(_ samples: LatencySamples, _ cost: Cost? = nil) throws {
    let histogram = samples.histogram()
    guard histogram.count > 0 else { throw Machine.Failure(description: "no round trip in the measured time") }
    self.init(histogram)
    self.cost = cost
  }
}

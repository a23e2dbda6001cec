import CBench

/// Messages at a fixed rate: each is due at a time of its own, whatever became of those before. So whoever is held up sends the
/// others late, and they count as late.
struct Pace {
  private let interval: UInt64
  private var due: UInt64

  /// The first one is due now.
  init(_ job: Job) {
    interval = Ticks.inSeconds(1) / UInt64(job.rate)
    due = Ticks.now
  }

  /// Returns when the next one is due: when that was.
  @inline(__always)
  mutating func next() -> UInt64 {
    while Ticks.now < due { cbench_relax() }
    defer { due &+= interval }
    return due
  }
}

/// What a thread has cost while it was measured.
struct ThreadCosts: Codable, Sendable {
  var minorFaults = 0
  var majorFaults = 0
  var involuntarySwitches = 0
  /// Per second; `nil`: the kernel lacks what it takes to count them.
  var systemCalls: Double?
}

/// Counts what the calling thread costs, in three stretches of the messages' times:
///
///     warm-up | measured: faults, switches | (the filter that counts is put up) | counted: system calls | over
@safe  // The counter is never given back.
struct CostMeter {
  enum Stretch { case warmUp, measured, preparing, counted, over }

  private(set) var stretch = Stretch.warmUp
  private(set) var costs = ThreadCosts()
  /// When the next stretch begins.
  private(set) var end: UInt64
  private let job: Job
  private var before = cbench_thread_costs()
  private var counter: OpaquePointer?
  private var callsBefore: Int64 = 0

  /// How long system calls are counted, and how long before that the filter is put up.
  static let countedSeconds = 0.5, preparingSeconds = 0.2

  init(_ job: Job, first due: UInt64) {
    self.job = job
    end = due + Ticks.inSeconds(job.warmUpSeconds)
  }

  /// A message that was due then is about to be sent, or has come.
  @inline(__always)
  mutating func note(_ due: UInt64) { if due >= end { advance(due) } }

  @inline(never)
  private mutating func advance(_ due: UInt64) {
    switch stretch {
    case .warmUp:
      stretch = .measured
      end = due + Ticks.inSeconds(job.seconds)
      unsafe cbench_thread_costs(&before)
    case .measured:
      stretch = .preparing
      end = due + Ticks.inSeconds(Self.preparingSeconds)
      var after = cbench_thread_costs()
      unsafe cbench_thread_costs(&after)
      costs.minorFaults = Int(after.minor_faults - before.minor_faults)
      costs.majorFaults = Int(after.major_faults - before.major_faults)
      costs.involuntarySwitches = Int(after.involuntary_switches - before.involuntary_switches)
      unsafe counter = cbench_count_calls()
    case .preparing:
      stretch = .counted
      end = due + Ticks.inSeconds(Self.countedSeconds)
      if let counter = unsafe counter { callsBefore = unsafe cbench_calls(counter) }
    case .counted:
      stretch = .over
      end = .max
      if let counter = unsafe counter {
        costs.systemCalls = Double(unsafe cbench_calls(counter) - callsBefore) / Self.countedSeconds
      }
    case .over: break
    }
  }
}

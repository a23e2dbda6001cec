import CBench

/// The time stamp counter, as a clock: cheap enough to be read once per message.
enum Ticks {
  static var now: UInt64 { cbench_ticks() }
  static let nanosecondsPerTick = cbench_ns_per_tick()

  static func inSeconds(_ seconds: Double) -> UInt64 { UInt64(seconds * 1e9 / nanosecondsPerTick) }
  static func seconds(_ ticks: UInt64) -> Double { Double(ticks) * nanosecondsPerTick / 1e9 }
}

/// When a receiver counts: from the end of the warm-up, for as long as is to be measured. Times are taken where messages
/// arrive, so that what still waits on its way does not count.
struct ArrivalWindow {
  private let measured: UInt64
  /// When the next thing happens: the beginning, then the end.
  private var next: UInt64
  private var begin: UInt64 = 0
  private var countAtBegin = 0
  private(set) var report: Report?

  /// The warm-up begins now.
  init(_ job: Job) {
    measured = Ticks.inSeconds(job.seconds)
    next = Ticks.now + Ticks.inSeconds(job.warmUpSeconds)
  }

  /// `received` messages have arrived. `true` once: the time is over.
  @inline(__always)
  mutating func isOver(received: Int) -> Bool {
    let now = Ticks.now
    return now < next ? false : advance(now, received)
  }

  @inline(never)
  private mutating func advance(_ now: UInt64, _ received: Int) -> Bool {
    if begin == 0 {
      begin = now
      countAtBegin = received
      next = now + measured
      return false
    }
    guard report == nil else { return false }
    report = Report(count: received - countAtBegin, total: received, seconds: Ticks.seconds(now - begin))
    next = .max
    return true
  }
}

/// Does something again and again for the measured time, after a warm-up.
func measureRate(_ job: Job, _ work: () throws -> Void) rethrows -> Double {
  let warm = Ticks.now + Ticks.inSeconds(job.warmUpSeconds)
  while Ticks.now < warm { try work() }
  let begin = Ticks.now
  let end = begin + Ticks.inSeconds(job.seconds)
  var (now, count) = (begin, 0)
  while now < end {
    try work()
    count += 1
    now = Ticks.now
  }
  return Double(count) / Ticks.seconds(now - begin)
}

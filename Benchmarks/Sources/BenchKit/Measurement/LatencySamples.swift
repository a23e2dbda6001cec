import CBench
import Histogram

/// Round-trip times, stored as they come: one store per sample, so that the measuring is not what is measured.
@safe
final class LatencySamples: @unchecked Sendable {  // one thread at a time: the asking side's
  private let ticks: UnsafeMutablePointer<UInt32>
  private let capacity: Int
  private var count = 0
  private var before: UInt64 = 0
  private var begin: UInt64 = 0
  private var end: UInt64 = 0

  init(capacity: Int = 1 << 22) {
    self.capacity = capacity
    unsafe ticks = .allocate(capacity: capacity)
    unsafe ticks.initialize(repeating: 0, count: capacity)  // also sees to it that the pages exist
  }

  deinit { unsafe ticks.deallocate() }

  /// The warm-up begins now, and with it the first round trip.
  func start(_ job: Job) {
    before = Ticks.now
    begin = before + Ticks.inSeconds(job.warmUpSeconds)
    end = begin + Ticks.inSeconds(job.seconds)
  }

  /// A round trip is over and the next one begins: the clock is read once for both. `false`: the time is over.
  @inline(__always)
  func lap() -> Bool {
    let now = Ticks.now
    if before >= begin, count < capacity {
      unsafe ticks[count] = UInt32(truncatingIfNeeded: min(now &- before, UInt64(UInt32.max)))
      count += 1
    }
    before = now
    return now < end && count < capacity
  }

  func histogram() -> LatencyHistogram {
    var histogram = LatencyHistogram()
    for i in 0..<count { unsafe histogram.record(nanoseconds: Double(ticks[i]) * Ticks.nanosecondsPerTick) }
    return histogram
  }
}

/// A distribution of latencies in nanoseconds, to three significant digits.
public struct LatencyHistogram: Codable, Sendable {
  private var histogram = Histogram<UInt64>(
    highestTrackableValue: 100_000_000_000, numberOfSignificantValueDigits: .three)

  public init() {}

  mutating func record(nanoseconds: Double, count: Int = 1) {
    histogram.record(UInt64(max(0, nanoseconds.rounded())), count: UInt64(max(0, count)))
  }

  mutating func add(_ other: LatencyHistogram) { histogram.add(other.histogram) }

  var count: UInt64 { histogram.totalCount }
  var minimum: Double { Double(histogram.min) }
  var maximum: Double { Double(histogram.max) }
  /// Finer than the clock: time stamps come in steps, of 10 ns on some processors, so that half of all samples of a short
  /// round trip may be equal. Each is taken as spread evenly over the step around it. The limits and peers do the same.
  var median: Double {
    let values = histogram.recordedValues().map { (value: Double($0.value), count: Double($0.count)) }
    var seen = 0.0
    for (index, bucket) in values.enumerated() {
      guard seen + bucket.count >= Double(count) / 2 else {
        seen += bucket.count
        continue
      }
      func halfStep(to other: Int) -> Double {
        values.indices.contains(other) ? min(Self.longestStep, abs(values[other].value - bucket.value)) / 2 : 0
      }
      let low = bucket.value - halfStep(to: index - 1), high = bucket.value + halfStep(to: index + 1)
      return low + (high - low) * (Double(count) / 2 - seen) / bucket.count
    }
    return 0
  }
  private static let longestStep = 16.0

  func percentile(_ percent: Double) -> Double { Double(histogram.valueAtPercentile(percent)) }

  /// The percentiles that are worth a column, without those that too few samples cannot tell.
  var percentiles: [(percent: Double, nanoseconds: Double)] {
    [50, 90, 99, 99.9, 99.99].filter { Double(count) * (100 - $0) / 100 >= 1 }.map { ($0, percentile($0)) }
  }

  /// The curve: denser towards the tail, as far as the samples reach.
  var curve: [(percent: Double, nanoseconds: Double)] {
    var points: [(percent: Double, nanoseconds: Double)] = []
    var tail = 100.0
    while tail >= 0.01, Double(count) * tail / 100 >= 1 {
      points.append((100 - tail, percentile(100 - tail)))
      tail /= 1.3
    }
    return points
  }
}

/// How long until a time, in the form that system calls take.
enum Deadline {
  /// What is left, at least 0; -1: there is no end.
  static func nanoseconds(until deadline: ContinuousClock.Instant?) -> Int64 {
    guard let deadline else { return -1 }
    return max(0, (deadline - ContinuousClock.now).nanoseconds)
  }

  /// A time of CLOCK_MONOTONIC so much later; one that never comes, if the clock has no room for the sum.
  static func time(_ nanoseconds: UInt64, after time: UInt64) -> UInt64 {
    let (sum, overflows) = time.addingReportingOverflow(nanoseconds)
    return overflows ? .max : sum
  }

  /// The earlier one of two such; -1 is the latest.
  static func shorter(_ one: Int64, _ other: Int64) -> Int64 { one < 0 ? other : other < 0 ? one : min(one, other) }

  /// The time after `timeout`; `nil`: there is no end, also if it lies further ahead than the clock goes.
  static func after(_ timeout: Duration?) -> ContinuousClock.Instant? {
    guard let timeout, timeout < .seconds(1 << 32) else { return nil }
    return ContinuousClock.now + max(timeout, .zero)
  }
}

extension Duration {
  /// Whole nanoseconds, as far as they fit.
  var nanoseconds: Int64 {
    let (seconds, attoseconds) = components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    if overflow { return seconds < 0 ? .min : .max }
    return product &+ attoseconds / 1_000_000_000
  }
}

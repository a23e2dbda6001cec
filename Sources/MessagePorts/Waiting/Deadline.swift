/// How long until a time, in the form that system calls take.
enum Deadline {
  /// What is left, at least 0; -1: there is no end.
  static func nanoseconds(until deadline: ContinuousClock.Instant?) -> Int64 {
    guard let deadline else { return -1 }
    return max(0, (deadline - ContinuousClock.now).nanoseconds)
  }

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

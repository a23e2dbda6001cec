import Synchronization

/// When round trips took place and how long they took, so that two series can be compared moment by moment.
final class RoundTrips: Sendable {
  private struct State: Sendable {
    var count = 0
    var slowest = Duration.zero
    /// The slowest round trip that touched a window of time, by the window's number.
    var windows: [Int: Duration] = [:]
    /// Those that are worth a comparison.
    var slow: [(windows: ClosedRange<Int>, took: Duration, waited: Duration)] = []
  }

  private let state = Mutex(State())
  private let origin = ContinuousClock.now
  private static let window = Duration.milliseconds(100)
  private static let worthComparing = Duration.milliseconds(5)

  init() {}

  var count: Int { state.withLock { $0.count } }
  var slowest: Duration { state.withLock { $0.slowest } }

  /// - Parameter waited: how much of it was waiting for a processor.
  func add(from start: ContinuousClock.Instant, to end: ContinuousClock.Instant, waited: Duration = .zero) {
    let took = end - start
    let touched = Int((start - origin) / Self.window)...Int((end - origin) / Self.window)
    state.withLock { state in
      state.count += 1
      state.slowest = max(state.slowest, took)
      for number in touched { state.windows[number] = max(state.windows[number] ?? .zero, took) }
      if took > Self.worthComparing { state.slow.append((touched, took, waited)) }
    }
  }

  func removeAll() { state.withLock { $0 = State() } }

  /// By how much a round trip took longer than the slowest of the others that took place at about that time; and without what
  /// was waiting for a processor.
  func excess(over other: RoundTrips) -> (total: Duration, own: Duration) {
    // Both count windows from their own origin.
    let shift = Int((origin - other.origin) / Self.window)
    let (slow, windows) = (state.withLock { $0.slow }, other.state.withLock { $0.windows })
    var (total, own) = (Duration.zero, Duration.zero)
    for (touched, took, waited) in slow {
      let around = touched.lowerBound + shift - 1...touched.upperBound + shift + 1
      let excess = took - (around.compactMap { windows[$0] }.max() ?? .zero)
      total = max(total, excess)
      own = max(own, excess - waited)
    }
    return (total, own)
  }
}

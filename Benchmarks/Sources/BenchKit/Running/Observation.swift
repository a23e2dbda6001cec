/// Whose figure, and of what. Unique among the results of a run.
struct FigureKey: Hashable, Sendable {
  var who: String
  var tier: Tier
  var metric: Metric
  var size: Int?
  /// Tells apart several ways of using one system; empty for the plain one.
  var variant: String
}

/// One figure of one repetition.
struct Observation: Sendable {
  var key: FigureKey
  var value: Double
  var latency: LatencyHistogram?
  /// What another program says of its own distribution.
  var percentiles: [(percent: Double, nanoseconds: Double)] = []
  var note: String
  var build: String
  /// A bounced cache line, at the same time.
  var probe: Double = .nan
  /// The processors were near before and after.
  var isNear = true
}

/// All figures of a cell, measured one right after the other.
struct Repetition: Sendable {
  var observations: [Observation] = []
  var failures: [(who: String, tier: Tier, reason: String)] = []
}

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
  var cost: Cost?
  var note: String
  var build: String
  /// A bounced cache line just before and just after: of this figure alone if its program says so, otherwise of all that a
  /// program has measured in one go.
  var probes: (before: Double, after: Double)?
  /// The processors were near before and after, or it does not matter.
  var isNear = true

  /// Whether it is what it is said to be: sides that sleep while they wait do so nearly twice in each round trip.
  var isOfItsKind: Bool { !key.metric.isOfSleepers || (cost?.sleeps ?? 2) >= 1.5 }
}

/// All figures of a cell, measured one right after the other.
struct Repetition: Sendable {
  var observations: [Observation] = []
  var failures: [(who: String, tier: Tier, reason: String)] = []
}

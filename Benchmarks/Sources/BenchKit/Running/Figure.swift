/// What is known of one system, metric and size after all repetitions.
public struct Figure: Sendable {
  var key: FigureKey
  /// The median of the repetitions; `nil`: none came.
  var value: Double?
  var minimum: Double?
  var maximum: Double?
  /// What it is held against, and who that is.
  var limit: Double?
  var limitName: String?
  /// The value divided by the limit: of the same repetition if it was measured there, and then the median.
  var ratio: Double?
  /// Of a round trip whose limit is made of two: a bounced cache line of the same repetitions.
  var bounce: Double?
  var repetitions = 0
  /// How many of them were kept although the processors were far apart.
  var keptFar = 0
  /// A bounced cache line during these repetitions: the median, in nanoseconds.
  var probe: Double?
  var percentiles: [(percent: Double, nanoseconds: Double)] = []
  var curve: [(percent: Double, nanoseconds: Double)] = []
  var note = ""
  var build = ""
  /// Why there is no value.
  var error: String?

  init(_ key: FigureKey) { self.key = key }

  /// Who it is, in one name.
  var name: String { key.variant.isEmpty ? key.who : "\(key.who) (\(key.variant))" }

  /// How many bounced cache lines one message, or whatever is counted, costs.
  var bounces: Double? {
    guard let value, let probe, probe > 0 else { return nil }
    switch key.metric.unit {
    case "ns": return value / probe
    case "1/s": return 1e9 / (value * probe)
    default: return nil
    }
  }
}

extension [Double] {
  var median: Double? {
    if isEmpty { return nil }
    let sorted = sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}

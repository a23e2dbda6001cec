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
  /// The value divided by the limit.
  var ratio: Double?
  /// Of a round trip whose limit is made of two: a bounced cache line of the same repetitions.
  var bounce: Double?
  var repetitions = 0
  /// How many of them were kept although the processors were far apart.
  var keptFar = 0
  /// How many were dropped because they did not sleep, though that is what is measured.
  var notOfItsKind = 0
  /// A bounced cache line during these repetitions: the median, in nanoseconds.
  var probe: Double?
  /// What a message costs both sides together: medians.
  var cost: Cost?
  var percentiles: [(percent: Double, nanoseconds: Double)] = []
  var curve: [(percent: Double, nanoseconds: Double)] = []
  var note = ""
  var build = ""
  /// Why there is no value.
  var error: String?

  init(_ key: FigureKey) { self.key = key }

  /// Who it is, in one name.
  var name: String { key.variant.isEmpty ? key.who : "\(key.who) (\(key.variant))" }

  /// Measured often enough while the processors were near, so that it may be held against others and others against it.
  var isNear: Bool { value != nil && keptFar == 0 }

  /// The value as another metric counts: bytes instead of messages.
  func value(as metric: Metric) -> Double? {
    guard let value else { return nil }
    return metric.unit == "B/s" && key.metric == .messages ? value * Double(key.size ?? 1) : value
  }

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

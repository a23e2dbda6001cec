import Foundation

/// The results as lines of JSON, one per figure, keys in a fixed order.
public enum Results {
  public static func lines(_ figures: [Figure]) -> String {
    figures.flatMap { figure -> [String] in
      guard figure.key.metric == .messages, figure.key.size != nil else {
        return [line(figure, figure.key.metric, factor: 1)]
      }
      return [
        line(figure, .messages, factor: 1), line(figure, .bytes, factor: Double(figure.key.size ?? 1)),
      ]
    }.map { $0 + "\n" }.joined()
  }

  private static func line(_ figure: Figure, _ metric: Metric, factor: Double) -> String {
    var fields: [(String, String)] = [
      ("who", quoted(figure.name)), ("tier", quoted(figure.key.tier.rawValue)), ("metric", quoted(metric.rawValue)),
      ("size", figure.key.size.map(String.init) ?? "null"), ("value", number(figure.value, factor)),
      ("min", number(figure.minimum, factor)), ("max", number(figure.maximum, factor)), ("unit", quoted(metric.unit)),
      ("limit", number(figure.limit, factor)), ("ratio", number(figure.ratio, 1)),
      ("limit_is", figure.limitName.map(quoted) ?? "null"), ("repetitions", "\(figure.repetitions)"),
      ("kept_far", "\(figure.keptFar)"), ("cache_line_ns", number(figure.probe, 1)),
      ("in_cache_lines", number(figure.bounces, 1)),
      ("cpu_ns_per_message", number(figure.cost?.nanoseconds, 1)),
      ("sleeps_per_message", number(figure.cost?.sleeps, 1, digits: 3)),
    ]
    if figure.notOfItsKind > 0 { fields.append(("dropped_sleepless", "\(figure.notOfItsKind)")) }
    if !figure.percentiles.isEmpty {
      let points = figure.percentiles.map { "\"p\(Numbers.percent($0.percent))\":\(number($0.nanoseconds, 1))" }
      fields.append(("percentiles_ns", "{\(points.joined(separator: ","))}"))
      let curve = figure.curve.map { "[\(number($0.percent, 1, digits: 7)),\(number($0.nanoseconds, 1))]" }
      fields.append(("curve", "[\(curve.joined(separator: ","))]"))
    }
    if !figure.note.isEmpty { fields.append(("includes", quoted(figure.note))) }
    if !figure.build.isEmpty { fields.append(("build", quoted(figure.build))) }
    if let error = figure.error { fields.append(("error", quoted(error))) }
    return "{\(fields.map { "\"\($0)\":\($1)" }.joined(separator: ","))}"
  }

  private static func number(_ value: Double?, _ factor: Double, digits: Int = 5) -> String {
    guard let value, value.isFinite else { return "null" }
    return String(format: "%.\(digits)g", value * factor)
  }

  private static func quoted(_ text: String) -> String {
    guard let data = try? JSONEncoder().encode(text) else { return "null" }
    return String(decoding: data, as: UTF8.self)
  }

  /// What the report needs besides: the machine, the run, and the bars.
  public static func about(_ figures: [Figure], arguments: [String]) throws -> Data {
    struct About: Encodable {
      var date: String
      var command: String
      var machine: [[String]]
      var bars: [[String: String]]
    }
    let bars = Bar.all(figures).map { bar in
      [
        "title": bar.title, "target": "\(bar.isMinimum ? "≥" : "≤") \(Numbers.significant(bar.target)) \(bar.unit)",
        "reached": bar.reached.map { "\(Numbers.significant($0)) \(bar.unit)" } ?? "not measured",
        "result": bar.isPassed.map { $0 ? "pass" : "miss" } ?? "", "bound": bar.isPassed == false ? bar.bound : "",
      ]
    }
    let about = About(
      date: Date.now.formatted(.iso8601), command: arguments.joined(separator: " "),
      machine: Machine.facts().map { [$0.name, $0.value] }, bars: bars)
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    return try encoder.encode(about)
  }
}

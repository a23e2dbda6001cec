import Foundation
import TextTable

/// The figures and the bars, for a terminal.
public enum Tables {
  public static func figures(_ figures: [Figure]) -> String {
    var text = ""
    for metric in Metric.allCases where metric != .bytes {
      let rows = figures.filter { $0.key.metric == metric }
      if rows.isEmpty { continue }
      text += "\n\(metric.rawValue)\(metric == .messages ? " and \(Metric.bytes.rawValue)" : "")\n"
      text += figureTable.string(for: rows.sorted(by: Self.order), style: Style.psql) ?? ""
    }
    return text
  }

  /// By size, ours first, then limits, then peers, the better first.
  private static func order(_ a: Figure, _ b: Figure) -> Bool {
    func rank(_ figure: Figure) -> Int {
      switch figure.key.tier {
      case .fast: 0
      case .port: 1
      case .limit: 2
      case .peer: 3
      }
    }
    func group(_ figure: Figure) -> Int {
      figure.key.metric == .messages || figure.key.metric == .pollingRoundTrip ? max(figure.key.size ?? 0, 8) : 0
    }
    if group(a) != group(b) { return group(a) < group(b) }
    if rank(a) != rank(b) { return rank(a) < rank(b) }
    guard let x = a.value, let y = b.value else { return a.value != nil }
    return a.key.metric.isBetter(x, than: y)
  }

  private static var figureTable: TextTable<Figure> {
    TextTable { figure in
      // Large messages as bytes, small ones as messages.
      let asBytes = figure.key.metric == .messages && (figure.key.size ?? 0) > 1024
      let factor = asBytes ? Double(figure.key.size ?? 1) : 1
      let unit = asBytes ? "B/s" : figure.key.metric.unit
      func text(_ value: Double?) -> String { Numbers.text(value.map { $0 * factor }, unit: unit) }
      let tail = figure.percentiles.filter { $0.percent > 50 }.map {
        "p\(Numbers.percent($0.percent)) \(Numbers.text($0.nanoseconds, unit: "ns"))"
      }
      return [
        Column(title: "who", value: figure.name),
        Column(title: "tier", value: figure.key.tier.rawValue),
        Column(
          title: figure.key.metric == .manyPorts ? "ports" : "size",
          value: figure.key.metric == .manyPorts ? "\(figure.key.size ?? 0)" : Numbers.size(figure.key.size),
          align: .right),
        Column(title: "median", value: figure.error.map { String($0.prefix(40)) } ?? text(figure.value), align: .right),
        Column(title: "minimum", value: text(figure.minimum), align: .right),
        Column(title: "maximum", value: text(figure.maximum), align: .right),
        Column(title: "limit", value: text(figure.limit), align: .right),
        Column(title: "is", value: figure.limitName ?? ""),
        Column(title: "ratio", value: Numbers.text(figure.ratio, unit: "1"), align: .right),
        Column(title: "in cache lines", value: figure.bounces.map(Numbers.significant) ?? "", align: .right),
        Column(
          title: "CPU per message", value: Numbers.text(figure.cost?.nanoseconds, unit: "ns"), align: .right),
        Column(
          title: "far", value: figure.keptFar == 0 ? "" : "\(figure.keptFar) of \(figure.repetitions)", align: .right),
        Column(title: "tail", value: tail.joined(separator: ", ")),
      ]
    }
  }

  public static func bars(_ figures: [Figure], onlyMeasured: Bool) -> String {
    let table = TextTable<Bar> { bar in
      [
        Column(title: "to be reached", value: bar.title),
        Column(
          title: "target", value: "\(bar.isMinimum ? "≥" : "≤") \(Numbers.significant(bar.target)) \(bar.unit)",
          align: .right),
        Column(
          title: "reached", value: bar.reached.map { "\(Numbers.significant($0)) \(bar.unit)" } ?? "not measured",
          align: .right),
        Column(title: "", value: bar.isPassed.map { $0 ? "pass" : "MISS" } ?? ""),
        Column(title: "bounded by", value: bar.isPassed == false ? bar.bound : ""),
      ]
    }
    return table.string(for: Bar.all(figures).filter { $0.reached != nil || !onlyMeasured }, style: Style.psql) ?? ""
  }

  /// What the columns mean.
  public static let legend = """
    median, minimum and maximum: of the repetitions. limit: the best that anybody reached in this cell of this run, be it the
    bare calls, one of the peers, or us; ratio: the value divided by it (of latencies, 1 is ideal and more is worse; of rates,
    1 is ideal and less is worse). in cache lines: the time of one message divided by a cache line bounced there and back at the
    same time. CPU per message: processor time of both sides together. far: repetitions kept although the processors were far
    apart, because there were fewer than three others; such a figure is held against nothing. tail: percentiles of single round
    trips, pooled over all repetitions, in a closed loop: the next question is asked once the answer to the last is there.
    """
}

extension Numbers {
  static func percent(_ percent: Double) -> String {
    percent == percent.rounded() ? "\(Int(percent))" : "\(percent)"
  }
}

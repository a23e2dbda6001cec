/// What is to be reached, as ratios and rates within one run.
public struct Bar: Sendable {
  public var title: String
  /// What was reached; `nil`: not measured in this run.
  public var reached: Double?
  public var target: Double
  /// At least, or at most, the target.
  public var isMinimum: Bool
  public var unit = ""

  public var isPassed: Bool? { reached.map { isMinimum ? $0 >= target : $0 <= target } }

  static func all(_ figures: [Figure]) -> [Bar] {
    let ours = OurCase.who
    func value(_ tier: Tier, _ metric: Metric, size: Int? = nil, variant: String = "") -> Double? {
      figures.first(ours, tier, metric, size: size, variant: variant)?.value
    }
    func ratio(_ tier: Tier, _ metric: Metric, size: Int? = nil, variant: String = "") -> Double? {
      figures.first(ours, tier, metric, size: size, variant: variant)?.ratio
    }
    func versusPeers(_ size: Int) -> Double? {
      guard let peer = figures.best(.peer, .messages, size: size)?.value,
        let own = figures.best(.fast, .messages, size: size)?.value
      else { return nil }
      return own / peer
    }
    func bytes(_ size: Int) -> Double? { value(.port, .messages, size: size).map { $0 * Double(size) / 1e9 } }

    var bars = [
      Bar(
        title: "fast, 8 B round trip polling / cache line", reached: ratio(.fast, .pollingRoundTrip, size: 8),
        target: 1.10, isMinimum: false),
      Bar(title: "fast, 8 B one way / best peer", reached: versusPeers(8), target: 1.5, isMinimum: true),
    ]
    for (size, name) in [(64, "64 B"), (1024, "1 KiB"), (8192, "8 KiB"), (65536, "64 KiB"), (1 << 20, "1 MiB")] {
      bars.append(
        Bar(title: "fast, \(name) one way / best peer", reached: versusPeers(size), target: 1, isMinimum: true))
    }
    return bars + [
      Bar(
        title: "port, 8 B post to handler", reached: value(.port, .messages, size: 8).map { $0 / 1e6 }, target: 20,
        isMinimum: true, unit: "M/s"),
      Bar(
        title: "port, 8 B post to receive() in a loop",
        reached: value(.port, .messages, size: 8, variant: "blocking receive").map { $0 / 1e6 }, target: 20,
        isMinimum: true, unit: "M/s"),
      Bar(
        title: "port, 8 B post to async sequence",
        reached: value(.port, .messages, size: 8, variant: "async sequence").map { $0 / 1e6 }, target: 15,
        isMinimum: true, unit: "M/s"),
      Bar(
        title: "port, 8 B post to async sequence on the loop",
        reached: value(.port, .messages, size: 8, variant: "async sequence on the loop").map { $0 / 1e6 }, target: 15,
        isMinimum: true, unit: "M/s"),
      Bar(
        title: "port, 8 B post to async batches",
        reached: value(.port, .messages, size: 8, variant: "async batches").map { $0 / 1e6 }, target: 15,
        isMinimum: true, unit: "M/s"),
      Bar(
        title: "port, 8 B round trip, polling receive",
        reached: value(.port, .pollingRoundTrip, size: 8, variant: "polling receive"), target: 250, isMinimum: false,
        unit: "ns"),
      Bar(
        title: "port, Codable values", reached: value(.port, .codable).map { $0 / 1e6 }, target: 4, isMinimum: true,
        unit: "M/s"),
      Bar(title: "port, 64 KiB owned copy", reached: bytes(65536), target: 20, isMinimum: true, unit: "GB/s"),
      Bar(title: "port, 1 MiB owned copy", reached: bytes(1 << 20), target: 20, isMinimum: true, unit: "GB/s"),
      Bar(
        title: "port, sleeping, blocking receive / futex", reached: ratio(.port, .sleepingRoundTrip, size: 8),
        target: 1.05, isMinimum: false),
      Bar(
        title: "port, sleeping, blocking receive / futex, awake",
        reached: ratio(.port, .sleepingRoundTrip, size: 8, variant: "awake"), target: 1.05, isMinimum: false),
      Bar(
        title: "port, sleeping, blocking receive / futex, one core",
        reached: ratio(.port, .sleepingRoundTripOnOneCore, size: 8), target: 1.05, isMinimum: false),
      Bar(
        title: "port, sleeping, handlers / futex",
        reached: ratio(.port, .sleepingRoundTrip, size: 8, variant: "handlers"), target: 1.15, isMinimum: false),
      Bar(
        title: "port, sleeping, handlers / futex, awake",
        reached: ratio(.port, .sleepingRoundTrip, size: 8, variant: "handlers, awake"), target: 1.15, isMinimum: false),
      Bar(
        title: "port, sleeping, handlers / futex, one core",
        reached: ratio(.port, .sleepingRoundTripOnOneCore, size: 8, variant: "handlers"), target: 1.15, isMinimum: false
      ),
      Bar(
        title: "request / handlers' round trip, polling",
        reached: over(
          value(.port, .pollingRoundTrip, size: 8, variant: "request"), value(.port, .pollingRoundTrip, size: 8)),
        target: 1.3, isMinimum: false),
      Bar(
        title: "request / handlers' round trip, sleeping",
        reached: over(
          value(.port, .sleepingRoundTrip, size: 8, variant: "request"),
          value(.port, .sleepingRoundTrip, size: 8, variant: "handlers")), target: 1.3, isMinimum: false),
      Bar(
        title: "local channels made and closed", reached: value(.port, .creation).map { $0 / 1e3 }, target: 500,
        isMinimum: true, unit: "k/s"),
      Bar(
        title: "transferred and answered, one at a time / bare socket pair", reached: ratio(.port, .transfer),
        target: 0.9, isMinimum: true),
      Bar(
        title: "transferred and answered, 64 under way / bare calls with memfd",
        reached: ratio(.port, .pipelinedTransfer), target: 0.85, isMinimum: true),
      Bar(
        title: "idle port, local", reached: value(.port, .memory, variant: "local"), target: 1024, isMinimum: false,
        unit: "B"),
      Bar(
        title: "idle port, crossing, per process", reached: crossingMemory(value), target: 8192, isMinimum: false,
        unit: "B"),
      Bar(
        title: "\(Plan.mostPorts) ports / one, round trips in turn",
        reached: value(.port, .manyPorts, size: Plan.mostPorts), target: 1.2, isMinimum: false),
      Bar(
        title: "\(Plan.mostPorts) ports / one, one of them busy",
        reached: value(.port, .manyPorts, size: Plan.mostPorts, variant: ManyPorts.busyOne), target: 1.2,
        isMinimum: false),
    ]
  }

  private static func over(_ value: Double?, _ other: Double?) -> Double? {
    guard let value, let other, other > 0 else { return nil }
    return value / other
  }

  /// Of the process that needs more.
  private static func crossingMemory(_ value: (Tier, Metric, Int?, String) -> Double?) -> Double? {
    let both = [value(.port, .memory, nil, "crossing"), value(.port, .memory, nil, "crossing, \(Memory.withHandler)")]
    return both.compactMap { $0 }.max()
  }
}

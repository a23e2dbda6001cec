/// What is to be reached, as ratios and rates within one run.
public struct Bar: Sendable {
  public var title: String
  /// What was reached; `nil`: not measured in this run, or not while the processors were near.
  public var reached: Double?
  public var target: Double
  /// At least, or at most, the target.
  public var isMinimum: Bool
  public var unit = ""
  /// What keeps it from being better, as far as is known. Shown beside a value that misses its target.
  public var bound = ""

  public var isPassed: Bool? { reached.map { isMinimum ? $0 >= target : $0 <= target } }

  static func all(_ figures: [Figure]) -> [Bar] {
    let run = Run(figures: figures)
    return run.halves + run.oneWay + run.values + run.sleeping + run.requests + run.channels + run.manyPorts
  }

  private static func atLeast(
    _ target: Double, _ title: String, _ reached: Double?, unit: String = "", bound: String = ""
  ) -> Bar {
    Bar(title: title, reached: reached, target: target, isMinimum: true, unit: unit, bound: bound)
  }

  private static func atMost(
    _ target: Double, _ title: String, _ reached: Double?, unit: String = "", bound: String = ""
  ) -> Bar {
    Bar(title: title, reached: reached, target: target, isMinimum: false, unit: unit, bound: bound)
  }

  /// The figures of one run, and the bars by what they are about.
  private struct Run {
    let figures: [Figure]

    private func figure(
      _ tier: Tier, _ metric: Metric, size: Int? = nil, variant: String = "", who: String = OurCase.who
    ) -> Figure? {
      figures.first(who, tier, metric, size: size, variant: variant)
    }

    private func value(_ tier: Tier, _ metric: Metric, size: Int? = nil, variant: String = "") -> Double? {
      figure(tier, metric, size: size, variant: variant).flatMap { $0.isNear ? $0.value : nil }
    }

    private func millions(_ metric: Metric, size: Int? = nil, variant: String = "") -> Double? {
      value(.port, metric, size: size, variant: variant).map { $0 / 1e6 }
    }

    /// Of two figures that were both measured while the processors were near.
    private func ratio(_ figure: Figure?, _ other: Figure?) -> Double? {
      guard let figure, let other, figure.isNear, other.isNear, let value = figure.value, let divisor = other.value,
        divisor > 0
      else { return nil }
      return value / divisor
    }

    private func limit(_ who: String, _ metric: Metric, size: Int? = nil, variant: String = "") -> Figure? {
      figure(.limit, metric, size: size, variant: variant, who: who)
    }

    // MARK: Halves

    var halves: [Bar] {
      let sizes = [(64, "64 B"), (1024, "1 KiB"), (8192, "8 KiB"), (65536, "64 KiB"), (1 << 20, "1 MiB")]
      return [
        atMost(
          1.10, "fast, 8 B round trip polling / cache line",
          ratio(figure(.fast, .pollingRoundTrip, size: 8), limit("cache_line", .pollingRoundTrip, size: 4))),
        atLeast(1.5, "fast, 8 B one way / best peer", versusPeers(8), bound: bestPeer(8)),
      ]
        + sizes.map { size, name in
          atLeast(1, "fast, \(name) one way / best peer", versusPeers(size), bound: bestPeer(size))
        }
    }

    private func versusPeers(_ size: Int) -> Double? {
      ratio(figures.best(.fast, .messages, size: size), figures.best(.peer, .messages, size: size))
    }

    private func bestPeer(_ size: Int) -> String {
      let slots = "its slots have a fixed size, so that it reads no lengths and no message is split"
      return figures.best(.peer, .messages, size: size).map { "\($0.name): \(slots)" } ?? ""
    }

    // MARK: Ports

    var oneWay: [Bar] {
      func rate(_ target: Double, _ title: String, _ variant: String = "", bound: String = "") -> Bar {
        atLeast(
          target, "port, 8 B post to \(title)", millions(.messages, size: 8, variant: variant), unit: "M/s",
          bound: bound)
      }
      func bytes(_ size: Int) -> Double? { value(.port, .messages, size: size).map { $0 * Double(size) / 1e9 } }
      return [
        rate(20, "handler"),
        rate(20, "receive() in a loop", "blocking receive", bound: "the port's lock, taken for each message"),
        rate(15, "async sequence", "async sequence", bound: "a suspension and a hop to the task's executor"),
        rate(
          15, "async sequence on the loop", "async sequence on the loop",
          bound: "a suspension and a job of the loop's executor"),
        rate(15, "async batches", "async batches"),
        atMost(
          250, "port, 8 B round trip, polling receive",
          value(.port, .pollingRoundTrip, size: 8, variant: "polling receive"), unit: "ns",
          bound: "a fence, the port's lock and an event made, on each side"),
        atLeast(20, "port, 64 KiB owned copy", bytes(65536), unit: "GB/s"),
        atLeast(20, "port, 1 MiB owned copy", bytes(1 << 20), unit: "GB/s"),
      ]
    }

    var values: [Bar] {
      [
        atLeast(
          4, "port, Codable values", millions(.codable), unit: "M/s",
          bound: "containers, metadata and reference counts of Encoder and Decoder"),
        atLeast(
          15, "port, values that write themselves", millions(.codable, variant: Plan.directValues), unit: "M/s",
          bound: "the keys, which are written and compared; and two strings allocated by the reader, if they are long"),
      ]
    }

    // MARK: Sleeping

    var sleeping: [Bar] {
      let twoCores = Metric.sleepingRoundTrip
      let oneCore = Metric.sleepingRoundTripOnOneCore
      func bar(_ target: Double, _ title: String, _ metric: Metric, _ variant: String = "", bound: String = "") -> Bar {
        let suffix = variant.hasSuffix("awake") ? "awake" : ""
        let reached = ratio(
          figure(.port, metric, size: 8, variant: variant), limit("futex", metric, size: 4, variant: suffix))
        return atMost(target, "port, sleeping, \(title)", reached, bound: bound)
      }
      let lock = "two calls, as a futex makes, and beside them the port's lock, an event made, and a fence"
      return [
        bar(1.05, "blocking receive / futex", twoCores),
        bar(1.05, "blocking receive / futex, awake", twoCores, "awake"),
        bar(1.05, "blocking receive / futex, one core", oneCore, bound: lock),
        bar(1.15, "handlers / futex", twoCores, "handlers"),
        bar(1.15, "handlers / futex, awake", twoCores, "handlers, awake"),
        bar(1.5, "handlers / futex, one core", oneCore, "handlers", bound: loop("io_uring_msg_ring")),
        bar(2.2, "handlers on epoll / futex, one core", oneCore, "handlers on epoll", bound: loop("eventfd")),
      ]
    }

    /// What the bare calls of a loop cost, beside a futex.
    private func loop(_ who: String) -> String {
      let metric = Metric.sleepingRoundTripOnOneCore
      let bare = ratio(limit(who, metric, size: 8, variant: ""), limit("futex", metric, size: 4, variant: ""))
      return "a loop waits for many things at once; bare \(who): \(bare.map(Numbers.significant) ?? "not measured")"
    }

    // MARK: Requests and channels

    var requests: [Bar] {
      let task = "a task resumed here, and a task made for the handler there"
      return [
        atMost(
          1.3, "request / handlers' round trip, polling",
          ratio(
            figure(.port, .pollingRoundTrip, size: 8, variant: "request"), figure(.port, .pollingRoundTrip, size: 8)),
          bound: task),
        atMost(
          1.3, "request / handlers' round trip, sleeping",
          ratio(
            figure(.port, .sleepingRoundTrip, size: 8, variant: "request"),
            figure(.port, .sleepingRoundTrip, size: 8, variant: "handlers")), bound: task),
      ]
    }

    var channels: [Bar] {
      [
        atLeast(
          500, "local channels made and closed", value(.port, .creation).map { $0 / 1e3 }, unit: "k/s"),
        atLeast(
          0.85, "transferred and answered, one at a time / bare socket pair", transferred(.transfer),
          bound: withMemory(.transfer)),
        atLeast(
          0.85, "transferred and answered, 64 in flight / bare socket pair", transferred(.pipelinedTransfer),
          bound: withMemory(.pipelinedTransfer)),
        atMost(1024, "idle port, local", value(.port, .memory, variant: "local"), unit: "B"),
        atMost(
          2048, "idle port, crossing, per process", crossingMemory, unit: "B",
          bound: "a page of shared memory that both sides map, once there was traffic"),
      ]
    }

    private func transferred(_ metric: Metric) -> Double? {
      ratio(figure(.port, metric), limit("socketpair_passed", metric))
    }

    /// What bare calls reach that pass a page of memory beside the socket.
    private func withMemory(_ metric: Metric) -> String {
      let bare = ratio(limit("socketpair_memfd_passed", metric), limit("socketpair_passed", metric))
      return
        "memory that is made, sealed, passed and mapped beside the socket: bare calls that do so reach \(bare.map(Numbers.significant) ?? "not measured")"
    }

    /// Of the process that needs more.
    private var crossingMemory: Double? {
      ["crossing", "crossing, \(Memory.withHandler)"].compactMap { value(.port, .memory, variant: $0) }.max()
    }

    var manyPorts: [Bar] {
      func bar(_ title: String, _ variant: String, bound: String = "") -> Bar {
        atMost(
          1.2, "\(Plan.mostPorts) ports / one, \(title)",
          value(.port, .manyPorts, size: Plan.mostPorts, variant: variant), bound: bound)
      }
      return [
        bar("round trips in turn", ""), bar("one of them busy", ManyPorts.busyOne),
        bar(
          "one way, each message to the next", ManyPorts.inTurn,
          bound: "memory: each message touches lines and pages of a ring of its own, which have left the caches"),
      ]
    }
  }
}

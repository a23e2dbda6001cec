import TextTable

/// The tail of both tiers, with and without what the library has against surprises.
public enum TailTable {
  public struct Row: Sendable {
    let name: String
    let outcome: Outcome
  }

  /// Runs all of them, one after the other.
  public static func run(
    seconds: Double, rate: Int, repetitions: Int, isRealTime: Bool, driver: String?, progress: (String) -> Void
  ) throws -> [Row] {
    var rows: [Row] = []
    for repetition in 1...repetitions {
      for (tier, scenario) in [("halves", "tail-fast"), ("port", "tail-port")] {
        for isPrepared in [false, true] {
          let name = "\(tier), \(isPrepared ? "prepared" : "by default")"
          progress("\(name), \(repetition) of \(repetitions)")
          let job = Job(scenario).with {
            $0.seconds = seconds
            $0.warmUpSeconds = 0.3
            $0.placement = .unpinned
            $0.rate = rate
            $0.isPrepared = isPrepared
            $0.isRealTime = isRealTime
            $0.driver = driver
          }
          rows.append(Row(name: name, outcome: try job.runOnce()))
        }
      }
    }
    return rows.enumerated().sorted { ($0.element.name, $0.offset) < ($1.element.name, $1.offset) }.map(\.element)
  }

  public static func text(_ rows: [Row]) -> String {
    let table = TextTable<Row> { row in
      func percentile(_ percent: Double) -> String {
        Numbers.text(row.outcome.latency?.percentile(percent), unit: "ns")
      }
      func both(_ what: String) -> String {
        ["sender", "receiver"].map { row.outcome.others["\($0), \(what)"].map(Numbers.count) ?? "–" }
          .joined(separator: " / ")
      }
      return [
        Column(title: "", value: row.name),
        Column(title: "p50", value: percentile(50), align: .right),
        Column(title: "p99", value: percentile(99), align: .right),
        Column(title: "p99.9", value: percentile(99.9), align: .right),
        Column(title: "p99.99", value: percentile(99.99), align: .right),
        Column(title: "maximum", value: Numbers.text(row.outcome.others["maximum"], unit: "ns"), align: .right),
        Column(title: "minor faults", value: both("minor faults"), align: .right),
        Column(title: "major", value: both("major faults"), align: .right),
        Column(title: "preempted", value: both("involuntary switches"), align: .right),
        Column(title: "system calls/s", value: both("system calls per second"), align: .right),
      ]
    }
    return table.string(for: rows, style: Style.psql) ?? ""
  }

  /// What the columns mean.
  public static let legend = """
    One way, 8 bytes, at a fixed rate; latency from when a message was due until its receiver has it. Counted for the sending / the
    receiving thread, after a warm-up; system calls in a stretch of their own behind the measured one, by the kernel.
    by default: no option but the size of the lanes, the scheduler places the threads. prepared: memory locked, each side's thread on
    a processor of its own, never asleep.
    """
}

extension Numbers {
  /// Of what is counted.
  static func count(_ value: Double) -> String { "\(Int(value.rounded()))" }
}

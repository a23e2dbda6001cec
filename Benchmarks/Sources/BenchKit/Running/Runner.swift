import Foundation

/// Runs cells: each of them several times, all contenders of a cell in turns, in an order that alternates.
public struct Runner {
  public struct Settings: Sendable {
    public var repetitions = 5
    /// Measured time per figure and repetition.
    public var seconds = 0.12
    /// How long to go on repeating what was measured while the processors were far apart.
    public var budgetSeconds = 60.0
    /// A bounced cache line up to here means near.
    public var nearNanoseconds = 300.0

    public init() {}
  }

  private let settings: Settings
  private let probe: Probe
  private let progress: Progress
  private var repeated = 0
  private var keptFar = 0
  /// What was spent on repeating, and on waiting for it.
  private var waitedSeconds = 0.0

  public init(_ settings: Settings, progress: Progress) {
    self.settings = settings
    self.progress = progress
    probe = Probe(nearNanoseconds: settings.nearNanoseconds)
  }

  /// Measures all cells.
  public mutating func run(_ cells: [Cell]) throws -> [Figure] {
    var repetitions: [[Repetition]] = []
    for (index, cell) in cells.enumerated() {
      progress.begin(cell, index: index, of: cells.count)
      var own: [Repetition] = []
      for round in 0..<settings.repetitions { own.append(try measure(cell, round: round)) }
      repetitions.append(own)
    }
    progress.end()
    var figures = zip(cells, repetitions).flatMap { Summary(cell: $0, repetitions: $1).figures }
    keptFar = figures.reduce(0) { $0 + $1.keptFar }
    figures.addLimitsFromElsewhere(cells)
    figures.dropRepeatedLimits()
    return figures
  }

  /// What the distance between the processors did to the run, in a sentence.
  public var conclusion: String {
    """
    \(repeated) measurements were done again because the processors were far apart (a cache line took more than \
    \(Int(settings.nearNanoseconds)) ns); \(keptFar) of that kind were kept anyway, of figures that have fewer than three others: they are held against nothing.
    """
  }

  private mutating func measure(_ cell: Cell, round: Int) throws -> Repetition {
    var result = Repetition()
    let contenders = round % 2 == 0 ? cell.contenders : cell.contenders.reversed()
    for contender in contenders {
      var before = try probe.measure()
      var kept: [Observation] = []
      // What was measured while the processors were far apart is measured again as soon as they are near.
      while true {
        progress.show(cell, contender.name, round: round, probe: before)
        let (observations, failures) = attempt(contender, cell)
        let after = try probe.measure()
        for var observation in observations {
          let probes = observation.probes ?? (before, after)
          observation.probes = probes
          observation.isNear = !cell.dependsOnDistance || probe.isNear(probes.before) && probe.isNear(probes.after)
          // What was near once need not be near again.
          if let index = kept.firstIndex(where: { $0.key == observation.key }) {
            if !kept[index].isNear { kept[index] = observation }
          } else {
            kept.append(observation)
          }
        }
        let isAgain = try !kept.allSatisfy(\.isNear) && waitForNear(after)
        if !isAgain {
          result.observations += kept
          result.failures += failures
          break
        }
        repeated += 1
        before = try probe.measure()
      }
    }
    if cell.isRelative { result.divideByFirst(cell) }
    return result
  }

  /// `false`: the budget is used up.
  private mutating func waitForNear(_ distance: Double) throws -> Bool {
    var distance = distance
    let began = Date()
    defer { waitedSeconds += Date().timeIntervalSince(began) + settings.seconds }
    while !probe.isNear(distance) {
      let left = settings.budgetSeconds - waitedSeconds - Date().timeIntervalSince(began)
      guard left > 0 else { return false }
      progress.waiting(distance, secondsLeft: left)
      Thread.sleep(forTimeInterval: 0.1)
      distance = try probe.measure()
    }
    return waitedSeconds < settings.budgetSeconds
  }

  private func attempt(
    _ contender: Contender, _ cell: Cell
  ) -> (observations: [Observation], failures: [(who: String, tier: Tier, reason: String)]) {
    do {
      switch contender {
      case .ours(let ours): return (try observe(ours, cell), [])
      case .program(let program):
        let (figures, failures) = try program.run(seconds: settings.seconds)
        return (figures, failures.map { ($0.who, program.tier, $0.reason) })
      }
    } catch {
      switch contender {
      case .ours(let ours): return ([], [(ours.label, ours.tier, "\(error)")])
      case .program(let program): return ([], [(program.name, program.tier, "\(error)")])
      }
    }
  }

  private func observe(_ ours: OurCase, _ cell: Cell) throws -> [Observation] {
    var job = ours.job
    job.seconds = max(job.seconds, settings.seconds)
    let processors = job.placement.processors.map { Set([$0.near, $0.far]) } ?? Set(0..<Machine.processors)
    let outcome: Outcome
    if ours.awake {
      let spinners = try Spinners(on: processors.sorted())
      outcome = try ChildRun.run(job)
      _ = consume spinners
    } else {
      outcome = try ChildRun.run(job)
    }
    var key = FigureKey(
      who: OurCase.who, tier: ours.tier, metric: cell.metric, size: ours.size ?? cell.size, variant: ours.variant)
    var observations = [
      Observation(
        key: key, value: outcome.value, latency: outcome.latency, cost: outcome.cost, note: ours.note,
        build: Self.build)
    ]
    for (variant, value) in outcome.others.sorted(by: { $0.key < $1.key }) {
      key.variant = [ours.variant, variant].filter { !$0.isEmpty }.joined(separator: ", ")
      observations.append(Observation(key: key, value: value, note: ours.note, build: Self.build))
    }
    return observations
  }

  static let build = "swiftc 6 -O"
}

extension OurCase {
  var label: String { variant.isEmpty ? Self.who : "\(Self.who) (\(variant))" }
}

extension Repetition {
  /// Makes costs relative to those of the first contender.
  fileprivate mutating func divideByFirst(_ cell: Cell) {
    guard case .ours(let first)? = cell.contenders.first else { return }
    let size = first.size ?? cell.size
    for index in observations.indices where observations[index].key.size != size {
      let key = observations[index].key
      let base = observations.first { $0.key.size == size && $0.key.variant == key.variant }
      if let base { observations[index].value /= base.value }
    }
    for index in observations.indices where observations[index].key.size == size { observations[index].value = 1 }
  }
}

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
    try repeatFar(cells, &repetitions)
    progress.end()
    keptFar = zip(cells, repetitions).reduce(0) { $0 + ($1.0.dependsOnDistance ? $1.1.count { !$0.isNear } : 0) }
    var figures = zip(cells, repetitions).flatMap { Summary(cell: $0, repetitions: $1).figures }
    figures.addLimitsFromElsewhere(cells)
    figures.dropRepeatedLimits()
    return figures
  }

  /// What the distance between the processors did to the run, in a sentence.
  public var conclusion: String {
    """
    \(repeated) repetitions were done again because the processors were far apart (a cache line took more than \
    \(Int(settings.nearNanoseconds)) ns); \(keptFar) of that kind were kept anyway.
    """
  }

  /// Repeats what was measured with the processors far apart, as long as the budget lasts.
  private mutating func repeatFar(_ cells: [Cell], _ repetitions: inout [[Repetition]]) throws {
    let end = Date().addingTimeInterval(settings.budgetSeconds)
    for (index, cell) in cells.enumerated() where cell.dependsOnDistance {
      for round in repetitions[index].indices where !repetitions[index][round].isNear {
        while Date() < end {
          let distance = try probe.measure()
          guard probe.isNear(distance) else {
            progress.waiting(distance, secondsLeft: end.timeIntervalSinceNow)
            Thread.sleep(forTimeInterval: 0.2)
            continue
          }
          progress.begin(cell, index: index, of: cells.count)
          let again = try measure(cell, round: round)
          guard again.isNear else { continue }
          repetitions[index][round] = again
          repeated += 1
          break
        }
      }
    }
  }

  private func measure(_ cell: Cell, round: Int) throws -> Repetition {
    var result = Repetition()
    var before = try probe.measure()
    let contenders = round % 2 == 0 ? cell.contenders : cell.contenders.reversed()
    for contender in contenders {
      progress.show(cell, contender.name, round: round, probe: before)
      var observations: [Observation] = []
      do {
        switch contender {
        case .ours(let ours): observations = try observe(ours, cell)
        case .program(let program):
          let (figures, failures) = try program.run(seconds: settings.seconds)
          observations = figures
          for failure in failures { result.failures.append((failure.who, program.tier, failure.reason)) }
        }
      } catch {
        switch contender {
        case .ours(let ours): result.failures.append((ours.label, ours.tier, "\(error)"))
        case .program(let program): result.failures.append((program.name, program.tier, "\(error)"))
        }
      }
      let after = try probe.measure()
      for var observation in observations {
        observation.probe = (before + after) / 2
        result.observations.append(observation)
      }
      if !probe.isNear(before) || !probe.isNear(after) { result.isNear = false }
      before = after
    }
    if cell.isRelative { result.divideByFirst(cell) }
    return result
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
      Observation(key: key, value: outcome.value, latency: outcome.latency, note: ours.note, build: Self.build)
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

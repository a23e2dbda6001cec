/// Turns the repetitions of a cell into figures.
struct Summary {
  let cell: Cell
  let repetitions: [Repetition]

  var figures: [Figure] {
    var keys: [FigureKey] = []
    for observation in repetitions.flatMap(\.observations) where !keys.contains(observation.key) {
      keys.append(observation.key)
    }
    return keys.map(figure) + failed(keys)
  }

  private func figure(_ key: FigureKey) -> Figure {
    var figure = Figure(key)
    var values: [Double] = [], probes: [Double] = [], limits: [Double] = [], ratios: [Double] = []
    var histogram = LatencyHistogram()
    var reported: [Double: [Double]] = [:]
    let all = repetitions.compactMap { repetition in
      repetition.observations.first { $0.key == key }.map { (repetition, $0) }
    }
    // Those that were measured far apart say something else; they count only where there is little else.
    let near = all.filter { $0.1.isNear }
    for (repetition, observation) in near.count >= 2 ? near : all {
      values.append(observation.value)
      probes.append(observation.probe)
      if !observation.isNear { figure.keptFar += 1 }
      if let limit = limit(in: repetition) {
        limits.append(limit.value)
        ratios.append(observation.value / limit.value)
        figure.limitName = limit.name
      }
      if let latency = observation.latency { histogram.add(latency) }
      for point in observation.percentiles { reported[point.percent, default: []].append(point.nanoseconds) }
      figure.note = observation.note
      figure.build = observation.build
    }
    figure.value = values.median
    figure.minimum = values.min()
    figure.maximum = values.max()
    figure.repetitions = values.count
    figure.probe = probes.median
    figure.limit = limits.median
    figure.ratio = ratios.median
    if case .bounceAndCopies = cell.limit {
      figure.bounce = repetitions.flatMap(\.observations).filter { $0.key.tier == .limit }.map(\.value).median
    }
    if key.tier == .limit {
      figure.limit = figure.value
      figure.ratio = 1
      figure.limitName = key.who
    }
    if histogram.count > 0 {
      figure.percentiles = histogram.percentiles
      figure.curve = histogram.curve
    } else {
      figure.percentiles = reported.sorted { $0.key < $1.key }.map { ($0.key, $0.value.median ?? .nan) }
      figure.curve = figure.percentiles
    }
    return figure
  }

  private func limit(in repetition: Repetition) -> (value: Double, name: String)? {
    switch cell.limit {
    case .fixed(let value, let name): return (value, name)
    case .elsewhere, .bounceAndCopies: return nil
    case .measured(let names):
      var best: Observation?
      for observation in repetition.observations
      where observation.key.tier == .limit && names.contains(observation.key.who) {
        if best == nil || cell.metric.isBetter(observation.value, than: best!.value) { best = observation }
      }
      return best.map { ($0.value, $0.key.variant.isEmpty ? $0.key.who : "\($0.key.who), \($0.key.variant)") }
    }
  }

  /// Contenders that were tried and gave nothing, or are not installed.
  private func failed(_ keys: [FigureKey]) -> [Figure] {
    var figures: [Figure] = []
    for failure in repetitions.flatMap(\.failures) where !keys.contains(where: { $0.who == failure.who }) {
      let key = FigureKey(who: failure.who, tier: failure.tier, metric: cell.metric, size: cell.size, variant: "")
      if figures.contains(where: { $0.key == key }) { continue }
      if failure.tier != .peer, figures.contains(where: { $0.error == failure.reason && $0.key.tier == failure.tier }) {
        continue
      }
      var figure = Figure(key)
      figure.error = failure.reason
      figures.append(figure)
    }
    return figures
  }
}

extension [Figure] {
  func first(_ who: String, _ tier: Tier, _ metric: Metric, size: Int? = nil, variant: String = "") -> Figure? {
    first { $0.key == FigureKey(who: who, tier: tier, metric: metric, size: size, variant: variant) }
  }

  /// The best of several.
  func best(_ tier: Tier, _ metric: Metric, size: Int?, who: [String]? = nil) -> Figure? {
    var best: Figure?
    for figure in self where figure.key.tier == tier && figure.key.metric == metric && figure.key.size == size {
      guard let value = figure.value, who?.contains(figure.key.who) ?? true else { continue }
      if best == nil || metric.isBetter(value, than: best!.value!) { best = figure }
    }
    return best
  }

  /// Fills in limits that another cell has measured.
  mutating func addLimitsFromElsewhere(_ cells: [Cell]) {
    let all = self
    for cell in cells {
      for index in indices {
        guard self[index].key.metric == cell.metric, self[index].key.tier != .limit, self[index].limit == nil,
          let value = self[index].value
        else { continue }
        let limit: (value: Double, name: String)?
        switch cell.limit {
        case .measured, .fixed: limit = nil
        case .elsewhere(let key): limit = all.first { $0.key == key }?.value.map { ($0, key.who) }
        case .bounceAndCopies:
          guard self[index].key.size == cell.size, let bounce = self[index].bounce else { continue }
          limit = all.bounceAndCopies(bounce, size: cell.size)
        }
        guard let limit else { continue }
        self[index].limit = limit.value
        self[index].limitName = limit.name
        self[index].ratio = value / limit.value
      }
    }
  }

  private func bounceAndCopies(_ bounce: Double, size: Int?) -> (value: Double, name: String)? {
    // The bytes at the speed of the next larger size that bare copying was measured at.
    guard let size,
      let copied = compactMap({ $0.key.tier == .limit && $0.key.metric == .messages ? $0.key.size : nil })
        .filter({ $0 >= size }).min(),
      let copies = best(.limit, .messages, size: copied)?.value
    else { return (bounce, "cache_line alone") }
    let nanosecondsPerByte = 1e9 / (copies * Double(copied))
    return (bounce + 2 * nanosecondsPerByte * Double(size), "cache_line and 2 copies")
  }

  /// A limit that several cells have measured is shown once.
  mutating func dropRepeatedLimits() {
    var seen: Set<FigureKey> = []
    removeAll { $0.key.tier == .limit && !seen.insert($0.key).inserted }
  }
}

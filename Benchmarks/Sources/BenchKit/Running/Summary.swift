/// Turns the repetitions of a cell into figures.
struct Summary {
  let cell: Cell
  let repetitions: [Repetition]

  var figures: [Figure] {
    var keys: [FigureKey] = []
    for observation in repetitions.flatMap(\.observations) where !keys.contains(observation.key) {
      keys.append(observation.key)
    }
    var figures = keys.map(figure)
    switch cell.limit {
    case .fixed(let value, let name): for index in figures.indices { figures[index].hold(against: value, name) }
    case .best(let names): figures.holdAgainstBest(cell, names)
    case .bounceAndCopies: break  // once all cells are measured
    }
    return figures + failed(keys)
  }

  private func figure(_ key: FigureKey) -> Figure {
    var figure = Figure(key)
    var values: [Double] = [], probes: [Double] = [], costs: [Cost] = []
    var histogram = LatencyHistogram()
    let all = repetitions.compactMap { repetition in repetition.observations.first { $0.key == key } }
    let kind = all.filter(\.isOfItsKind)
    if kind.isEmpty {
      figure.error = "did not sleep while it waited"
      return figure
    }
    // Those that were measured far apart say something else; they count only where there is little else.
    let near = kind.filter(\.isNear)
    for observation in near.count >= min(3, repetitions.count) ? near : kind {
      values.append(observation.value)
      if let probe = observation.probes { probes.append((probe.before + probe.after) / 2) }
      if !observation.isNear { figure.keptFar += 1 }
      if let latency = observation.latency { histogram.add(latency) }
      if let cost = observation.cost { costs.append(cost) }
      figure.note = observation.note
      figure.build = observation.build
    }
    figure.value = values.median
    figure.minimum = values.min()
    figure.maximum = values.max()
    figure.repetitions = values.count
    figure.notOfItsKind = all.count - kind.count
    figure.probe = probes.median
    if let nanoseconds = costs.map(\.nanoseconds).median, let sleeps = costs.map(\.sleeps).median {
      figure.cost = Cost(nanoseconds: nanoseconds, sleeps: sleeps)
    }
    if case .bounceAndCopies = cell.limit {
      figure.bounce =
        repetitions.flatMap(\.observations).filter { $0.key.tier == .limit && $0.isNear }.map(\.value).median
    }
    // Pooled over the repetitions, whoever it is.
    if histogram.count > 0 {
      figure.percentiles = histogram.percentiles
      figure.curve = histogram.curve
    }
    return figure
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

extension Figure {
  /// A value that was measured far apart is held against nothing: that would flatter or slander whoever is near.
  fileprivate mutating func hold(against limit: Double, _ name: String) {
    guard let value, isNear else { return }
    self.limit = limit
    limitName = name
    ratio = value / limit
  }
}

extension [Figure] {
  /// - Parameter names: those of the tier `limit` that do what the cell is about, and nothing else.
  fileprivate mutating func holdAgainstBest(_ cell: Cell, _ names: [String]) {
    var best: (value: Double, name: String)?
    for figure in self where figure.isNear {
      guard names.contains(figure.key.who) || figure.key.tier != .limit && figure.key.metric == cell.metric,
        let value = figure.value(as: cell.metric)
      else { continue }
      if best.map({ cell.metric.isBetter(value, than: $0.value) }) ?? true { best = (value, figure.name) }
    }
    guard let best else { return }
    for index in indices where self[index].key.metric == cell.metric {
      self[index].hold(against: best.value, best.name)
    }
  }

  func first(_ who: String, _ tier: Tier, _ metric: Metric, size: Int? = nil, variant: String = "") -> Figure? {
    first { $0.key == FigureKey(who: who, tier: tier, metric: metric, size: size, variant: variant) }
  }

  /// The best of several that were measured near.
  func best(_ tier: Tier, _ metric: Metric, size: Int?) -> Figure? {
    var best: Figure?
    for figure in self
    where figure.key.tier == tier && figure.key.metric == metric && figure.key.size == size && figure.isNear {
      guard let value = figure.value else { continue }
      if best?.value.map({ metric.isBetter(value, than: $0) }) ?? true { best = figure }
    }
    return best
  }

  /// Fills in limits of which another cell has measured a part.
  mutating func addLimitsFromElsewhere(_ cells: [Cell]) {
    let all = self
    for cell in cells {
      guard case .bounceAndCopies = cell.limit else { continue }
      let rivals = [Tier.fast, .port, .peer].compactMap { all.best($0, cell.metric, size: cell.size) }
      for index in indices where self[index].key.metric == cell.metric && self[index].key.tier != .limit {
        guard self[index].key.size == cell.size, let bounce = self[index].bounce else { continue }
        var limit = all.bounceAndCopies(bounce, size: cell.size)
        for rival in rivals {
          if let value = rival.value, cell.metric.isBetter(value, than: limit.value) { limit = (value, rival.name) }
        }
        self[index].hold(against: limit.value, limit.name)
      }
    }
  }

  private func bounceAndCopies(_ bounce: Double, size: Int?) -> (value: Double, name: String) {
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

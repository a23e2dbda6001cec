import TestSupport

/// Decides what the workers do.
struct TorturePlanner {
  private var random: SeededGenerator
  let workerCount: Int
  let channelCount: Int
  private(set) var channels: [UInt32: TortureChannel] = [:]
  private var nextChannel: UInt32 = 0
  private var round = 0

  init(seed: UInt64, workers: Int, channels: Int) {
    random = SeededGenerator(seed: Int(truncatingIfNeeded: seed))
    workerCount = workers
    channelCount = channels
  }

  mutating func takeChannel() -> UInt32 {
    repeat { nextChannel = (nextChannel + 1) % TortureTable.mostChannels } while channels[nextChannel] != nil
    return nextChannel
  }

  mutating func addTrunk(_ one: Int, _ other: Int) -> TortureChannel {
    let trunk = TortureChannel(id: takeChannel(), workers: [one, other], isTrunk: true)
    channels[trunk.id] = trunk
    return trunk
  }

  mutating func remove(_ ids: some Sequence<UInt32>) { for id in ids { channels[id] = nil } }

  // MARK: A round

  /// - Parameter posted: how many messages were posted on a port so far; the last round is settled.
  mutating func plan(posted: (PortID) -> Int) -> TorturePlan {
    round += 1
    var draft = Draft(round: round, workers: workerCount)
    chooseDisturbances(&draft)
    let ids = channels.keys.sorted().shuffled(using: &random)

    var movers: [UInt32] = []
    for id in ids {
      let channel = channels[id]!
      if channel.isTrunk {
        draft.addCarrier(channel)
      } else {
        switch random.below(100) {
        case ..<18: movers.append(id)
        case ..<22: close(channel, &draft)
        case ..<26 where channel.isRead == [true, true]: blockOrSplit(channel, posted, &draft)
        case ..<40 where channel.isRead == [true, true] && draft.mayVolley(channel): volley(channel, posted, &draft)
        case ..<60: traffic(channel, &draft)
        default: if channel.isRead == [true, true] { draft.addCarrier(channel) }
        }
      }
    }
    for id in movers { move(channels[id]!, &draft) }
    make(&draft)
    moveTogether(&draft)
    markRisks(&draft)
    return draft.plan
  }

  /// A plan being drawn up.
  private struct Draft {
    let round: Int
    var plan: TorturePlan
    /// By workers: ports at the first whose other end stays at the second.
    var carriers: [[[PortID]]]
    /// By workers: ports at the first whose other end will come to rest at the second, and that nobody reads before.
    var nested: [[[PortID]]]
    /// Where each channel's ends are in this round.
    var places: [UInt32: Set<Int>] = [:]
    /// Over what its ends move.
    var ways: [UInt32: Set<UInt32>] = [:]
    var journeys: [Journey] = []
    var hasBlocked: Set<Int> = []
    var hasSplit: Set<Int> = []
    var volleying: Set<Int> = []

    init(round: Int, workers: Int) {
      self.round = round
      plan = TorturePlan(orders: Array(repeating: TortureOrders(), count: workers))
      carriers = Array(repeating: Array(repeating: [], count: workers), count: workers)
      nested = carriers
    }

    /// One at a time for each worker: where more is going on, hardly anybody sleeps.
    mutating func mayVolley(_ channel: TortureChannel) -> Bool {
      guard channel.workers[0] != channel.workers[1], volleying.isDisjoint(with: channel.workers) else { return false }
      volleying.formUnion(channel.workers)
      return true
    }

    mutating func addCarrier(_ channel: TortureChannel) {
      let (one, other) = (channel.workers[0], channel.workers[1])
      carriers[one][other].append(channel.port(0))
      carriers[other][one].append(channel.port(1))
    }

    mutating func add(
      _ port: PortID, at worker: Int, _ reading: TortureStop.Reading, posts: Int, _ finish: TortureStop.Finish = .stay
    ) {
      plan.orders[worker].stops.append(
        TortureStop(round: round, hop: 0, ports: [port], reading: reading, posts: posts, finish: finish))
      places[port.channel, default: []].insert(worker)
    }
  }

  private struct Journey {
    var ports: [PortID]
    /// The workers, beginning with where the ports are.
    var path: [Int]
    /// What carries them from each but the last.
    var carriers: [PortID] = []
    var readings: [TortureStop.Reading]
    var posts: [Int]
    var wasRead: Bool
  }

  private mutating func chooseDisturbances(_ draft: inout Draft) {
    guard round > 1, workerCount > 1 else { return }
    let worker = random.below(workerCount)
    let (delay, length) = (UInt32(random.below(30_000)), UInt32(random.below(50_000)))
    let disturbance = TorturePlan.Disturbance(worker: worker, afterMicroseconds: delay, microseconds: length)
    switch random.below(100) {
    case ..<30: draft.plan.victim = disturbance
    case ..<50: draft.plan.stopped = disturbance
    default: break
    }
  }

  private mutating func traffic(_ channel: TortureChannel, _ draft: inout Draft) {
    for end in 0...1 { stay(channel, end, &draft) }
    if channels[channel.id]!.isRead == [true, true], channel.isRead == [true, true] { draft.addCarrier(channel) }
  }

  /// One end posts where it is, and is read or not.
  private mutating func stay(_ channel: TortureChannel, _ end: Int, _ draft: inout Draft) {
    let isRead = random.chance(92)
    channels[channel.id]!.isRead[end] = isRead
    draft.add(channel.port(end), at: channel.workers[end], isRead ? .handler : .paused, posts: random.below(16))
  }

  private mutating func close(_ channel: TortureChannel, _ draft: inout Draft) {
    let end = random.below(2)
    draft.plan.closing.insert(channel.id)
    draft.add(
      channel.port(end), at: channel.workers[end], random.chance(50) ? .handler : .paused, posts: random.below(12),
      random.chance(50) ? .close : .drop)
    stay(channel, 1 - end, &draft)
  }

  private mutating func blockOrSplit(
    _ channel: TortureChannel, _ posted: (PortID) -> Int, _ draft: inout Draft
  ) {
    let end = random.below(2)
    let (worker, posts) = (channel.workers[end], 1 + random.below(20))
    if random.chance(50), draft.hasBlocked.insert(worker).inserted {
      let sender = channel.port(1 - end)
      draft.add(channel.port(end), at: worker, .blocking(until: posted(sender) + posts), posts: random.below(4))
      draft.add(sender, at: channel.workers[1 - end], .handler, posts: posts)
    } else if draft.hasSplit.insert(worker).inserted {
      // This stop posts by way of the halves only.
      draft.add(channel.port(end), at: worker, .split, posts: 0)
      let last = draft.plan.orders[worker].stops.count - 1
      draft.plan.orders[worker].stops[last].posts = posts * 4
      draft.add(channel.port(1 - end), at: channel.workers[1 - end], .handler, posts: posts)
    } else {
      traffic(channel, &draft)
    }
  }

  private mutating func volley(_ channel: TortureChannel, _ posted: (PortID) -> Int, _ draft: inout Draft) {
    let count = 100 + random.below(900)
    for end in 0...1 {
      let until = posted(channel.port(end)) + count
      draft.add(channel.port(end), at: channel.workers[end], .volley(until: until), posts: 1)
    }
  }

  // MARK: Journeys

  private mutating func move(_ channel: TortureChannel, _ draft: inout Draft) {
    let moving = [[0], [1], [0, 1]][random.below(3)]
    for end in 0...1 {
      if moving.contains(end) { travel(channel, end, &draft) } else { stay(channel, end, &draft) }
    }
    addNested(channel, moving, &draft)
  }

  /// A channel of which one end moves can carry others meanwhile, if nobody reads it before it is there.
  private mutating func addNested(_ channel: TortureChannel, _ moving: [Int], _ draft: inout Draft) {
    guard moving.count == 1, !channel.isRead[moving[0]], let journey = draft.journeys.last,
      journey.ports == [channel.port(moving[0])], channels[channel.id]!.isRead[moving[0]],
      journey.readings.dropLast().allSatisfy({ $0 == .paused })
    else { return }
    let fixed = 1 - moving[0]
    draft.nested[channel.workers[fixed]][journey.path.last!].append(channel.port(fixed))
  }

  private mutating func travel(_ channel: TortureChannel, _ end: Int, _ draft: inout Draft) {
    let start = channel.workers[end]
    var journey = Journey(
      ports: [channel.port(end)], path: [start], readings: [], posts: [], wasRead: channel.isRead[end])
    for _ in 0..<1 + random.below(3) {
      let from = journey.path.last!
      let to = random.below(workerCount)
      // Mostly inside something that itself moves, if there is any.
      let nested = draft.nested[from][to]
      let candidates = !nested.isEmpty && random.chance(70) ? nested : draft.carriers[from][to]
      guard !candidates.isEmpty else { continue }
      journey.carriers.append(candidates[random.below(candidates.count)])
      journey.path.append(to)
    }
    // A port that is read at the start may be read until it leaves: its handler and the transfer are to race.
    let isQuiet = !channel.isRead[end] && random.chance(60)
    for hop in journey.path.indices {
      let isLast = hop == journey.path.count - 1
      let reading: TortureStop.Reading
      if isLast {
        let isRead = random.chance(92)
        channels[channel.id]!.isRead[end] = isRead
        reading = isRead ? .handler : .paused
      } else if isQuiet {
        reading = .paused
      } else {
        reading = [.handler, .paused, .polled(2)][random.below(3)]
      }
      journey.readings.append(reading)
      journey.posts.append(random.below(10))
    }
    channels[channel.id]!.workers[end] = journey.path.last!
    draft.journeys.append(journey)
  }

  /// New channels, as many as are missing. Most have an end that leaves at once.
  private mutating func make(_ draft: inout Draft) {
    for _ in 0..<max(0, channelCount - channels.count) {
      let worker = random.below(workerCount)
      let id = takeChannel()
      let channel = TortureChannel(id: id, workers: [worker, worker], isRead: [false, false])
      channels[id] = channel
      draft.plan.orders[worker].channels.append(id)
      draft.places[id, default: []].insert(worker)
      if random.chance(80) { move(channel, &draft) } else { traffic(channel, &draft) }
    }
  }

  /// Lets some ports that begin at the same place travel in one message, and writes all journeys down.
  private mutating func moveTogether(_ draft: inout Draft) {
    var journeys = draft.journeys
    // What others are nested in has to go its own way.
    let carriers = Set(journeys.flatMap(\.carriers).map(\.channel))
    var index = 0
    while index < journeys.count {
      defer { index += 1 }
      // An earlier port may carry a later one, so the later joins the earlier's way only if that depends on nothing of
      // the later's. In the simple case, nothing depends on either.
      guard random.chance(40), journeys[index].path.count > 1,
        journeys[index].ports.allSatisfy({ !carriers.contains($0.channel) })
      else { continue }
      var other = index + 1
      while other < journeys.count, journeys[index].ports.count < 8 {
        let candidate = journeys[other]
        let mayJoin =
          candidate.path[0] == journeys[index].path[0] && candidate.path.count > 1
          && candidate.ports.allSatisfy { !carriers.contains($0.channel) }
        if mayJoin, random.chance(50) {
          for port in candidate.ports {
            channels[port.channel]!.workers[port.end] = journeys[index].path.last!
            channels[port.channel]!.isRead[port.end] = journeys[index].readings.last == .handler
          }
          journeys[index].ports += candidate.ports
          journeys[index].wasRead = journeys[index].wasRead || candidate.wasRead
          journeys.remove(at: other)
        } else {
          other += 1
        }
      }
    }
    draft.journeys = journeys
    for journey in journeys { write(journey, &draft) }
  }

  private func write(_ journey: Journey, _ draft: inout Draft) {
    for port in journey.ports {
      draft.places[port.channel, default: []].formUnion(journey.path)
      draft.ways[port.channel, default: []].formUnion(journey.carriers.map(\.channel))
    }
    var victimHadHandler = false
    for (hop, worker) in journey.path.enumerated() {
      var stop = TortureStop(
        round: round, hop: hop, ports: journey.ports, reading: journey.readings[hop], posts: journey.posts[hop],
        finish: hop < journey.carriers.count ? .move(over: journey.carriers[hop]) : .stay)
      let mayBeRead = stop.reading == .handler || hop == 0 && journey.wasRead
      if worker == draft.plan.victim?.worker, mayBeRead { victimHadHandler = true }
      stop.mayMissOne = victimHadHandler
      draft.plan.orders[worker].stops.append(stop)
    }
  }

  // MARK: Risks

  /// A channel is at risk if one of its ends is ever at the process that will be killed, or moves over one that is.
  private func markRisks(_ draft: inout Draft) {
    guard let victim = draft.plan.victim?.worker else { return }
    var risky = Set(channels.values.lazy.filter { $0.workers.contains(victim) }.map(\.id))
    for (id, places) in draft.places where places.contains(victim) { risky.insert(id) }
    while true {
      let more = draft.ways.filter { !risky.contains($0.key) && !$0.value.isDisjoint(with: risky) }
      if more.isEmpty { break }
      risky.formUnion(more.keys)
    }
    draft.plan.risky = risky
    for worker in draft.plan.orders.indices {
      for index in draft.plan.orders[worker].stops.indices {
        let channels = draft.plan.orders[worker].stops[index].ports.map(\.channel)
        draft.plan.orders[worker].stops[index].isRisky = channels.contains { risky.contains($0) }
      }
    }
  }
}

extension SeededGenerator {
  fileprivate mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  fileprivate mutating func chance(_ percent: Int) -> Bool { below(100) < percent }
}

import Foundation
import MessagePorts
import TestSupport

/// One torture, as seen by the process that decides. It runs on one thread.
final class TortureRun {
  private let table: TortureTable
  private var planner: TorturePlanner
  private var workers: [Worker]
  private let seed: UInt64
  private let seconds: Double
  private let patience: Duration
  private let started = ContinuousClock.now
  private var progress = TortureProgress()

  private struct Worker {
    var process: WorkerProcess?
    var generation = 0
    /// How many orders it was sent.
    var orders = 0
  }

  /// What must not be.
  struct Violation: Error {
    let text: String
    init(_ text: String) { self.text = text }
  }

  init(seed: UInt64, workers: Int, channels: Int, seconds: Double, patienceSeconds: Double) throws {
    table = try TortureTable()
    planner = TorturePlanner(seed: seed, workers: workers, channels: channels)
    self.workers = Array(repeating: Worker(), count: workers)
    self.seed = seed
    self.seconds = seconds
    patience = .seconds(patienceSeconds)
  }

  /// Plays to the end. Returns what differed, or `nil`.
  func play() -> String? {
    defer { for worker in workers { worker.process?.kill() } }
    do {
      try warmUp()
      let resources = Resources.now()
      let files = Self.files
      for index in workers.indices { try spawn(index) }
      try connect(Array(workers.indices))
      while elapsed < seconds { try playRound() }
      try end()
      try eventually("descriptors, mappings and threads of this process to be within \(resources)") {
        Resources.now().isWithin(resources)
      }
      let leftovers = Self.files.subtracting(files)
      if !leftovers.isEmpty { throw Violation("files left over: \(leftovers.sorted())") }
      return nil
    } catch let violation as Violation {
      return violation.text
    } catch {
      return "\(error)"
    }
  }

  private var elapsed: Double { (ContinuousClock.now - started) / .seconds(1) }

  /// What the library could leave behind. Tests that run at the same time have files of their own.
  private static var files: Set<String> {
    Set(
      ["/dev/shm", "/tmp", "/run/user/\(getuid())"].flatMap { directory in
        entries(of: directory).filter {
          ($0.contains("messageports") || $0.contains("message-port")) && !$0.hasPrefix("messageports-tests-")
        }.map { "\(directory)/\($0)" }
      })
  }

  // MARK: Workers

  /// Starts everything that stays for good once it is needed.
  private func warmUp() throws {
    let worker = try WorkerProcess.spawn("true")
    try eventually("the end of a process") { !worker.isRunning }
    worker.connection.close()
    usleep(20_000)
  }

  private func spawn(_ index: Int) throws {
    workers[index].generation += 1
    workers[index].orders = 0
    for word: TortureTable.WorkerWord in [.orders, .busy, .awaited, .isClean] { table[index, word] = 0 }
    // Large enough for all orders: a channel that grows would count as left over.
    workers[index].process = try WorkerProcess.spawn(
      CommandLine.arguments[0],
      arguments: [TortureWorkerCommand.name, table.path, "\(index)", "\(workers[index].generation)"],
      options: ChannelOptions(laneCapacityBytes: 1 << 20))
    try send(TortureOrders(), to: index)
    try wait { self.table[index, .orders] == 1 ? nil : "worker \(index) does not begin" }
  }

  /// Makes the trunks between workers that have just begun and all others.
  private func connect(_ new: [Int]) throws {
    var orders = Array(repeating: TortureOrders(), count: workers.count)
    var ports = Array(repeating: [MessagePort](), count: workers.count)
    for one in workers.indices {
      for other in workers.indices where one < other && (new.contains(one) || new.contains(other)) {
        let trunk = planner.addTrunk(one, other)
        table.clear(trunk.id)
        let channel = try MessageChannel()
        for (end, port) in [channel.port1, channel.port2].enumerated() {
          let worker = trunk.workers[end]
          orders[worker].received.append(trunk.port(end))
          orders[worker].started.append(trunk.port(end))
          ports[worker].append(port)
        }
      }
    }
    // A message carries a limited number of ports.
    for worker in workers.indices {
      for start in stride(from: 0, to: ports[worker].count, by: 64) {
        let range = start..<min(start + 64, ports[worker].count)
        var part = TortureOrders()
        part.received = Array(orders[worker].received[range])
        part.started = Array(orders[worker].started[range])
        try send(part, to: worker, transfer: Array(ports[worker][range]))
      }
    }
    ports = []
    try settle()
  }

  private func send(_ orders: TortureOrders, to index: Int, transfer ports: [MessagePort] = []) throws {
    guard let process = workers[index].process else { return }
    workers[index].orders += 1
    var orders = orders
    orders.number = workers[index].orders
    try process.connection.postMessage("orders", orders, transfer: ports)
  }

  /// Who holds a port, if it is held by a process that lives.
  private func holder(_ port: PortID) -> Int? {
    guard let holder = Holder(word: table[port, .holder]), workers[holder.worker].process != nil,
      workers[holder.worker].generation == holder.generation
    else { return nil }
    return holder.worker
  }

  // MARK: Rounds

  private func playRound() throws {
    let plan = planner.plan { table[$0, .posted] }
    for orders in plan.orders { for channel in orders.channels { table.clear(channel) } }
    for (index, orders) in plan.orders.enumerated() { try send(orders, to: index) }
    if let stopped = plan.stopped {
      usleep(stopped.afterMicroseconds)
      workers[stopped.worker].process?.kill(SIGSTOP)
      usleep(stopped.microseconds)
      workers[stopped.worker].process?.kill(SIGCONT)
      progress.stops += 1
    }
    if let victim = plan.victim {
      usleep(victim.afterMicroseconds)
      try kill(victim.worker)
    }
    try settle()
    try retire(plan.risky.union(plan.closing))
    if let victim = plan.victim {
      try spawn(victim.worker)
      try connect([victim.worker])
    }
    progress.rounds += 1
    progress.violations = failures.count
    progress.show(table, workers: workers.count, seconds: elapsed)
  }

  private func kill(_ index: Int) throws {
    guard let process = workers[index].process else { return }
    process.kill()
    try eventually("worker \(index) to be dead") { !process.isRunning }
    workers[index].process = nil
    process.connection.close()
    for word: TortureTable.WorkerWord in [.busy, .awaited] { table[index, word] = 0 }
    progress.kills += 1
  }

  /// Lets go of channels that were cut, or may have been, once whoever is left has been told.
  private func retire(_ channels: Set<UInt32>) throws {
    guard !channels.isEmpty else { return }
    var orders = Array(repeating: TortureOrders(), count: workers.count)
    for id in channels {
      let ends = [0, 1].map { PortID(channel: id, end: $0) }
      let open = ends.filter { holder($0) != nil && table[$0, .isClosed] == 0 }
      if open.count == 2 { orders[holder(open[0])!].closed.append(open[0]) }
      if let last = open.last { orders[holder(last)!].started.append(last) }
    }
    try sendAll(orders)
    try settle()
    orders = Array(repeating: TortureOrders(), count: workers.count)
    for id in channels {
      for port in [0, 1].map({ PortID(channel: id, end: $0) }) where table[port, .isClosed] == 0 {
        if let worker = holder(port) { orders[worker].forgotten.append(port) }
      }
    }
    try sendAll(orders)
    planner.remove(channels)
    try settle()
  }

  private func sendAll(_ orders: [TortureOrders]) throws {
    for (index, orders) in orders.enumerated() { try send(orders, to: index) }
  }

  private func end() throws {
    try retire(Set(planner.channels.keys))
    var last = TortureOrders()
    last.isLast = true
    for index in workers.indices { try send(last, to: index) }
    try wait {
      workers.indices.first { table[$0, .isClean] == 0 }.map { "worker \($0) still looks at what is left over" }
    }
    for worker in workers { worker.process?.connection.close() }
    for (index, worker) in workers.enumerated() {
      try eventually("worker \(index) to end by itself") { worker.process?.isRunning != true }
      workers[index].process = nil
    }
  }

  // MARK: Coming to rest

  /// Waits until everything has come that has to come.
  private func settle() throws {
    let channels = Array(planner.channels.keys)
    try wait {
      let before = digest(channels)
      for index in workers.indices where workers[index].process != nil {
        if table[index, .orders] != workers[index].orders { return "worker \(index) has not taken its orders" }
        if table[index, .busy] != 0 { return "worker \(index) is at \(table[index, .busy]) stops" }
        if table[index, .awaited] != 0 { return "worker \(index) waits for \(table[index, .awaited]) journeys" }
      }
      for id in channels {
        for end in 0...1 { if let missing = missing(PortID(channel: id, end: end)) { return missing } }
      }
      return digest(channels) == before ? nil : "not at rest"
    }
  }

  /// What has not come to a port yet.
  private func missing(_ port: PortID) -> String? {
    guard let worker = holder(port), table[port, .isReading] == 1, table[port, .isClosed] == 0 else { return nil }
    let sender = port.peer
    let place = "port \(port) at worker \(worker)"
    if table[sender, .isClosed] == 1 || holder(sender) == nil {
      guard table[port, .hasSeenClose] == 0 else { return nil }
      let fate = table[sender, .isClosed] == 1 ? "was closed" : table[sender, .holder] == 0 ? "was on its way" : "died"
      return "\(place) waits for its close; the other end \(fate)"
    }
    let (received, posted) = (table[sender, .received], table[sender, .posted])
    return received == posted ? nil : "\(place) has \(received) of \(posted) messages"
  }

  /// Changes whenever anything happens.
  private func digest(_ channels: [UInt32]) -> Int {
    var sum = 0
    for id in channels {
      for end in 0...1 {
        let port = PortID(channel: id, end: end)
        sum &+= table[port, .attempted] &+ table[port, .posted] &+ table[port, .received] &+ table[port, .hasSeenClose]
        sum &+= table[port, .holder] &* (2 * Int(port.rawValue) + 1)
      }
    }
    for index in workers.indices { sum &+= table[index, .orders] }
    return sum
  }

  private var failures: [String] {
    workers.indices.compactMap { index in table.failure(of: index).map { "worker \(index): \($0)" } }
  }

  /// Waits until nothing is missing, for as long as there is progress.
  private func wait(_ missing: () -> String?) throws {
    let channels = Array(planner.channels.keys)
    var deadline = ContinuousClock.now + patience
    var last = digest(channels)
    while let what = missing() {
      let failures = failures
      if !failures.isEmpty { throw Violation(failures.joined(separator: "\n")) }
      for (index, worker) in workers.enumerated() where worker.process?.isRunning == false {
        throw Violation("worker \(index) has ended by itself")
      }
      let current = digest(channels)
      if current != last { (deadline, last) = (ContinuousClock.now + patience, current) }
      guard ContinuousClock.now < deadline else { throw Violation(hang(what, channels)) }
      usleep(200)
    }
    if !failures.isEmpty { throw Violation(failures.joined(separator: "\n")) }
  }

  /// Nothing happens any more, and not everything has happened.
  private func hang(_ what: String, _ channels: [UInt32]) -> String {
    let waiting = channels.sorted().flatMap { id in
      (0...1).compactMap { missing(PortID(channel: id, end: $0)) }
    }
    let list = ([what] + waiting.filter { $0 != what }).prefix(20)
    return "no progress for \(patience):\n" + list.map { "  \($0)" }.joined(separator: "\n")
  }

  private func eventually(_ what: String, _ condition: () -> Bool) throws {
    let deadline = ContinuousClock.now + patience
    while !condition() {
      guard ContinuousClock.now < deadline else {
        throw Violation("waited for \(what); now \(Resources.now())")
      }
      usleep(500)
    }
  }

  var summary: String {
    progress.violations = failures.count
    return progress.summary(table, workers: workers.count, seconds: elapsed, seed: seed)
  }
}

import ArgumentParser
import Foundation
import Glibc
import MessagePorts
import Synchronization

/// `messageports torture-worker …`: one of the processes of a torture. Started by it, never by hand.
struct TortureWorkerCommand: ParsableCommand {
  static let name = "torture-worker"
  static let configuration = CommandConfiguration(
    commandName: name, abstract: "Plays one process of a torture.", shouldDisplay: false)

  @Argument var journal: String
  @Argument var index: Int
  @Argument var generation: Int

  func run() throws {
    DescriptorLimit.raise()
    let parent = try Connection.parent
    // With whoever decides, everything ends.
    parent.onClose = { _ in Glibc.exit(EXIT_SUCCESS) }
    let worker = TortureWorker(try TortureTable(path: journal), Holder(worker: index, generation: generation))
    worker.start(parent)
    while true { Glibc.pause() }
  }
}

/// A port that this process holds.
final class HeldPort: Sendable {
  let id: PortID
  let port: MessagePort
  /// Numbers have to be given in the order of the posts.
  let posting = Mutex(())
  let state: Mutex<State>

  struct State {
    var mayMissOne: Bool
    var hasSeenClose = false
    /// How many messages to post before answers end.
    var answersUntil = 0
  }

  init(_ id: PortID, _ port: MessagePort, mayMissOne: Bool = false) {
    (self.id, self.port) = (id, port)
    state = Mutex(State(mayMissOne: mayMissOne))
  }
}

/// A process that does with its ports what it is told, and checks each message that comes.
final class TortureWorker: Sendable {
  let table: TortureTable
  let holder: Holder
  var index: Int { holder.worker }

  private struct State {
    var held: [PortID: HeldPort] = [:]
    /// Stops of ports that have not come yet.
    var awaited: [TortureStop.Key: TortureStop] = [:]
    /// Ports that have come before this process was told what to do with them.
    var early: Set<TortureStop.Key> = []
    var queue: [TortureStop] = []
  }
  private let state = Mutex(State())
  private let work = DispatchSemaphore(value: 0)
  private let start = Mutex(ProcessResources())

  /// Two stops of a worker may block for a while: one is always left to get on.
  private static let threads = 3
  /// How long something that is certain to happen may take.
  private static let patience = Duration.seconds(5)

  init(_ table: TortureTable, _ holder: Holder) { (self.table, self.holder) = (table, holder) }

  func start(_ parent: Connection) {
    for _ in 0..<Self.threads {
      Thread { [self] in
        while true {
          work.wait()
          guard let stop = state.withLock({ $0.queue.isEmpty ? nil : $0.queue.removeFirst() }) else {
            checkResources()
            continue
          }
          perform(stop)
          table.add(-1, to: .busy, of: index)
        }
      }.start()
    }
    parent.on("orders", of: TortureOrders.self) { [self] orders, event in take(orders, event.ports) }
    parent.onMessageError = { [self] error in fail("orders do not decode: \(error)") }
  }

  func fail(_ text: String) { table.fail(index, text) }

  // MARK: Orders

  private func take(_ orders: TortureOrders, _ ports: [MessagePort]) {
    if orders.number == 1 {
      // The first orders are empty: by now everything runs that will run for good.
      let resources = ProcessResources.now()
      start.withLock { $0 = resources }
    }
    for (id, port) in zip(orders.received, ports) { hold(HeldPort(id, port)) }
    for channel in orders.channels { make(channel) }
    for id in orders.started { if let held = held(id) { read(held) } }
    for id in orders.closed { close(id) }
    var forgotten: [HeldPort?] = []
    state.withLock { state in
      for id in orders.forgotten { forgotten.append(state.held.removeValue(forKey: id)) }
    }
    forgotten = []  // which closes them
    if orders.isLast { work.signal() } else { schedule(orders.stops) }
    table[index, .orders] = orders.number
  }

  private func make(_ channel: UInt32) {
    var options = ChannelOptions()
    options.laneCapacityBytes = [0, 0, 4096, 1 << 20][Int(channel % 4)]
    do {
      let made = try MessageChannel(options: options)
      hold(HeldPort(PortID(channel: channel, end: 0), made.port1))
      hold(HeldPort(PortID(channel: channel, end: 1), made.port2))
    } catch {
      fail("cannot make channel \(channel): \(error)")
    }
  }

  private func schedule(_ stops: [TortureStop]) {
    state.withLock { state in
      // What did not come before the last round was settled never will.
      state.awaited = [:]
      var ready: [TortureStop] = []
      for stop in stops {
        if stop.hop == 0 || state.early.contains(stop.key) { ready.append(stop) } else { state.awaited[stop.key] = stop }
      }
      state.early = []
      table[index, .awaited] = state.awaited.values.count { !$0.isRisky }
      enqueue(ready, &state)
    }
  }

  private func enqueue(_ stops: [TortureStop], _ state: inout State) {
    table.add(stops.count, to: .busy, of: index)
    state.queue += stops
    for _ in stops { work.signal() }
  }

  // MARK: Ports

  private func held(_ id: PortID) -> HeldPort? { state.withLock { $0.held[id] } }

  private func hold(_ held: HeldPort) {
    table[held.id, .hasSeenClose] = 0
    table[held.id, .isReading] = 0
    table[held.id, .holder] = holder.word
    held.port.onClose = { [self] _ in sawClose(held) }
    let before = state.withLock { $0.held.updateValue(held, forKey: held.id) }
    if before != nil { fail("port \(held.id) came to where it was") }
  }

  private func close(_ id: PortID) {
    guard let held = state.withLock({ $0.held.removeValue(forKey: id) }) else { return }
    table[id, .isClosed] = 1
    held.port.close()
  }

  private func read(_ held: HeldPort) {
    held.port.onMessage = { [self] event in
      event.withBytes { bytes in unsafe bytes.withUnsafeBytes { unsafe take($0, event.ports, at: held) } }
    }
    table[held.id, .isReading] = 1
  }

  private func stopReading(_ held: HeldPort) {
    table[held.id, .isReading] = 0
    held.port.onMessage = nil
  }

  /// Ports have come: goes on with their journey.
  private func arrived(_ ports: [MessagePort], _ cargo: TortureMessage.Cargo) {
    let key = TortureStop.Key(port: cargo.ports[0], round: cargo.round, hop: cargo.hop)
    let stop = state.withLock { $0.awaited[key] }
    for (id, port) in zip(cargo.ports, ports) { hold(HeldPort(id, port, mayMissOne: stop?.mayMissOne ?? false)) }
    state.withLock { state in
      guard let stop = state.awaited.removeValue(forKey: key) else {
        state.early.insert(key)
        return
      }
      enqueue([stop], &state)
      if !stop.isRisky { table.add(-1, to: .awaited, of: index) }
    }
  }

  // MARK: Checking

  /// Holds a message against what has to come at this port. Its number is one more than that of the last one.
  private func take(_ bytes: UnsafeRawBufferPointer, _ ports: [MessagePort], at held: HeldPort) {
    let sender = held.id.peer
    if held.state.withLock({ $0.hasSeenClose }) { return fail("port \(held.id): a message after close") }
    let deadline = ContinuousClock.now + Self.patience
    while true {
      let number = table[sender, .received]
      if let content = unsafe TortureMessage.recognize(bytes, sender, number, portCount: ports.count) {
        return accept(content, number, bytes.count, ports, at: held)
      }
      if held.state.withLock({ $0.mayMissOne }),
        let content = unsafe TortureMessage.recognize(bytes, sender, number + 1, portCount: ports.count)
      {
        return accept(content, number + 1, bytes.count, ports, at: held)
      }
      // Somebody who had this port before, or has it in another way, may not have counted his last message yet.
      guard ContinuousClock.now < deadline else { return unsafe fail(describe(bytes, ports, at: held)) }
      usleep(200)
    }
  }

  private func accept(
    _ content: TortureMessage.Content, _ number: Int, _ byteCount: Int, _ ports: [MessagePort], at held: HeldPort
  ) {
    let sender = held.id.peer
    held.state.withLock { $0.mayMissOne = false }
    if number >= table[sender, .attempted] { fail("port \(held.id): message \(number) was never posted") }
    if case .cargo(let cargo) = content { arrived(ports, cargo) }
    answer(held)
    table.add(1, to: .messages, of: index)
    table.add(byteCount, to: .bytes, of: index)
    table[sender, .received] = number + 1
  }

  /// Before the message counts as received, so that there is no moment of rest in between.
  private func answer(_ held: HeldPort) {
    guard table[held.id, .posted] < held.state.withLock({ $0.answersUntil }) else { return }
    do { try post(held, isSmall: true) } catch { if !held.port.isClosed { fail("port \(held.id): \(error)") } }
  }

  /// What came instead of what had to come.
  private func describe(_ bytes: UnsafeRawBufferPointer, _ ports: [MessagePort], at held: HeldPort) -> String {
    let sender = held.id.peer
    let number = table[sender, .received]
    let window = max(0, number - 1000)..<max(number + 1000, table[sender, .attempted])
    let other = window.first { number in
      unsafe TortureMessage.recognize(bytes, sender, number, portCount: ports.count) != nil
    }
    let found = other.map { "its message \($0)" } ?? "\(bytes.count) bytes with \(ports.count) ports that are none of its messages"
    return "port \(held.id): expected message \(number) of \(sender), got \(found)"
  }

  private func sawClose(_ held: HeldPort) {
    let isFirst = held.state.withLock { state in
      defer { state.hasSeenClose = true }
      return !state.hasSeenClose
    }
    guard isFirst else { return fail("port \(held.id): a second close") }
    let sender = held.id.peer
    let missing = held.state.withLock { $0.mayMissOne } ? 1 : 0
    let deadline = ContinuousClock.now + Self.patience
    // The thread that took the last message may not have counted it yet.
    while table[sender, .received] < table[sender, .posted] - missing {
      guard ContinuousClock.now < deadline else {
        return fail("port \(held.id): close after \(table[sender, .received]) of \(table[sender, .posted]) messages")
      }
      usleep(200)
    }
    table[held.id, .hasSeenClose] = 1
  }

  // MARK: Stops

  private func perform(_ stop: TortureStop) {
    let ports = stop.ports.compactMap { held($0) }
    guard ports.count == stop.ports.count else {
      if !stop.isRisky { fail("ports \(stop.ports) are not here, at stop \(stop.hop)") }
      return
    }
    do {
      if stop.reading == .split {
        for held in ports { try split(held, posts: stop.posts) }
        return
      }
      for held in ports { prepare(held, stop) }
      for _ in 0..<stop.posts {
        for held in ports {
          try post(held)
          if case .polled(let count) = stop.reading { try poll(held, count) }
        }
      }
      if case .blocking(let count) = stop.reading { for held in ports { try receive(held, until: count) } }
      switch stop.finish {
      case .stay: break
      case .close: for id in stop.ports { close(id) }
      case .drop: for held in ports { drop(held) }
      case .move(let carrier): try move(ports, over: carrier, stop)
      }
    } catch {
      fail("ports \(stop.ports), stop \(stop.hop), \(stop.reading), \(stop.finish): \(error)")
    }
  }

  private func prepare(_ held: HeldPort, _ stop: TortureStop) {
    switch stop.reading {
    case .handler: read(held)
    case .volley(let count):
      held.state.withLock { $0.answersUntil = count }
      read(held)
    default: stopReading(held)
    }
  }

  private func post(_ held: HeldPort, isSmall: Bool = false) throws {
    try held.posting.withLock { _ in
      let number = table[held.id, .posted]
      table[held.id, .attempted] = number + 1
      try unsafe TortureMessage.withContent(held.id, number, isSmall: isSmall) {
        try unsafe held.port.postMessage(bytes: $0.bytes)
      }
      table[held.id, .posted] = number + 1
    }
  }

  private func poll(_ held: HeldPort, _ count: Int) throws {
    for _ in 0..<count {
      guard case .message(let event) = try held.port.tryReceive() else { return }
      event.withBytes { bytes in unsafe bytes.withUnsafeBytes { unsafe take($0, event.ports, at: held) } }
    }
  }

  private func receive(_ held: HeldPort, until count: Int) throws {
    while table[held.id.peer, .received] < count {
      do throws(PortError) {
        let event = try held.port.receive(timeout: .seconds(1))
        event.withBytes { bytes in unsafe bytes.withUnsafeBytes { unsafe take($0, event.ports, at: held) } }
      } catch {
        switch error {
        case .timedOut: continue
        case .peerClosed: return read(held)
        default: throw error
        }
      }
    }
    read(held)
  }

  private func drop(_ held: HeldPort) {
    table[held.id, .isClosed] = 1
    stopReading(held)
    held.port.onClose = nil
    state.withLock { _ = $0.held.removeValue(forKey: held.id) }
  }

  private func move(_ ports: [HeldPort], over carrier: PortID, _ stop: TortureStop) throws {
    guard let over = held(carrier) else {
      // It came by a way that a killed process was on.
      if stop.isRisky { return }
      throw TortureError("the carrier \(carrier) is not here")
    }
    let cargo = TortureMessage.Cargo(round: stop.round, hop: stop.hop + 1, ports: stop.ports)
    let reading = stop.ports.map { table[$0, .isReading] }
    // From the post on they may be anywhere, also here again.
    state.withLock { state in for id in stop.ports { state.held[id] = nil } }
    for id in stop.ports { table[id, .holder] = 0 }
    while true {
      do throws(PortError) {
        try post(cargo, ports.map(\.port), over)
        return table.add(ports.count, to: .transfers, of: index)
      } catch {
        switch error {
        // The kernel's queues are full: nothing was done.
        case .transferQueueFull: usleep(1000)
        default:
          for (held, reading) in zip(ports, reading) {
            table[held.id, .holder] = holder.word
            table[held.id, .isReading] = reading
          }
          throw error
        }
      }
    }
  }

  private func post(_ cargo: TortureMessage.Cargo, _ ports: [MessagePort], _ over: HeldPort) throws(PortError) {
    try over.posting.withLock { (_) throws(PortError) in
      let number = table[over.id, .posted]
      table[over.id, .attempted] = number + 1
      try over.port.postMessage(bytes: TortureMessage.bytes(over.id, number, cargo), transfer: ports)
      table[over.id, .posted] = number + 1
    }
  }

  /// Posts by way of the halves, receives what comes meanwhile, and joins them again.
  private func split(_ held: HeldPort, posts: Int) throws {
    stopReading(held)
    state.withLock { _ = $0.held.removeValue(forKey: held.id) }
    let (writer, reader) = try held.port.split()
    var halves = TortureHalves(writer: writer, reader: reader)
    let table = table
    try unsafe halves.exchange(held.id, posts: posts, table) { bytes in unsafe take(bytes, [], at: held) }
    let joined = HeldPort(held.id, try halves.join())
    hold(joined)
    read(joined)
  }

  // MARK: The end

  private func checkResources() {
    let start = start.withLock { $0 }
    let deadline = ContinuousClock.now + Self.patience
    while ProcessResources.now() != start {
      guard ContinuousClock.now < deadline else {
        let held = state.withLock { $0.held.keys.sorted { $0.rawValue < $1.rawValue } }
        return fail("left over: \(ProcessResources.now()) after \(start); ports \(held)")
      }
      usleep(5000)
    }
    table[index, .isClean] = 1
  }
}

/// A port's two halves, for as long as it is split.
private struct TortureHalves: ~Copyable {
  var writer: PortWriter
  var reader: PortReader

  init(writer: consuming PortWriter, reader: consuming PortReader) {
    self.writer = writer
    self.reader = reader
  }

  mutating func exchange(
    _ id: PortID, posts: Int, _ table: TortureTable, _ take: (UnsafeRawBufferPointer) -> Void
  ) throws {
    var left = posts
    do throws(PortError) {
      while left > 0 {
        let number = table[id, .posted]
        table[id, .attempted] = number + 1
        let wasWritten = try unsafe TortureMessage.withContent(id, number, isSmall: true) { (bytes) -> Result<Bool, PortError> in
          Result { () throws(PortError) in try unsafe writer.tryWrite(bytes.bytes) }
        }.get()
        if wasWritten {
          table[id, .posted] = number + 1
          left -= 1
        }
        _ = try reader.tryRead { bytes in unsafe bytes.withUnsafeBytes { unsafe take($0) } }
        if !wasWritten { usleep(50) }
      }
    } catch {
      // The other end may be killed; the port is told so once it is one again.
      guard case .peerClosed = error else { throw error }
    }
  }

  consuming func join() throws -> MessagePort { try MessagePort(joining: writer, reader) }
}

import Foundation
import Glibc
import MessagePorts
import Synchronization
import TestSupport

/// A process that does with its ports what it is told, and checks each message that comes.
final class TortureWorker: Sendable {
  let table: TortureTable
  let holder: Holder
  var index: Int { holder.worker }

  struct State {
    var held: [PortID: HeldPort] = [:]
    /// Stops of ports that have not come yet.
    var awaited: [TortureStop.Key: TortureStop] = [:]
    /// Ports that have come before this process was told what to do with them.
    var early: Set<TortureStop.Key> = []
    var queue: [TortureStop] = []
  }
  let state = Mutex(State())
  private let work = DispatchSemaphore(value: 0)
  private let start = Mutex(Resources.now())

  /// Two stops of a worker may block for a while: one is always left to get on.
  private static let threads = 3
  /// How long something that is certain to happen may take.
  static let patience = Duration.seconds(5)

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
      // The first orders are empty: by now everything that stays has started.
      let resources = Resources.now()
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
      // Whatever had not come when the last round was settled never will.
      state.awaited = [:]
      var ready: [TortureStop] = []
      for stop in stops {
        if stop.hop == 0 || state.early.contains(stop.key) {
          ready.append(stop)
        } else {
          state.awaited[stop.key] = stop
        }
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

  func held(_ id: PortID) -> HeldPort? { state.withLock { $0.held[id] } }

  func hold(_ held: HeldPort) {
    table[held.id, .hasSeenClose] = 0
    table[held.id, .isReading] = 0
    table[held.id, .holder] = holder.word
    held.port.onClose = { [self] _ in sawClose(held) }
    held.port.onMessageError = { [self, id = held.id] error in fail("port \(id): \(error)") }
    let before = state.withLock { $0.held.updateValue(held, forKey: held.id) }
    if before != nil { fail("port \(held.id) came to where it was") }
  }

  func close(_ id: PortID) {
    guard let held = state.withLock({ $0.held.removeValue(forKey: id) }) else { return }
    table[id, .isClosed] = 1
    held.port.close()
  }

  func read(_ held: HeldPort) {
    held.port.onMessage = { [self] event in take(event, at: held, hadSeenClose: held.hasSeenClose) }
    table[held.id, .isReading] = 1
  }

  func take(_ event: MessageEvent, at held: HeldPort, hadSeenClose: Bool) {
    event.withBytes { bytes in
      unsafe bytes.withUnsafeBytes { unsafe take($0, event.ports, at: held, hadSeenClose: hadSeenClose) }
    }
  }

  func stopReading(_ held: HeldPort) {
    table[held.id, .isReading] = 0
    held.port.onMessage = nil
  }

  /// Ports have come: goes on with their journey.
  func arrived(_ ports: [MessagePort], _ cargo: TortureMessage.Cargo) {
    let key = TortureStop.Key(port: cargo.ports[0], round: cargo.round, hop: cargo.hop)
    for (id, port) in zip(cargo.ports, ports) { hold(HeldPort(id, port, mayMissOne: cargo.mayMissOne)) }
    state.withLock { state in
      guard let stop = state.awaited.removeValue(forKey: key) else {
        state.early.insert(key)
        return
      }
      enqueue([stop], &state)
      if !stop.isRisky { table.add(-1, to: .awaited, of: index) }
    }
  }

  // MARK: The end

  private func checkResources() {
    let start = start.withLock { $0 }
    let deadline = ContinuousClock.now + Self.patience
    while !Resources.now().isWithin(start) {
      guard ContinuousClock.now < deadline else {
        let held = state.withLock { $0.held.keys.sorted { $0.rawValue < $1.rawValue } }
        return fail("left over: \(Resources.now()) after \(start); ports \(held)")
      }
      usleep(5000)
    }
    table[index, .isClean] = 1
  }
}

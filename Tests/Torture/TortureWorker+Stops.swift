import Glibc
import MessagePorts

/// What ports do at the stops on their way.
extension TortureWorker {
  func perform(_ stop: TortureStop) {
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

  func post(_ held: HeldPort, isSmall: Bool = false) throws {
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
      let hadSeenClose = held.hasSeenClose
      guard case .message(let event) = try held.port.tryReceive() else { return }
      take(event, at: held, hadSeenClose: hadSeenClose)
    }
  }

  private func receive(_ held: HeldPort, until count: Int) throws {
    while table[held.id.peer, .received] < count {
      do throws(PortError) {
        let hadSeenClose = held.hasSeenClose
        let event = try held.port.receive(timeout: .seconds(1))
        take(event, at: held, hadSeenClose: hadSeenClose)
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
      // A killed process was on its way.
      if stop.isRisky { return }
      throw TortureError("the carrier \(carrier) is not here")
    }
    let cargo = TortureMessage.Cargo(
      round: stop.round, hop: stop.hop + 1, ports: stop.ports, mayMissOne: stop.mayMissOne)
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
    var halves = TortureHalves(try held.port.split())
    let table = table
    try unsafe halves.exchange(held.id, posts: posts, table) { bytes in
      // Nobody is told of a split port's close before it is joined.
      unsafe take(bytes, [], at: held, hadSeenClose: false)
    }
    let joined = HeldPort(held.id, try halves.join())
    hold(joined)
    read(joined)
  }
}

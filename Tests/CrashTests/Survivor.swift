import Foundation
import MessagePorts
import Synchronization
import TestSupport

/// What the surviving end does while the other one dies.
enum Situation: String, CaseIterable {
  /// Has a message handler, and posts nothing.
  case idle
  /// Has a message handler, and posts all the time, ports as well.
  case busy
  /// A thread sleeps in a receive.
  case asleep
  /// Moves its end to another process and back, all the time.
  case moving
  /// Has its end in a set, and all ports that come; a thread waits for them.
  case gathering
}

/// The process that lives on, with one end of the channel; it checks what comes.
final class Survivor: Sendable {
  static let lettersPerPort = 3

  struct State {
    var received = 0
    var closes = 0
    var faults: [String] = []
    var isOver = false
    /// Ports that came inside messages.
    var guests: [Guest] = []
    /// The other ends of ports that were sent.
    var lent: [(port: MessagePort, closes: Int)] = []
    /// Ends of pipes whose other ends were sent.
    var lentPipes: [Descriptor] = []
  }

  /// A port that came inside a message: three letters wait in it, or another port; or it was moved while three large
  /// letters were being posted to it.
  struct Guest {
    let port: MessagePort
    var letters = 0
    var ports = 0
    var closes = 0
    /// If its letters are large: which of the ports that moved in mid-post this is.
    var partlyReceived: Int?

    func isRight(_ journal: Journal) -> Bool {
      guard closes == 1 else { return false }
      if ports > 0 { return ports == 1 && letters == 0 }
      // The last of them, whose letters were not all posted. If none was, nothing identifies it.
      let last = journal[.partlyReceived]
      let isInterrupted = last > 0 && (partlyReceived ?? last) == last
      if isInterrupted, partlyReceived != nil || letters == 0 { return letters >= journal[.partsPosted] }
      return letters == Survivor.lettersPerPort
    }
  }

  let state = Mutex(State())
  private let carrier: MessagePort?
  private let gathering: PortSet?

  init(_ near: MessagePort, _ situation: Situation, carrier: MessagePort?) {
    self.carrier = carrier
    gathering = situation == .gathering ? PortSet() : nil
    postSome(near)
    switch situation {
    case .idle: listen(near)
    case .busy:
      listen(near)
      Thread { [self] in keepPosting(near) }.start()
    case .asleep: Thread { [self] in keepReceiving(near) }.start()
    case .moving: Thread { [self] in keepMoving(near) }.start()
    case .gathering: Thread { [self] in keepGathering(near) }.start()
    }
  }

  // MARK: Receiving

  private func take(_ event: MessageEvent) {
    let index = state.withLock { state in
      let fault =
        Letters.fault(event, state.received)
        ?? Parcels.fault(event.descriptors, event.buffers, state.received, count: Letters.parcels(event))
      if let fault { state.faults.append(fault) }
      if state.closes > 0 { state.faults.append("a message after close") }
      state.received += 1
      return state.received
    }
    for port in event.ports { adopt(port, "of message \(index - 1)") }
  }

  private func adopt(_ port: MessagePort, _ what: String) {
    let index = state.withLock { state in
      state.guests.append(Guest(port: port))
      return state.guests.count - 1
    }
    if let gathering {
      do { try gathering.add(port) } catch { fail("the port \(what) cannot be in a set: \(error)") }
      return
    }
    port.onClose = { [self] _ in state.withLock { $0.guests[index].closes += 1 } }
    port.onMessage = { [self] event in takeLetter(event, of: index, what) }
  }

  private func takeLetter(_ event: MessageEvent, of index: Int, _ what: String) {
    for nested in event.ports { adopt(nested, "inside the port \(what)") }
    state.withLock { state in
      if state.guests[index].closes > 0 { state.faults.append("a letter after the close of the port \(what)") }
      if event.ports.isEmpty {
        if let fault = state.guests[index].fault(of: event) { state.faults.append("\(fault) in the port \(what)") }
        state.guests[index].letters += 1
      } else {
        state.guests[index].ports += event.ports.count
        let number = event.withBytes { unsafe $0.unsafeLoadUnaligned(as: Int.self) } & (1 << 56 - 1)
        let fault = Parcels.fault(event.descriptors, event.buffers, number, count: Letters.parcels(event))
        if let fault { state.faults.append("\(fault) in the port \(what)") }
      }
    }
  }

  private func isClosed() { state.withLock { $0.closes += 1 } }

  private func listen(_ near: MessagePort) {
    near.onClose = { [self] _ in isClosed() }
    near.onMessage = { [self] event in take(event) }
  }

  private func keepReceiving(_ near: MessagePort) {
    defer { state.withLock { $0.isOver = true } }
    do throws(PortError) {
      while true { take(try near.receive(timeout: .seconds(30))) }
    } catch {
      if case .peerClosed = error { isClosed() } else { fail("receive: \(error)") }
    }
  }

  private func keepMoving(_ near: MessagePort) {
    defer { state.withLock { $0.isOver = true } }
    var near = near
    do {
      while true {
        for _ in 0..<30 {
          switch try near.tryReceive() {
          case .message(let event): take(event)
          case .empty: break
          case .closed: return isClosed()
          }
        }
        try carrier!.postMessage(bytes: [], transfer: [near])
        let event = try carrier!.receive(timeout: .seconds(30))
        guard let port = event.ports.first else { return fail("the port did not come back") }
        near = port
      }
    } catch {
      fail("moving: \(error)")
    }
  }

  /// The set tells of each port that has something, once of each that is closed, and then has none.
  private func keepGathering(_ near: MessagePort) {
    defer { state.withLock { $0.isOver = true } }
    let set = gathering!
    do {
      try set.add(near)
      while set.count > 0 {
        guard case .port(let port) = try set.firstReady(timeout: .seconds(30)) else { return fail("a port of nobody") }
        let index = state.withLock { $0.guests.firstIndex { $0.port === port } }
        guard index != nil || port === near else { return fail("a port that was not in the set") }
        switch try port.tryReceive() {
        case .message(let event): if let index { takeLetter(event, of: index, "\(index)") } else { take(event) }
        case .empty: break
        case .closed: if let index { state.withLock { $0.guests[index].closes += 1 } } else { isClosed() }
        }
      }
      if try set.nextReady() != nil { fail("an empty set tells of a port") }
    } catch {
      fail("the set: \(error)")
    }
  }

  private func fail(_ text: String) { state.withLock { $0.faults.append(text) } }

  // MARK: Posting

  /// Gives the victim something to receive in every situation: ports, and what makes the lane grow.
  private func postSome(_ near: MessagePort) {
    do {
      for number in 0..<8 {
        try near.postMessage(bytes: [UInt8](repeating: 1, count: number % 4 == 3 ? 1_500_000 : 100))
        try lend(near)
      }
    } catch {
      fail("posting: \(error)")
    }
  }

  private func lend(_ near: MessagePort) throws {
    let channel = try MessageChannel()
    let pipe = try Parcels.pipe(0)
    let index = state.withLock { state in
      state.lentPipes.append(pipe.writing)
      state.lent.append((channel.port1, 0))
      return state.lent.count - 1
    }
    channel.port1.onClose = { [self] _ in state.withLock { $0.lent[index].closes += 1 } }
    try near.postMessage(
      bytes: [], transfer: [channel.port2], descriptors: [pipe.reading],
      buffers: try Parcels(0, descriptors: 0, buffers: 2).buffers)
  }

  private func keepPosting(_ near: MessagePort) {
    defer { state.withLock { $0.isOver = true } }
    do {
      for number in 0... where number % 64 != 0 || !near.isPeerClosed {
        guard number % 64 == 0, state.withLock({ $0.lent.count < 100 }) else {
          try postOrWait(near, [UInt8](repeating: 1, count: number % 500))
          if number % 16 == 0 { usleep(100) }
          if state.withLock({ $0.closes > 0 }) { return }
          continue
        }
        try lend(near)
      }
    } catch PortError.transferQueueFull {
      // The victim has died with ports in its hands, or has no time for them: enough for now.
    } catch PortError.queueFull {
      // The same, where there is a limit.
    } catch {
      fail("posting: \(error)")
    }
  }

  private func postOrWait(_ near: MessagePort, _ bytes: [UInt8]) throws {
    do {
      try near.postMessage(bytes: bytes)
    } catch PortError.queueFull {
      near.blockUntilSpace(byteCount: bytes.count)
    }
  }

  // MARK: The verdict

  /// What is still missing once the victim is dead.
  func missing(_ journal: Journal, _ situation: Situation) -> String? {
    state.withLock { state in
      if state.closes == 0 { return "no close; \(state.received) of \(journal[.posted]) messages received" }
      if state.received < journal[.posted] { return "\(state.received) of \(journal[.posted]) messages received" }
      if let guest = state.guests.first(where: { !$0.isRight(journal) }) {
        return "a port has \(guest.letters) letters, \(guest.ports) ports, \(guest.closes) closes"
      }
      if let lent = state.lent.first(where: { $0.closes != 1 }) {
        return "\(lent.closes) closes of a port that was sent"
      }
      let held = state.lentPipes.count { !$0.hasNoReader }
      if held > 0 { return "\(held) of \(state.lentPipes.count) descriptors are still open somewhere" }
      if situation != .idle, !state.isOver { return "a thread still works" }
      return nil
    }
  }

  /// What can never become right.
  func fault(_ journal: Journal) -> String? {
    state.withLock { state in
      if let fault = state.faults.first { return fault }
      if state.closes > 1 { return "\(state.closes) closes" }
      if state.received > journal[.attempted] { return "\(state.received) messages, but \(journal[.attempted]) posts" }
      return nil
    }
  }

  func letGo() {
    let leftovers = state.withLock { state in
      let leftovers = (state.guests, state.lent)
      state.guests = []
      state.lent = []
      state.lentPipes = []
      return leftovers
    }
    for guest in leftovers.0 { guest.port.close() }
    for lent in leftovers.1 { lent.port.close() }
  }
}

extension Survivor.Guest {
  /// What is wrong with the next letter. The first one tells their kind.
  mutating func fault(of event: MessageEvent) -> String? {
    if event.byteCount == 8, partlyReceived == nil {
      return (try? event.load(as: UInt64.self)) == UInt64(letters) ? nil : "the wrong letter"
    }
    guard event.byteCount >= 8 else { return "no letter" }
    let number = event.withBytes { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    guard let (index, port) = Letters.readPart(number) else { return "a letter of nobody" }
    guard index == letters, port == partlyReceived ?? port else { return "large letter \(index) of \(port)" }
    partlyReceived = port
    return Letters.fault(event, number)
  }
}

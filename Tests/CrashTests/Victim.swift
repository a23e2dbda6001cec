import Foundation
import MessagePorts
import SharedRing
import TestSupport

/// The process that dies. It does everything that a port can do, over and over, until it reaches the step at which it
/// must die, or is killed.
final class Victim {
  private var port: MessagePort
  private let journal: Journal
  private let parent: Connection
  private var number = 0
  /// The other ends of channels that were passed on.
  private var kept: [MessagePort] = []
  /// How many ports were moved while somebody posted to them.
  private var partlyReceived = 0
  private var received: [MessagePort] = []
  /// What came along with the last messages.
  private var parcels: [MessageEvent] = []

  init(_ port: MessagePort, _ journal: Journal, _ parent: Connection) {
    (self.port, self.journal, self.parent) = (port, journal, parent)
  }

  func run() throws {
    while true {
      for _ in 0..<20 { try post([]) }
      try receiveFromSet()
      try receive()
      try passOn()
      try Self.ask(parent)
      for _ in 0..<20 { try post([]) }
      try passOnAgain()
      try waitUntilRead()
      try useHalves()
      try passOnWithLargeLetter()
      try passOnInPart()
      try shakeHands()
    }
  }

  private func post(_ ports: [MessagePort], descriptors: Int = 0, buffers: Int = 0) throws {
    let parcels = try Parcels(number, descriptors: descriptors, buffers: buffers)
    let letter = Letters.make(number, parcels: parcels.count)
    journal[.attempted] = number + 1
    while true {
      do {
        try port.postMessage(
          bytes: letter, transfer: ports, descriptors: parcels.descriptors, buffers: parcels.buffers)
        break
      } catch PortError.queueFull {
        port.blockUntilSpace(byteCount: Letters.byteCount(number))
      }
    }
    journal[.posted] = number + 1
    number += 1
  }

  /// Sends an end of a new channel in which three messages wait, and closes one that it has sent before.
  private func passOn() throws {
    let channel = try MessageChannel()
    for number in 0..<Survivor.lettersPerPort { try channel.port1.postMessage(bitwise: UInt64(number)) }
    kept.append(channel.port1)
    // Descriptors and buffers before the port, and some beside it.
    try post([], descriptors: 1, buffers: 2)
    try post([channel.port2], descriptors: 2, buffers: 1)
    if kept.count > 3 { kept.removeFirst().close() }
  }

  /// Sends an end of a channel that was already shared, by a transfer within this process.
  private func passOnAgain() throws {
    let (carrier, channel) = (try MessageChannel(), try MessageChannel())
    for number in 0..<Survivor.lettersPerPort { try channel.port1.postMessage(bitwise: UInt64(number)) }
    let parcels = try Parcels(number, descriptors: 1, buffers: 2)
    try carrier.port1.postMessage(
      bytes: Letters.make(number, parcels: parcels.count), transfer: [channel.port2], descriptors: parcels.descriptors,
      buffers: parcels.buffers)
    kept.append(channel.port1)
    // Whatever waits in a port leaves with it.
    try post([carrier.port2])
    if kept.count > 3 { kept.removeFirst().close() }
    carrier.port1.close()
  }

  /// Sends a port in a message of many fragments.
  private func passOnWithLargeLetter() throws {
    while Letters.byteCount(number) < 200_000 { try post([]) }
    try passOn()
  }

  /// Sends an end while a thread posts large messages to it, so that one has come in part.
  private func passOnInPart() throws {
    let channel = try MessageChannel()
    let (poster, receiver) = (channel.port1, try channel.port2.splitAndJoined())
    partlyReceived += 1
    journal[.partsPosted] = 0
    journal[.partlyReceived] = partlyReceived
    let done = DispatchSemaphore(value: 0)
    Thread { [journal, partlyReceived] in
      for index in 0..<Survivor.lettersPerPort {
        do {
          try poster.postMessage(bytes: Letters.make(Letters.part(index, ofPort: partlyReceived)))
        } catch {
          fatalError("no large letter: \(error)")
        }
        journal[.partsPosted] = index + 1
      }
      done.signal()
    }.start()
    defer { done.wait() }
    usleep(.random(in: 0...1000))
    // What is taken here would be missing there.
    guard case .empty = try receiver.tryReceive() else { return }
    let carrier = try MessageChannel()
    let far = try carrier.port2.splitAndJoined()
    try carrier.port1.postMessage(bytes: [], transfer: [receiver])
    let arrived = try far.receive(timeout: .seconds(10)).ports
    kept.append(poster)
    try post(arrived)
  }

  /// Lets the survivor catch up, if there is a limit to what may wait for it.
  private func waitUntilRead() throws {
    while Letters.byteCount(number) < 200_000 { try post([]) }
    try post([])
    port.blockUntilSpace(byteCount: Trial.queueLimitBytes - 8)
  }

  /// Posts some messages at once.
  private func useHalves() throws {
    while (0..<3).contains(where: { Letters.byteCount(number + $0) > 200 }) {
      try post([])
    }
    let halves = try port.split()
    var writer = halves.takeWriter()
    var reader = halves.takeReader()
    journal[.attempted] = number + 3
    var written = 0
    for attempt in 0..<1000 where written == 0 {
      // All or none: what is not there after the first has no room, either.
      written = try writer.batch { (batch) throws(PortError) in
        var count = 0
        while count < 3, try unsafe batch.tryWrite(Letters.make(number + count).span.bytes) { count += 1 }
        return count
      }
      if written == 0 { try? writer.waitForSpace(byteCount: 128, timeout: .microseconds(attempt)) }
    }
    number += written
    journal[.posted] = number
    _ = try reader.tryRead { _ in }
    received += reader.takePorts()
    port = try MessagePort(joining: writer, reader)
  }

  private func receive() throws {
    for _ in 0..<40 {
      guard case .message(let event) = try port.tryReceive() else { break }
      keep(event)
    }
    do throws(PortError) {
      keep(try port.receive(timeout: .microseconds(500)))
    } catch {
      guard case .timedOut = error else { throw error }
    }
  }

  private func keep(_ event: MessageEvent) {
    received += event.ports
    if received.count > 4 { received.removeFirst(received.count - 4) }
    if !event.descriptors.isEmpty { parcels.append(event) }
    if parcels.count > 4 { parcels.removeFirst() }
  }

  /// Receives by way of a set, in which other ports lie as well.
  private func receiveFromSet() throws {
    let set = PortSet()
    try set.add(port)
    // Their other ends are on their way, or with the survivor.
    for other in kept { try set.add(other) }
    for _ in 0..<20 {
      do throws(PortError) {
        guard case .port(let ready) = try set.firstReady(timeout: .microseconds(500)) else { return }
        if case .message(let event) = try ready.tryReceive() { keep(event) }
      } catch {
        guard case .timedOut = error else { throw error }
      }
    }
  }

  /// Connects with itself: both sides of a handshake.
  private func shakeHands() throws {
    let listener = try Listener(path: Self.listenPath(getpid()))
    let done = DispatchSemaphore(value: 0)
    Task {
      let connection = try? await Connection.connect(path: listener.path)
      connection?.close()
      done.signal()
    }
    done.wait()
    listener.close()
  }

  static func listenPath(_ process: Int32) -> String { "/tmp/messageports-crash-\(process)" }
}

extension MessagePort {
  /// Waits until that many bytes can be posted, or nobody will read them.
  func blockUntilSpace(byteCount: Int) {
    let done = DispatchSemaphore(value: 0)
    // On the event loop: the first task of the pool brings a thread and descriptors that stay.
    Task(executorPreference: EventLoop.default) {
      try? await self.waitForSpace(byteCount: byteCount)
      done.signal()
    }
    done.wait()
  }

  /// The same end again, its channel now shared.
  fileprivate func splitAndJoined() throws -> MessagePort {
    let halves = try split()
    return try MessagePort(joining: halves.takeWriter(), halves.takeReader())
  }
}

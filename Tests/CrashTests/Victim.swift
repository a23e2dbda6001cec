import Foundation
import MessagePorts
import SharedRing
import TestSupport

/// The process that dies. It does everything that a port can do, over and over, until it reaches the step at which it
/// must die, or is killed.
final class Victim {
  private var port: MessagePort
  private let journal: Journal
  private var number = 0
  /// The other ends of channels that were passed on.
  private var kept: [MessagePort] = []
  /// How many ports were moved while somebody posted to them.
  private var partlyReceived = 0
  private var received: [MessagePort] = []

  init(_ port: MessagePort, _ journal: Journal) { (self.port, self.journal) = (port, journal) }

  func run() throws {
    while true {
      for _ in 0..<20 { try post([]) }
      try receive()
      try passOn()
      for _ in 0..<20 { try post([]) }
      try passOnAgain()
      try waitUntilRead()
      try useHalves()
      try passOnWithLargeLetter()
      try passOnInPart()
      try shakeHands()
    }
  }

  private func post(_ ports: [MessagePort], _ descriptors: [Descriptor] = []) throws {
    journal[.attempted] = number + 1
    while true {
      do {
        try port.postMessage(bytes: Letters.make(number), transfer: ports, descriptors: descriptors)
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
    // A descriptor before the port, and one beside it.
    try post([], [Descriptor(duplicating: STDERR_FILENO)])
    try post([channel.port2], [Descriptor(duplicating: STDERR_FILENO)])
    if kept.count > 3 { kept.removeFirst().close() }
  }

  /// Sends an end of a channel that was already shared, by a transfer within this process.
  private func passOnAgain() throws {
    let (carrier, channel) = (try MessageChannel(), try MessageChannel())
    for number in 0..<Survivor.lettersPerPort { try channel.port1.postMessage(bitwise: UInt64(number)) }
    try carrier.port1.postMessage(
      bytes: [], transfer: [channel.port2], descriptors: [Descriptor(duplicating: STDERR_FILENO)])
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
      received += event.ports
    }
    do throws(PortError) {
      received += try port.receive(timeout: .microseconds(500)).ports
    } catch {
      guard case .timedOut = error else { throw error }
    }
    if received.count > 4 { received.removeFirst(received.count - 4) }
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

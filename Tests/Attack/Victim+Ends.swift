import Glibc
import MessagePorts
import Synchronization
import TestSupport

/// What is done with the attacked channels.
extension Victim {
  /// At so many ends somebody waits; the others have handlers.
  private static let mostWaits = 16
  /// More are refused, as any program refuses clients beyond what it can serve.
  private static let mostEnds = 400

  /// Lets an attacker in, and gives it ports: each of the other ends is used in a way of its own.
  func greet(_ connection: Connection) {
    guard ends.openCount < Self.mostEnds else { return connection.close() }
    tally.count("connections")
    let number = ends.begin(
      "connection", post: counted { [weak connection] in try connection?.postMessage("", bytes: $0) },
      close: { [weak connection, ends] number in
        connection?.close()
        ends.end(number)
      })
    connection.onClose = { [self] reason in ended(number, reason) }
    connection.onMessageError = { [tally] _ in tally.count("errors") }
    connection.onUnhandled = { [self] event in taken(event.message) }
    var given: [MessagePort] = []
    func give(_ use: (MessagePort) -> Void) {
      guard let channel = try? MessageChannel(options: Self.options) else { return }
      use(channel.port1)
      given.append(channel.port2)
    }
    give(handle)
    if ends.open["wait", default: 0] < Self.mostWaits {
      give(receive)
      give(read)
      give(iterate)
      give(waitForSpace)
    }
    do { try connection.postMessage("yours", transfer: given) } catch { tally.count("refused") }
  }

  private func ended(_ number: Int, _ reason: CloseReason) {
    if case .protocolViolation = reason { tally.count("violations") }
    ends.end(number)
  }

  private func taken(_ event: MessageEvent) {
    take(event.bytes)
    if modes.contains(.bytes) { Guess.decode(event) }
    for port in event.ports { handle(port) }
    for buffer in event.buffers.prefix(8) { look(at: buffer) }
  }

  /// As a program does that has a limit of its own.
  private func look(at buffer: MessageBuffer) {
    switch buffer {
    case .frozen(let frozen):
      guard let bytes = try? frozen.bytes(upTo: 1 << 20) else { return tally.count("buffers refused") }
      tally.count("frozen buffers read")
      let sum = bytes.withBytes(Self.sum)
      if bytes.withBytes(Self.sum) != sum { tally.count("frozen buffers that change") }
    case .shared(let shared):
      guard (try? shared.map(upTo: 1 << 20)) != nil, let bytes = try? shared.read(0..<shared.byteCount) else {
        return tally.count("buffers refused")
      }
      tally.count("shared buffers used")
      try? shared.write(bytes, at: 0)
    }
  }

  private static func sum(_ bytes: RawSpan) -> UInt64 {
    (0..<bytes.byteCount / 8).reduce(0) { sum, index in
      unsafe sum &* 31 &+ bytes.unsafeLoadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
    }
  }

  /// With handlers. So are ports that an attacker has sent.
  func handle(_ port: MessagePort) {
    guard ends.openCount < Self.mostEnds else { return port.close() }
    let number = ends.begin(
      "handled port", post: counted { [weak port] in try port?.postMessage(bytes: $0) },
      close: { [weak port, ends] number in
        port?.close()
        ends.end(number)
      })
    port.onClose = { [self] reason in ended(number, reason) }
    port.onMessageError = { [tally] _ in tally.count("errors") }
    port.onMessage = { [self, weak port] event in
      taken(event)
      if let port, event.bytes == Array("half".utf8), modes.contains(.halves) {
        ends.keep(number)
        halves.add(port, number)
      }
    }
  }

  /// With a thread that blocks in `receive`, whose port may be closed, moved or split meanwhile.
  private func receive(_ port: MessagePort) {
    let number = ends.begin("wait", close: { _ in port.close() })
    startThread { [self] in
      do { while true { take(try port.receive().bytes) } } catch {}
      ends.end(number)
    }
    guard let leaving = Leaving.allCases.randomElement(), leaving != .staying else { return }
    startThread { [self] in
      usleep(.random(in: 0..<500_000))
      let leave = ends.begin("\(leaving)")
      leaving.leave(port) { [self] in handle($0) }
      ends.end(leave)
    }
  }

  /// With a thread that reads, and takes no port out of what it reads.
  private func read(_ port: MessagePort) {
    let number = ends.begin("reader")
    startThread { [self] in
      do {
        var reader = try port.split().takeReader()
        while true { tally.count("read", try reader.read { $0.byteCount > 0 ? 1 : 0 }) }
      } catch {}
      ends.end(number)
    }
  }

  /// With a task that iterates.
  private func iterate(_ port: MessagePort) {
    let number = ends.begin("iteration", close: { _ in port.close() })
    Task { [self] in
      do { for try await event in port.messages { taken(event) } } catch {}
      ends.end(number)
    }
  }

  /// With a task that posts as long as there is room, and waits for more. A handler takes what comes: a message that
  /// nobody reads may hold the other end.
  private func waitForSpace(_ port: MessagePort) {
    let number = ends.begin("wait for space", close: { _ in port.close() })
    port.onMessage = { [self] event in taken(event) }
    Task { [self] in
      var accepted = 0
      do {
        while !port.isPeerClosed {
          do {
            try port.postMessage(bytes: [UInt8](repeating: 9, count: 1024))
            accepted += 1024
            check(accepted: accepted)
            if accepted % (64 << 10) == 0 { try await Task.sleep(for: .milliseconds(1)) }
          } catch PortError.queueFull {
            try await port.waitForSpace(byteCount: 1024)
          }
        }
      } catch {}
      ends.end(number)
    }
  }

  /// A post that counts what is accepted.
  private func counted(_ post: @escaping @Sendable ([UInt8]) throws -> Void) -> @Sendable ([UInt8]) -> Void {
    let accepted = Mutex(0)
    return { [self] bytes in
      guard (try? post(bytes)) != nil else { return }
      let sum = accepted.withLock { accepted in
        accepted += bytes.count
        return accepted
      }
      check(accepted: sum)
    }
  }

  /// Where attackers never read, what is accepted is what waits.
  private func check(accepted: Int) {
    guard modes == [.limits], accepted > Self.options.queueLimitBytes! + (64 << 10) else { return }
    tally.count("ports beyond their queue's limit")
  }

  /// Connects to what is no server of ours, again and again: it must not be taken for one.
  func visitStrangers(_ path: String) async {
    while !Task.isCancelled {
      if let connection = try? await Connection.connect(path: path, timeout: .seconds(1)) {
        tally.count("strangers taken for servers")
        connection.close()
      }
      try? await Task.sleep(for: .milliseconds(5))
    }
  }
}

/// How a port leaves a thread that waits at it.
private enum Leaving: CaseIterable {
  case staying, closing, moving, splitting

  func leave(_ port: MessagePort, _ moved: (MessagePort) -> Void) {
    switch self {
    case .staying: return
    case .closing: port.close()
    case .moving:
      guard let carrier = try? MessageChannel(), (try? carrier.port1.postMessage(bytes: [], transfer: [port])) != nil,
        case .message(let event)? = try? carrier.port2.tryReceive()
      else { return port.close() }
      event.ports.forEach(moved)
    case .splitting:
      do {
        var reader = try port.split().takeReader()
        _ = try? reader.tryRead { $0.byteCount }
      } catch { port.close() }
    }
  }
}

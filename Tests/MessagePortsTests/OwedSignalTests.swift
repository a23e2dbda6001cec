import Glibc
import MessagePorts
import TestSupport
import Testing

/// A poster waits for space; whoever takes the last message, and never looks again, has to wake it: on io_uring by a
/// futex, on epoll by a packet on the socket.
@Suite("Wake-ups that are owed", .serialized, .timeLimit(.minutes(3)))
struct OwedSignalTests {
  enum Kind: String, CaseIterable, Sendable { case plain, fragments, withPort }

  enum Taker: String, CaseIterable, Sendable { case reader, receive, tryReceive, handler }

  struct Case: Sendable, CustomStringConvertible {
    let kind: Kind
    let taker: Taker
    let driver: EventLoop.Driver
    var description: String { "\(kind), \(taker), \(driver)" }
  }

  private static let cases = Kind.allCases.flatMap { kind in
    Taker.allCases.flatMap { taker in EventLoop.Driver.allCases.map { Case(kind: kind, taker: taker, driver: $0) } }
  }

  @Test(
    "2.4 A poster that waits for space is woken by whoever takes what was in its way, whatever it was",
    arguments: cases)
  func owedRing(_ one: Case) async throws {
    let loop = EventLoop(name: "poster", driver: one.driver)
    defer { loop.stop() }
    let byteCount = one.kind == .fragments ? 200_000 : 8
    let limit = one.kind == .fragments ? 250_000 : 64
    let channel = try await sharedChannel(ChannelOptions(queueLimitBytes: limit))
    let port = channel.port1
    port.setEventLoop(loop)
    var posted = 0
    while portError({ try post(one.kind, byteCount, on: port) }) == "none" { posted += 1 }
    #expect(posted == (one.kind == .fragments ? 1 : 4))
    let room = Collected<Bool>()
    Task { room.append((try? await port.waitForSpace(byteCount: byteCount)) != nil) }
    // Long enough for its doorbell to be armed; if it is not, the test is easier.
    try await Task.sleep(for: .milliseconds(20))
    #expect(room.count == 0)
    let rest = try await take(posted, from: channel.port2, one.taker)
    #expect(try await room.wait(for: 1) == [true])
    withExtendedLifetime(rest) {}
    port.close()
  }

  @Test(
    "2.4 A ring that the kernel refuses to whoever reads is paid later, although he never comes again",
    arguments: [EAGAIN, ENOBUFS], [Taker.reader, .tryReceive])
  func refusedRing(_ errno: CInt, _ taker: Taker) async throws {
    let loop = EventLoop(name: "poster", driver: .epoll)
    defer { loop.stop() }
    let channel = try await sharedChannel(ChannelOptions(queueLimitBytes: 64))
    let port = channel.port1
    port.setEventLoop(loop)
    while portError({ try post(.plain, 8, on: port) }) == "none" {}
    let reader = channel.port2
    let halves = taker == .reader ? try reader.split() : nil
    let room = Collected<Bool>()
    Task { room.append((try? await port.waitForSpace(byteCount: 8)) != nil) }
    // Long enough for its doorbell to be armed; if it is not, the test is easier.
    try await Task.sleep(for: .milliseconds(20))
    #expect(room.count == 0)
    let rest = try await Refusal.during([Refusal(.sendmsg, errno)]) { () -> any Sendable in
      if let halves {
        var reader = halves.takeReader()
        while try reader.tryRead({ $0.byteCount }) != nil {}
        return PortHalves(halves.takeWriter(), reader)
      }
      while case .message = try reader.tryReceive() {}
      return reader
    }
    #expect(try await room.wait(for: 1) == [true])
    withExtendedLifetime(rest) {}
    port.close()
  }

  private func post(_ kind: Kind, _ byteCount: Int, on port: MessagePort) throws {
    let bytes = patternBytes(count: byteCount, seed: 1)
    try port.postMessage(bytes: bytes, transfer: kind == .withPort ? [MessageChannel().port1] : [])
  }

  /// Takes `count` messages, and never looks again. Returns what has to live on.
  private func take(_ count: Int, from port: MessagePort, _ taker: Taker) async throws -> any Sendable {
    switch taker {
    case .reader:
      let halves = try port.split()
      return try await onThread {
        var reader = halves.takeReader()
        for _ in 0..<count { try waitUntil("a message") { try reader.tryRead { $0.byteCount } != nil } }
        return PortHalves(halves.takeWriter(), reader)
      }
    case .receive: try await onThread { for _ in 0..<count { _ = try port.receiveSoon() } }
    case .tryReceive:
      for _ in 0..<count {
        try await eventually("a message") { if case .message = try port.tryReceive() { true } else { false } }
      }
    case .handler:
      let messages = Collected<Void>()
      port.onMessage = { [weak port] _ in
        messages.append(())
        if messages.count == count { port?.onMessage = nil }
      }
      try await messages.wait(for: count)
    }
    return port
  }
}

/// A channel in shared memory with both ends here.
func sharedChannel(_ options: ChannelOptions) async throws -> (port1: MessagePort, port2: MessagePort) {
  let channel = try MessageChannel(options: options)
  let agent = try Agent(in: FarProcess.shared.worker)
  try await agent.call(.keep, 0, transfer: [channel.port1])
  try await agent.call(.keep, 1, transfer: [channel.port2])
  return try (await agent.call(.give, 0).ports[0], await agent.call(.give, 1).ports[0])
}

import MessagePorts
import Synchronization

/// What travels round a relay together with the port under test.
///
/// Each station takes some of the numbers that wait at the port, checks them, posts some of its own, and passes port and
/// token on; after the last hop it sends both home.
public struct RelayToken: PlainValue, Sendable {
  /// The number that must come next.
  public var expected: UInt64 = 0
  /// The number to post next.
  public var next: UInt64 = 0
  public var hopsLeft: UInt64
  /// The state of the random numbers that decide how many.
  public var random: UInt64
  /// Not zero: what came instead of what was expected, plus one.
  public var wrong: UInt64 = 0

  public static let layout = PlainLayout<RelayToken>(\.expected, \.next, \.hopsLeft, \.random, \.wrong)

  public init(hops: UInt64, seed: UInt64) {
    hopsLeft = hops
    random = seed
  }

  mutating func random(below bound: UInt64) -> UInt64 {
    random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (random >> 33) % bound
  }

  mutating func check(_ event: MessageEvent) {
    let number = (try? event.load(as: UInt64.self)) ?? .max - 1
    if number != expected && wrong == 0 { wrong = number + 1 }
    expected += 1
  }

  mutating func post(on port: MessagePort) {
    for _ in 0..<random(below: 4) {
      try? port.postMessage(bitwise: next)
      next += 1
    }
  }
}

/// Where a port stops on its way round.
final class RelayStation: Sendable {
  private let out: MessagePort
  private let home: MessagePort

  init(out: MessagePort, home: MessagePort) {
    self.out = out
    self.home = home
  }

  /// Takes what is there without waiting.
  func poll(_ event: MessageEvent) {
    guard var token = try? event.load(as: RelayToken.self), let port = event.ports.first else { return }
    for _ in 0..<token.random(below: 5) {
      guard case .message(let message) = try? port.tryReceive() else { break }
      token.check(message)
    }
    token.post(on: port)
    pass(port, token)
  }

  /// Takes some numbers in a message handler, and passes the port on from within it.
  func handle(_ event: MessageEvent) {
    guard var token = try? event.load(as: RelayToken.self), let port = event.ports.first else { return }
    let quota = token.random(below: 4)
    if quota == 0 { return pass(port, token) }
    let state = Mutex((token: token, left: quota))
    let box = Box(state)
    port.onMessage = { [weak port] message in
      guard let port else { return }
      let token = box.value.withLock { state -> RelayToken? in
        state.token.check(message)
        state.left -= 1
        return state.left == 0 ? state.token : nil
      }
      guard var token else { return }
      token.post(on: port)
      self.pass(port, token)
    }
  }

  private func pass(_ port: MessagePort, _ token: RelayToken) {
    var token = token
    token.hopsLeft -= 1
    let isLast = token.hopsLeft == 0 || token.wrong != 0
    do {
      try (isLast ? home : out).postMessage(bitwise: token, transfer: [port])
    } catch {
      token.wrong = .max
      try? home.postMessage(bitwise: token)
    }
  }

  private final class Box: Sendable {
    let value: Mutex<(token: RelayToken, left: UInt64)>
    init(_ value: consuming sending Mutex<(token: RelayToken, left: UInt64)>) { self.value = value }
  }
}

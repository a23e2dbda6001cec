import Glibc
import MessagePorts
import Synchronization
import TestSupport

/// A conversation with an honest process that sends everything back: each answer must be what was sent, in order, now
/// and then with a port that must work.
final class Conversation: Sendable {
  struct Outcome: Sendable {
    var rounds = 0
    var wrong = 0
    var slowestMilliseconds = 0
  }

  private let port: MessagePort
  private let secret: UInt64
  private let isOnLoop: Bool
  private let outcome = Mutex(Outcome())
  private let isOver = Mutex(false)
  /// One element for each time that it has ended.
  private let ends = Collected<Void>()
  private let posted = Mutex(ContinuousClock.now)

  init(_ friend: FarProcess, _ secret: UInt64, onLoop: Bool) throws {
    port = try friend.open(.echo)
    self.secret = secret
    isOnLoop = onLoop
  }

  var result: Outcome { outcome.withLock { $0 } }
  var rounds: Int { result.rounds }

  /// Message `number`: the secret, the number, and bytes of all sizes that go with it.
  private func message(_ number: Int) -> [UInt8] {
    var random = SeededGenerator(seed: number)
    let size = number % 50 == 0 ? Int.random(in: 0..<300_000, using: &random) : Int.random(in: 0..<500, using: &random)
    let head = [secret, UInt64(number)].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    return head + Payload.make(number, byteCount: size)
  }

  static func secret(of bytes: [UInt8]) -> UInt64 { bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) } }

  func start() {
    isOver.withLock { $0 = false }
    port.onClose = { [self] _ in fail() }
    guard isOnLoop else {
      _ = TestThread { [self] in talkByHand() }
      return
    }
    let next = Mutex(0)
    port.onMessage = { [self] event in
      let number = next.withLock { number in
        defer { number += 1 }
        return number
      }
      check(event, number)
      if isOver.withLock({ $0 }) { ends.append(()) } else { post(number + 1) }
    }
    post(0)
  }

  private func talkByHand() {
    var number = 0
    while !isOver.withLock({ $0 }) {
      post(number)
      do { check(try port.receiveSoon(), number) } catch { return fail() }
      number += 1
    }
    ends.append(())
  }

  /// After the next answer. It can be started again.
  func end() {
    let before = ends.count
    isOver.withLock { $0 = true }
    do { try ends.wait(for: before + 1) } catch { fail() }
    port.onMessage = nil
    port.onClose = nil
  }

  private func post(_ number: Int) {
    posted.withLock { $0 = .now }
    do {
      guard number % 20 == 10 else { return try port.postMessage(bytes: message(number)) }
      let channel = try MessageChannel()
      try channel.port1.postMessage(bytes: message(number))
      try port.postMessage(bytes: message(number), transfer: [channel.port2])
    } catch { fail() }
  }

  private func check(_ event: MessageEvent, _ number: Int) {
    let took = posted.withLock { ContinuousClock.now - $0 }
    var isRight = event.bytes == message(number) && event.ports.count == (number % 20 == 10 ? 1 : 0)
    if let port = event.ports.first { isRight = isRight && (try? port.receiveSoon().bytes) == message(number) }
    outcome.withLock { outcome in
      outcome.rounds += 1
      outcome.wrong += isRight ? 0 : 1
      outcome.slowestMilliseconds = max(outcome.slowestMilliseconds, Int(took.inSeconds * 1000))
    }
  }

  private func fail() {
    outcome.withLock { $0.wrong += 1 }
  }
}

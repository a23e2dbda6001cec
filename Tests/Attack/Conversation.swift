import Dispatch
import Glibc
import MessagePorts
import Synchronization
import TestSupport

/// A conversation with an honest process that sends everything back: each answer must be what was sent, in order, now
/// and then with a port that must work. A thread asks; the answers come to a handler on the loop, or to the thread.
final class Conversation: Sendable {
  /// Of messages without ports, and of those with one.
  let (plain, withPort) = (RoundTrips(), RoundTrips())
  /// A process that does nothing else: in one with two, an answer with a port that the kernel holds up would hold up the
  /// other's.
  private let friend = FarProcess()
  private let port: MessagePort
  private let secret: UInt64
  private let isOnLoop: Bool
  private let wrong = Mutex(0)
  private let isOver = Mutex(false)
  private let thread = Mutex<TestThread<Void>?>(nil)
  /// What the handler was given.
  private let answers = Mutex<[MessageEvent]>([])
  private let hasAnswer = DispatchSemaphore(value: 0)

  init(_ secret: UInt64, onLoop: Bool) throws {
    port = try friend.open(.echo)
    self.secret = secret
    isOnLoop = onLoop
  }

  var wrongAnswers: Int { wrong.withLock { $0 } }

  /// One message in so many has a port.
  private static func hasPort(_ number: Int) -> Bool { number % 20 == 10 }

  /// Message `number`: the secret, the number, and bytes of all sizes that go with it.
  private func message(_ number: Int) -> [UInt8] {
    var random = SeededGenerator(seed: number)
    let size = number % 50 == 0 ? Int.random(in: 0..<300_000, using: &random) : Int.random(in: 0..<500, using: &random)
    let head = [secret, UInt64(number)].flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }
    return head + Payload.make(number, byteCount: size)
  }

  static func secret(of bytes: [UInt8]) -> UInt64 { bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) } }

  /// It can be started again after ``end()``.
  func start() {
    isOver.withLock { $0 = false }
    port.onClose = { [self] _ in fail() }
    if isOnLoop {
      port.onMessage = { [self] event in
        answers.withLock { $0.append(event) }
        hasAnswer.signal()
      }
    }
    thread.withLock { $0 = TestThread { [self] in talk() } }
  }

  private func talk() {
    let waits = ProcessorWaits(of: friend.worker.processIdentifier)
    var number = 0
    while !isOver.withLock({ $0 }) {
      do {
        let asked = message(number)
        let waited = waits.sum
        let start = ContinuousClock.now
        try post(asked, number)
        let event = try answer()
        let end = ContinuousClock.now
        (Self.hasPort(number) ? withPort : plain).add(
          from: start, to: end, waited: min(waits.sum - waited, end - start))
        if try !isRight(event, asked, number) { fail() }
      } catch {
        print("no answer to message \(number) of the honest port \(isOnLoop ? "on the loop" : "by hand"): \(error)")
        return fail()
      }
      number += 1
      usleep(1000)
    }
  }

  private func answer() throws -> MessageEvent {
    // One that comes late is slow, not wrong.
    guard isOnLoop else { return try port.receive(timeout: patience * 2) }
    guard hasAnswer.wait(timeout: .now() + (patience * 2).inSeconds) == .success else { throw PortError.timedOut }
    return answers.withLock { $0.removeFirst() }
  }

  func end() {
    isOver.withLock { $0 = true }
    do { try thread.withLock { $0 }?.join(within: patience * 5) } catch { fail() }
    port.onMessage = nil
    port.onClose = nil
  }

  private func post(_ bytes: [UInt8], _ number: Int) throws {
    guard Self.hasPort(number) else { return try port.postMessage(bytes: bytes) }
    let channel = try MessageChannel()
    try channel.port1.postMessage(bytes: bytes)
    try port.postMessage(bytes: bytes, transfer: [channel.port2])
  }

  private func isRight(_ event: MessageEvent, _ asked: [UInt8], _ number: Int) throws -> Bool {
    guard event.bytes == asked, event.ports.count == (Self.hasPort(number) ? 1 : 0) else { return false }
    guard let port = event.ports.first else { return true }
    return try port.receiveSoon().bytes == asked
  }

  private func fail() { wrong.withLock { $0 += 1 } }
}

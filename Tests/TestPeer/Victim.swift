import CSupport
import Glibc
import MessagePorts
import Synchronization
import TestSupport

/// A process under attack: it takes what comes on the attacked channels, posts on them, and meanwhile holds two
/// conversations with a friend, of which it checks every byte.
final class Victim: Sendable {
  /// What no attacker can know: it must never come out of an attacked channel.
  private let secret: UInt64 = .random(in: 1 ... .max)
  private let seed: String
  private let counts = Mutex<[String: Int]>([:])
  private let attacked = Mutex<[ObjectIdentifier: Attacked]>([:])

  /// Bounded in what a peer can make it keep, as who talks to strangers should be.
  private static let options = ChannelOptions(
    queueLimitBytes: 256 << 10, messageLimitBytes: 1 << 20, backing: .memfd, acceptsUnsealedMemory: false)

  private struct Attacked: Sendable {
    let since: ContinuousClock.Instant
    let post: @Sendable ([UInt8]) -> Void
    let close: @Sendable () -> Void
  }

  init(seed: String) { self.seed = seed }

  private func count(_ what: String, _ number: Int = 1) { counts.withLock { $0[what, default: 0] += number } }

  // MARK: The attacked side

  private func add(
    _ object: AnyObject, post: @escaping @Sendable ([UInt8]) -> Void, close: @escaping @Sendable () -> Void
  ) {
    attacked.withLock { $0[ObjectIdentifier(object)] = Attacked(since: .now, post: post, close: close) }
  }

  private func remove(_ id: ObjectIdentifier, _ reason: CloseReason) {
    let isViolation = if case .protocolViolation = reason { true } else { false }
    count(isViolation ? "violations" : "exits")
    attacked.withLock { _ = $0.removeValue(forKey: id) }
  }

  private func take(_ bytes: [UInt8]) {
    count("attackedMessages")
    // Nothing of the friend's has strayed here.
    if Conversation.secret(of: bytes) == secret { count("strays") }
  }

  /// Ports that an attacker sends are attacked as well.
  private func adopt(_ port: MessagePort) {
    let id = ObjectIdentifier(port)
    add(port, post: { [weak port] in try? port?.postMessage(bytes: $0) }, close: { [weak port] in port?.close() })
    port.onClose = { [weak self] in self?.remove(id, $0) }
    port.onMessageError = { [weak self] _ in self?.count("errors") }
    port.onMessage = { [weak self] event in
      self?.take(event.bytes)
      for port in event.ports { self?.adopt(port) }
    }
  }

  private func greet(_ connection: Connection) {
    count("connections")
    let id = ObjectIdentifier(connection)
    add(
      connection, post: { [weak connection] in try? connection?.postMessage("", bytes: $0) },
      close: { [weak connection] in connection?.close() })
    connection.onClose = { [weak self] in self?.remove(id, $0) }
    connection.onMessageError = { [weak self] _ in self?.count("errors") }
    connection.onUnhandled = { [weak self] event in
      self?.take(event.bytes)
      for port in event.ports { self?.adopt(port) }
    }
    guard let channel = try? MessageChannel(options: Self.options) else { return count("noChannel") }
    adopt(channel.port1)
    do { try connection.postMessage("yours", transfer: [channel.port2]) } catch { count("refused") }
  }

  /// Posts on everything that is attacked, and closes what has been long enough.
  private func keepBusy(until isOver: Flag) {
    var random = SeededGenerator(seed: 1)
    while !isOver.isSet {
      let all = attacked.withLock { Array($0) }
      for (id, one) in all {
        let size = Int.random(in: 0..<50, using: &random) == 0 ? 40_000 : Int.random(in: 0..<300, using: &random)
        one.post([UInt8](repeating: 7, count: size))
        guard ContinuousClock.now - one.since > .seconds(1) else { continue }
        one.close()
        attacked.withLock { _ = $0.removeValue(forKey: id) }
        count("closed")
      }
      usleep(1000)
    }
  }

  private func isWellAttacked(_ talks: [Conversation]) -> Bool {
    let counts = counts.withLock { $0 }
    let isAttacked = counts["connections", default: 0] > 5 && counts["attackedMessages", default: 0] > 100
    return isAttacked && counts["violations", default: 0] > 0 && talks.map(\.rounds).reduce(0, +) > 100
  }

  // MARK: The whole

  func bear(seconds: Double) throws -> [String: Int] {
    let friend = FarProcess()
    let talks = try [
      Conversation(friend, secret, onLoop: false), Conversation(friend, secret, onLoop: true),
    ]
    let path = freshPath(".socket")
    let attacker = try PeerProcess.spawn("attacker", [path, seed])
    let isOver = Flag()
    // Everything that a process takes once and keeps, it has taken then.
    startSymbolizer()
    for talk in talks { talk.start() }
    try waitUntil("both conversations to be going") { talks.allSatisfy { $0.rounds > 20 } }
    for talk in talks { talk.end() }
    let slept = Promise<Void>()
    Task {
      try? await Task.sleep(for: .milliseconds(1))
      slept.fulfil()
    }
    try slept.wait()

    let before = Resources.now(), residentBefore = Resources.residentKilobytes
    for talk in talks { talk.start() }
    let busy = TestThread { [self] in keepBusy(until: isOver) }
    var listener: Listener? = try Listener(path: path, options: Self.options)
    let greeting = Task { [self, connections = listener!.connections] in
      for await connection in connections { greet(connection) }
    }
    var report: [String: Int] = [:]
    var peaks = (descriptors: 0, resident: 0, threads: 0)
    let end = ContinuousClock.now + .seconds(seconds)
    // Longer, if the machine is slow, until it was an attack worth the name.
    while ContinuousClock.now < end || (!isWellAttacked(talks) && ContinuousClock.now < end + patience) {
      usleep(100_000)
      let now = Resources.now()
      peaks.descriptors = max(peaks.descriptors, now.descriptors - before.descriptors)
      peaks.threads = max(peaks.threads, now.threads - before.threads)
      peaks.resident = max(peaks.resident, Resources.residentKilobytes - residentBefore)
    }

    report["attackerLives"] = attacker.isRunning ? 1 : 0
    // The attacker dies; what it leaves behind costs nothing.
    attacker.kill()
    try waitUntil("the attacker to be dead") { !attacker.isRunning }
    listener?.close()
    listener = nil
    greeting.cancel()
    isOver.set()
    try busy.join()
    for one in attacked.withLock({ Array($0.values) }) { one.close() }
    attacked.withLock { $0.removeAll() }
    for talk in talks { talk.end() }
    // What is left after a while is left for good.
    try? waitUntil("all to be back") {
      let now = Resources.now()
      return now.descriptors <= before.descriptors && now.mappings <= before.mappings
    }
    let after = Resources.now()
    report["descriptorsLeft"] = after.descriptors - before.descriptors
    report["mappingsLeft"] = after.mappings - before.mappings
    let used = cpuMicroseconds
    usleep(500_000)

    report.merge(counts.withLock { $0 }) { $1 }
    report["peakDescriptors"] = peaks.descriptors
    report["peakResidentKB"] = peaks.resident
    report["peakThreads"] = peaks.threads
    report["idlePermille"] = (cpuMicroseconds - used) / 500
    for result in talks.map(\.result) {
      report["rounds", default: 0] += result.rounds
      report["wrong", default: 0] += result.wrong
      report["slowestMilliseconds"] = max(report["slowestMilliseconds"] ?? 0, result.slowestMilliseconds)
    }
    return report
  }
}

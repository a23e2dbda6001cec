import CTestSupport
import Glibc
import MessagePorts
import Synchronization
import TestSupport

/// A process under attack: it uses the attacked channels in every way that there is, and meanwhile holds two
/// conversations with a friend, one of them on the loop that serves the attackers.
final class Victim: Sendable {
  let modes: [AttackMode]
  let ends = AttackedEnds()
  let tally = Tally()
  let halves = HalfClosedEnds()
  private let seconds: Double
  private let seed: Int
  private let path = freshPath(".socket")
  /// What no attacker can know: it must never come out of an attacked channel.
  private let secret: UInt64 = .random(in: 1 ... .max)

  /// Bounds what a peer can make it keep, as whoever talks to strangers should.
  static let options = ChannelOptions(
    queueLimitBytes: 256 << 10, messageLimitBytes: 1 << 20, backing: .memfd, acceptsUnsealedMemory: false)

  init(_ modes: [AttackMode], seconds: Double, seed: Int) {
    self.modes = modes
    self.seconds = seconds
    self.seed = seed
  }

  /// Is attacked, and reports how it fared.
  func bear() throws -> VictimReport {
    setLimit(RLIMIT_NOFILE, nil)
    // A sandbox may deny it, and then a victim depends on less.
    if modes.contains(.doorbells), seed % 2 == 1 { Refusal.everywhere([Refusal(.membarrier, EPERM)]) }
    var report = VictimReport(modes: modes, seconds: seconds, seed: seed)
    let talks = try [true, false].map { try Conversation(secret, onLoop: $0) }
    try warmUp(talks)

    let descriptors = Self.descriptors
    let before = Resources.now(), residentBefore = Resources.residentKilobytes
    let (echo, passing) = (PlainEcho(passingSockets: false), PlainEcho(passingSockets: true))
    for talk in talks {
      talk.plain.removeAll()
      talk.withPort.removeAll()
      talk.start()
    }
    let isOver = Flag()
    let busy = TestThread { [self] in keepBusy(until: isOver) }
    var listener: Listener? = try Listener(path: path, options: Self.options)
    let greeting = Task { [self, connections = listener!.connections] in
      for await connection in connections { greet(connection) }
    }
    let visiting = Task { [self] in if modes.contains(.halves) { await visitStrangers(path + ".foreign") } }
    var attackers = try modes.enumerated().map { number, mode in
      let (program, arguments) = mode.command(path: path, seed: seed &+ number)
      return try WorkerProcess.spawn(program, arguments: arguments)
    }

    let end = ContinuousClock.now + .seconds(seconds)
    // Longer, if the machine is slow, until it was an attack worth the name.
    while ContinuousClock.now < end || (ends.begun < Self.worthTheName && ContinuousClock.now < end + patience / 2) {
      usleep(100_000)
      let now = Resources.now()
      report.peakDescriptors = max(report.peakDescriptors, now.descriptors - before.descriptors)
      report.peakThreads = max(report.peakThreads, now.threads - before.threads)
      report.peakKilobytes = max(report.peakKilobytes, Resources.residentKilobytes - residentBefore)
    }
    if modes.contains(.halves) { usleep(UInt32(HalfClosedEnds.verdictAfter.inSeconds * 1_100_000)) }
    report.livingAttackers = attackers.count { $0.isRunning }
    // Nobody closes an end from here on but its attacker, by its death.
    isOver.set()
    try busy.join(within: patience * 2)
    for attacker in attackers { attacker.kill() }
    for attacker in attackers {
      _ = try attacker.wait(timeout: patience)
      attacker.connection.close()
    }
    attackers.removeAll()
    listener?.close()
    listener = nil
    greeting.cancel()
    visiting.cancel()
    unsafe unlink(path + ".foreign")
    try? waitUntil("all attacked ends to end") { ends.openCount == 0 }
    report.endsLeft = ends.open
    halves.removeAll()
    for talk in talks { talk.end() }
    try echo.end()
    try passing.end()

    // What is left after a while is left for good.
    try? waitUntil("all to be back") {
      let now = Resources.now()
      return Self.descriptorsLeft(since: descriptors).isEmpty && now.mappings <= before.mappings
    }
    let after = Resources.now(), used = Resources.processorTime
    report.descriptorsLeft = Self.descriptorsLeft(since: descriptors)
    report.mappingsLeft = after.mappings - before.mappings
    usleep(1_000_000)
    report.idlePermille = Int((Resources.processorTime - used).inSeconds * 1000)
    ctest_trim_heap()
    report.kilobytesLeft = Resources.residentKilobytes - residentBefore

    report.endsBegun = ends.begun
    report.isWorthTheName = ends.begun >= Self.worthTheName
    report.violations = tally["violations"]
    report.take(honest: talks.map(\.plain), plain: echo.roundTrips)
    report.take(honest: talks.map(\.withPort), plain: passing.roundTrips)
    report.wrongAnswers = talks.map(\.wrongAnswers).reduce(0, +)
    for name in VictimReport.neverCounted { report.counted[name] = tally[name] }
    return report
  }

  /// So many ends have to have been attacked.
  private static let worthTheName = 5

  /// By the end, the process has taken everything that a process takes once and keeps.
  private func warmUp(_ talks: [Conversation]) throws {
    startSymbolizer()
    _ = try WorkerProcess.spawn("true").wait(timeout: patience)
    for talk in talks { talk.start() }
    try waitUntil("both conversations to be going") { talks.allSatisfy { $0.plain.count > 20 } }
    for talk in talks { talk.end() }
    let slept = Promise<Void>()
    Task {
      try? await Task.sleep(for: .milliseconds(1))
      slept.fulfil()
    }
    try slept.wait()
  }

  /// How many descriptors of each kind are open, but for timers: Dispatch makes one more when it likes.
  private static var descriptors: [String: Int] {
    entries(of: "/proc/self/fd").reduce(into: [:]) { kinds, name in
      guard let target = linkTarget("/proc/self/fd/\(name)"), !target.contains("timerfd") else { return }
      kinds[target.filter { !$0.isNumber }, default: 0] += 1
    }
  }

  private static func descriptorsLeft(since before: [String: Int]) -> [String: Int] {
    descriptors.reduce(into: [:]) { left, now in
      let more = now.value - (before[now.key] ?? 0)
      if more > 0, now.key != "/proc//fd" { left[now.key] = more }
    }
  }

  /// Posts on everything that is attacked, and closes what has been long enough.
  private func keepBusy(until isOver: Flag) {
    var random = SeededGenerator(seed: seed)
    while !isOver.isSet {
      let size = Int.random(in: 0..<50, using: &random) == 0 ? 40_000 : Int.random(in: 0..<300, using: &random)
      ends.post([UInt8](repeating: 7, count: size))
      ends.closeOld(.seconds(1))
      halves.examine { number, isHarmed in
        if isHarmed { tally.count("ends half open") }
        ends.end(number)
      }
      usleep(2000)
    }
  }

  /// Looks at what an attacker has said.
  func take(_ bytes: [UInt8]) {
    tally.count("messages")
    // Nothing of the friend's has strayed here.
    if Conversation.secret(of: bytes) == secret { tally.count("messages of the friend's gone astray") }
    if bytes.count > Self.options.messageLimitBytes { tally.count("messages above the limit") }
  }
}

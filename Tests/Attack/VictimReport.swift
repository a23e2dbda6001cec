import MessagePorts
import TestSupport

/// How a victim fared.
struct VictimReport {
  let modes: [AttackMode]
  let seconds: Double
  let seed: Int
  var livingAttackers = 0
  var isWorthTheName = false
  var wrongAnswers = 0
  var rounds = 0
  var slowestHonest = Duration.zero
  var slowestPlain = Duration.zero
  var excess = Duration.zero
  /// Without what was waiting for a processor.
  var ownExcess = Duration.zero
  var endsBegun = 0
  /// Those that did not end with their attacker, by what they are.
  var endsLeft: [String: Int] = [:]
  var violations = 0
  /// By kind.
  var descriptorsLeft: [String: Int] = [:]
  var mappingsLeft = 0
  var kilobytesLeft = 0
  var idlePermille = 0
  var peakDescriptors = 0
  var peakThreads = 0
  var peakKilobytes = 0
  var counted: [String: Int] = [:]

  /// What the victim counts, and must never have to.
  static let neverCounted = [
    "messages of the friend's gone astray", "messages above the limit", "ports beyond their queue's limit",
    "ends half open", "strangers taken for servers", "frozen buffers that change",
  ]

  init(modes: [AttackMode], seconds: Double, seed: Int) {
    self.modes = modes
    self.seconds = seconds
    self.seed = seed
  }

  /// One kind of round trips, and the plain ones that they are to be compared with.
  mutating func take(honest: [RoundTrips], plain: RoundTrips) {
    rounds += honest.map(\.count).reduce(0, +)
    slowestHonest = max(slowestHonest, honest.map(\.slowest).max() ?? .zero)
    slowestPlain = max(slowestPlain, plain.slowest)
    let excesses = honest.map { $0.excess(over: plain) }
    excess = max(excess, excesses.map(\.total).max() ?? .zero)
    ownExcess = max(ownExcess, excesses.map(\.own).max() ?? .zero)
  }

  /// All harm; none: an empty list. What took time is harm only beyond a limit that was asked for.
  func faults(excessMilliseconds: Double?) -> [String] {
    var faults = Self.neverCounted.compactMap { name in counted[name].flatMap { $0 > 0 ? "\($0) \(name)" : nil } }
    if wrongAnswers > 0 { faults.append("\(wrongAnswers) wrong answers of the honest ports") }
    if livingAttackers < modes.count { faults.append("\(modes.count - livingAttackers) attackers have ended") }
    if !isWorthTheName { faults.append("only \(endsBegun) ends were attacked") }
    if !endsLeft.isEmpty { faults.append("not ended with their attacker: \(Self.list(endsLeft))") }
    if !descriptorsLeft.isEmpty { faults.append("descriptors that are left: \(Self.list(descriptorsLeft))") }
    if peakDescriptors > Self.mostDescriptors { faults.append("\(peakDescriptors) descriptors at most") }
    if mappingsLeft > 0 { faults.append("\(mappingsLeft) mappings are left") }
    if idlePermille > 100 { faults.append("\(idlePermille / 10) % of a processor after the attackers' death") }
    if kilobytesLeft > Self.mostKilobytesLeft { faults.append("\(kilobytesLeft >> 10) MiB are left") }
    if peakKilobytes > Self.mostKilobytes { faults.append("\(peakKilobytes >> 10) MiB at most") }
    if let limit = excessMilliseconds, ownExcess.inSeconds * 1000 > limit {
      faults.append("an honest answer took \(Self.milliseconds(ownExcess)) longer than the plain echo")
    }
    return faults
  }

  /// What the limits of 400 ends allow, a message and a queue each, is more; an attack does not fill all of them.
  private static let mostKilobytes = 400 << 10
  /// Four for each of 400 ends, 1,000 connections that are silent, and what is on its way.
  private static let mostDescriptors = 4000
  /// What a heap keeps in between of what was once larger.
  private static let mostKilobytesLeft = 64 << 10

  private static func list(_ counts: [String: Int]) -> String {
    counts.sorted { $0.key < $1.key }.map { "\($0.value) × \($0.key)" }.joined(separator: ", ")
  }

  private static func milliseconds(_ duration: Duration) -> String {
    "\(Int((duration.inSeconds * 1000).rounded())) ms"
  }

  /// For people.
  func text(_ faults: [String]) -> String {
    var lines = [
      "\(AttackMode.text(modes)), \(Int(seconds)) s on \(EventLoop.default.driver), seed \(seed): "
        + (faults.isEmpty ? "unharmed" : "HARMED"),
      "  honest ports     \(rounds) answers, the slowest after \(Self.milliseconds(slowestHonest)); plain echo "
        + "\(Self.milliseconds(slowestPlain)); at most \(Self.milliseconds(excess)) beyond the echo of that moment, "
        + "\(Self.milliseconds(ownExcess)) without waits for a processor",
      "  attacked ends    \(endsBegun), \(endsLeft.values.reduce(0, +)) not ended; \(violations) violations",
      "  descriptors      \(descriptorsLeft.values.reduce(0, +)) left, \(peakDescriptors) at most; threads: \(peakThreads) at most",
      "  memory           \(kilobytesLeft >> 10) MiB left, \(peakKilobytes >> 10) MiB at most",
      "  processor        \(Double(idlePermille) / 10) % afterwards",
    ]
    lines += faults.map { "  HARM: \($0)" }
    return lines.joined(separator: "\n")
  }
}

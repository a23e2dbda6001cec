import Glibc
import MessagePorts
import TestSupport

/// Starts a victim for each trial, in a process of its own: whatever becomes of it is seen from here.
struct AttackTrials {
  let seconds: Double
  let seed: Int
  let excessMilliseconds: Double

  /// How long each combination of ``random()`` goes on.
  private static let secondsOfACombination = 10.0

  /// Whether the victim of these attacks at once was unharmed.
  func run(_ modes: [AttackMode], seconds: Double? = nil, seed: Int? = nil) throws -> Bool {
    let seconds = seconds ?? self.seconds
    let arguments = ["victim", AttackMode.text(modes), "\(seconds)", "\(seed ?? self.seed)", "\(excessMilliseconds)"]
    let victim = try WorkerProcess.spawn(CommandLine.arguments[0], arguments: arguments)
    let what = "\(AttackMode.text(modes)), seed \(seed ?? self.seed)"
    switch try? victim.wait(timeout: .seconds(seconds) + patience * 8) {
    case .exited(0): return true
    case .exited(1): break
    case .some(let status): say("\(what): HARMED: the victim's end: \(status)")
    case nil:
      say("\(what): HARMED: the victim hangs")
      victim.kill()
    }
    return false
  }

  /// Each mode alone.
  func each() throws -> Bool {
    let harmed = try AttackMode.allCases.filter { try !run([$0]) }
    say(harmed.isEmpty ? "unharmed by any" : "HARMED by \(harmed.map(\.rawValue).joined(separator: ", "))")
    return harmed.isEmpty
  }

  /// Two to four modes at a time, again and again.
  func random() throws -> Bool {
    var random = SeededGenerator(seed: seed)
    var harmed = 0, count = 0
    let end = ContinuousClock.now + .seconds(seconds)
    while ContinuousClock.now < end {
      let modes = Array(AttackMode.allCases.shuffled(using: &random).prefix(Int.random(in: 2...4, using: &random)))
      let isUnharmed = try run(
        modes, seconds: min(seconds, Self.secondsOfACombination), seed: Int.random(in: 0..<1 << 32, using: &random))
      harmed += isUnharmed ? 0 : 1
      count += 1
    }
    say("seed \(seed): \(count) combinations, \(harmed == 0 ? "unharmed by any" : "HARMED by \(harmed)")")
    return harmed == 0
  }

  /// At once, also into a file: victims say something in between.
  private func say(_ text: String) {
    print(text)
    fflush(nil)
  }
}

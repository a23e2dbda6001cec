import Glibc
import TestSupport
import Testing

/// A whole process whose only aim is the harm of another: it shares real channels with it, and does everything at once.
@Suite("Live attack", .serialized, .timeLimit(.minutes(20)))
struct AttackTests {
  /// `make attack SECONDS=…`
  private static let seconds =
    unsafe getenv("MESSAGEPORTS_ATTACK_SECONDS").flatMap { unsafe Double(String(cString: $0)) } ?? 3

  @Test("A process under attack loses nothing of its other conversations, does not grow, and is idle afterwards")
  func attack() async throws {
    let seed = testSeed()
    let report = try await onThread {
      try LoneProcess.run("victim", ["\(Self.seconds)", "\(seed)"], within: .seconds(Self.seconds + 120))
    }
    print(
      "attack of \(Self.seconds) s, seed \(seed): \(report.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" })")
    func value(_ name: String) -> Int { report[name] ?? 0 }
    // Without a report, it has not survived.
    try #require(!report.isEmpty)
    #expect(value("attackerLives") == 1)
    #expect(value("wrong") == 0 && value("strays") == 0)
    #expect(value("rounds") > 100)
    #expect(value("connections") > 5 && value("attackedMessages") > 100 && value("violations") > 0)
    #expect(value("slowestMilliseconds") < 5000)
    #expect(value("peakDescriptors") < 1000 && value("peakThreads") < 20)
    #expect(value("peakResidentKB") < 200 << 10)
    #expect(value("descriptorsLeft") <= 0 && value("mappingsLeft") <= 0)
    #expect(value("idlePermille") < 100)
  }
}

import Glibc
import TestSupport
import Testing

/// Processes whose only aim is to harm another: they share real channels with it, and all of them attack at once.
@Suite("Live attack", .serialized, .timeLimit(.minutes(5)))
struct AttackTests {
  private static let modes = ["chaos", "requeue", "files", "limits", "doorbells", "bytes"]

  @Test("9.5 A process under attack loses nothing of its other conversations, and keeps nothing of the attackers'")
  func attack() async throws {
    // How long answers take is printed, and decides nothing here: see `make attack`.
    let run = try await ProgramRun.run(
      PeerProcess.executable.replacing("/TestPeer", with: "/AttackTrials"),
      [Self.modes.joined(separator: "+"), "--seconds", "3", "--seed", "\(testSeed())"])
    print(run.output)
    #expect(run.exitCode == 0, "\(run.output)")
  }
}

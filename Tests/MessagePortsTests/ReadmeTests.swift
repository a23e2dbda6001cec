import Foundation
import MessagePorts
import TestSupport
import Testing

@Suite("The README", .timeLimit(.minutes(1)))
struct ReadmeTests {
  private let package = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  @Test("Its example is the program that the package builds")
  func exampleIsBuilt() throws {
    let readme = try String(contentsOf: package.appending(path: "README.md"), encoding: .utf8)
    let block = try #require(readme.split(separator: "```swift\n", maxSplits: 1).last?.split(separator: "```").first)
    let program = try String(contentsOf: package.appending(path: "Tests/ReadmeExample/main.swift"), encoding: .utf8)
    #expect(String(block) == program)
  }

  @Test("Its example prints the answer, and that the asking side is gone")
  func exampleRuns() async throws {
    let run = try await ProgramRun.run(PeerProcess.executable.replacing("/TestPeer", with: "/ReadmeExample"))
    #expect(run.exitCode == 0)
    #expect(run.output == "answer: 17\nthe asking side is gone: closed by peer\n")
  }
}

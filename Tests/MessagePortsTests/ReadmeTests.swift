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
  func exampleRuns() throws {
    let executable = PeerProcess.executable.replacing("/TestPeer", with: "/ReadmeExample")
    guard let output = unsafe popen(executable, "r") else {
      Issue.record("cannot start \(executable)")
      return
    }
    var text = ""
    while true {
      let character = unsafe fgetc(output)
      guard character >= 0, let scalar = UnicodeScalar(UInt32(character)) else { break }
      text.unicodeScalars.append(scalar)
    }
    let status = unsafe pclose(output)
    #expect(status == 0)
    #expect(text == "answer: 17\nthe asking side is gone: closed by peer\n")
  }
}

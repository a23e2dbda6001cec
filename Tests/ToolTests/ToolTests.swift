import Foundation
import MessagePorts
import MessagePortsTool
import Testing

/// The real tool, on the machine that runs the tests, whatever that offers.
@Suite("The doctor for real", .timeLimit(.minutes(1))) struct ToolTests {
  @Test("It agrees with the library on the driver, and its exit code with its findings") func onThisMachine() throws {
    // With the tests' environment: whoever runs them on epoll means both.
    let (diagnosis, run) = try diagnose(ProcessInfo.processInfo.environment)
    #expect(diagnosis.driver == EventLoop.default.driver.rawValue)
    #expect(diagnosis.facts.memory.memfd.creation.worked == diagnosis.facts.memory.memfd.refusesToShrink)
    #expect(run.code == (diagnosis.usable ? 0 : 1))
    #expect(diagnosis.usable == !diagnosis.findings.contains { $0.level == .problem })
  }

  @Test("It does what the environment says") func overrides() throws {
    let (epoll, _) = try diagnose(["MESSAGEPORTS_DRIVER": "epoll", "MESSAGEPORTS_BACKING": "posixSharedMemory"])
    #expect(epoll.driver == "epoll")
    #expect(epoll.backing == .posixSharedMemory)
    let (unknown, _) = try diagnose(["MESSAGEPORTS_DRIVER": "kqueue", "MESSAGEPORTS_BACKING": "paper"])
    #expect(unknown.findings.count { $0.subject == "environment" && $0.level == .notice } == 2)
  }

  @Test("The report has no colour unless it goes to a terminal, and nothing besides it is printed") func report() throws
  {
    let run = try ToolRun("doctor", environment: ["MESSAGEPORTS_DRIVER": "kqueue"])
    #expect(run.output.contains("\nEvent loop\n"))
    #expect(!run.output.contains("\u{1b}"))
    #expect(run.errors == "")
  }

  @Test("It ends properly, however few descriptors there are", arguments: 5...16) func fewDescriptors(limit: Int) throws
  {
    let run = try ToolRun("doctor", setup: "ulimit -n \(limit)")
    // Three standard ones, four of an event loop, and two of a channel's end.
    #expect(run.code == 1 || limit >= 9 && run.code == 0)
    #expect(run.output.contains("open files        \(limit) "))
    #expect(run.errors == "")
  }

  @Test("A limit on file sizes is found out by trying") func finiteFileSize() throws {
    let run = try ToolRun("doctor", setup: "ulimit -f 1000")
    #expect(run.output.contains("! file size"))
    #expect(run.output.contains("can be made but cannot grow"))
  }

  private func diagnose(_ environment: [String: String]) throws -> (DiagnosisInJSON, ToolRun) {
    let run = try ToolRun("doctor --json", environment: environment)
    return (try JSONDecoder().decode(DiagnosisInJSON.self, from: Data(run.output.utf8)), run)
  }
}

import ArgumentParser
import Glibc

/// `messageports doctor`: gathers facts, judges them, prints the judgement. It changes nothing on the machine.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Reports what this machine offers message ports, what they will use, and what to change.",
    discussion: """
      Everything is tried, nothing is changed. The report holds for processes that are started as this one was: by the \
      same user, from the same shell, in the same container.

      ✓ good
      ! works, but could be better
      ✗ keeps message ports between processes from working

      Exit code: 0 if message ports work between processes here, 1 if they cannot.
      """)

  @Flag(help: "Print facts and findings as JSON.")
  var json = false

  func run() throws {
    let diagnosis = Diagnosis(MachineFacts.gather())
    if json {
      print(try diagnosis.json())
    } else {
      print(DoctorReport(diagnosis, style: .forStandardOutput).text, terminator: "")
    }
    if !diagnosis.isUsable { throw ExitCode(1) }
  }
}

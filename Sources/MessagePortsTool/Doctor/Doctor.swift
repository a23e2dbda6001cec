import ArgumentParser
import Glibc

/// `messageports doctor`: gathers facts, judges them, prints the judgement. It changes nothing on the machine.
struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor",
    abstract: "Says what this machine offers to message ports, what they will use, and what to change.",
    discussion: """
      Everything is tried out, nothing is changed. What the report says holds for processes started as this one was: \
      by the same user, from the same shell, in the same container.

      Marks: ✓ good, ! works but could be better, ✗ message ports between processes cannot work until it is changed.
      Exit code: 0 if they work here, 1 if they cannot.
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

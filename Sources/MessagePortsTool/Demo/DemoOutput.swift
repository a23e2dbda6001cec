import Foundation
import MessagePorts
import Synchronization

/// Writes what a person sees.
final class DemoOutput: Sendable {
  enum Style: Sendable {
    /// One line, overwritten, shows the progress.
    case terminal
    /// For a pipe or a file: a line for each step.
    case lines
    /// Nothing that differs from run to run.
    case plain
  }

  private let style: Style
  /// The progress line that a terminal shows now.
  private let transient = Mutex(Transient())

  private struct Transient {
    var step = ""
    var isShown = false
    var shownAt = ContinuousClock.now
  }

  init(_ style: Style) { self.style = style }

  // MARK: While a program runs

  func step(_ program: DemoProgram, _ text: String) {
    switch style {
    case .terminal:
      transient.withLock { $0.step = text }
      overwrite("\(program.rawValue): \(text)")
    case .lines: line("\(program.rawValue): \(text)")
    case .plain: break
    }
  }

  func progress(_ program: DemoProgram, _ text: () -> String) {
    guard style == .terminal else { return }
    let step = transient.withLock { transient -> String? in
      // Nobody reads more than ten a second.
      guard ContinuousClock.now - transient.shownAt > .milliseconds(100) else { return nil }
      return transient.step
    }
    if let step { overwrite("\(program.rawValue): \(step): \(text())") }
  }

  /// A line that stays.
  func line(_ text: String) {
    transient.withLock { transient in
      write((transient.isShown ? Self.eraseLine : "") + text + "\n")
      transient.isShown = false
    }
  }

  private static let eraseLine = "\r\u{1B}[2K"

  private func overwrite(_ text: String) {
    transient.withLock { transient in
      transient.isShown = true
      transient.shownAt = .now
      write(Self.eraseLine + text)
    }
  }

  private func write(_ text: String) {
    // A reader that leaves early does not end the demo.
    try? FileHandle.standardOutput.write(contentsOf: Data(text.utf8))
  }

  // MARK: When it has ended

  func show(_ report: DemoReport) {
    line(report.program.rawValue)
    let processes = report.processes.map { style == .plain ? $0.name : $0.description }
    for (index, row) in rows(of: processes, width: 64).enumerated() {
      line((index == 0 ? "  processes     " : "                ") + row)
    }
    for finding in report.findings {
      switch finding.result {
      case .verified: line("  verified      \(finding.claim)")
      case .notVerified(let reason): line("  NOT VERIFIED  \(finding.claim)\n                \(reason)")
      case .differed(let difference): line("  DIFFERS       \(finding.claim)\n                \(difference)")
      }
    }
    if style == .plain { line("  messages      \(report.traffic.messages)") }
  }

  private func rows(of words: [String], width: Int) -> [String] {
    words.reduce(into: []) { rows, word in
      guard let row = rows.popLast() else { return rows.append(word) }
      rows += row.count + 2 + word.count <= width ? [row + ", " + word] : [row + ",", word]
    }
  }

  func showSummary(of reports: [DemoReport]) {
    guard style != .plain else { return line(Self.verdict(on: reports)) }
    line("")
    line(Self.row("program", "processes", "verified", "messages", "bytes", "seconds"))
    for report in reports {
      line(
        Self.row(
          report.program.rawValue, "\(report.processes.count)", "\(report.verifiedCount) of \(report.findings.count)",
          report.traffic.messages.grouped, report.traffic.bytes.grouped, Self.seconds(report.duration)))
    }
    line(Self.verdict(on: reports))
  }

  private static func row(_ program: String, _ numbers: String...) -> String {
    var row = program.padding(toLength: 20, withPad: " ", startingAt: 0)
    for (number, width) in zip(numbers, [11, 10, 11, 13, 9]) {
      row += String(repeating: " ", count: max(1, width - number.count)) + number
    }
    return row
  }

  private static func seconds(_ duration: Duration) -> String {
    String(format: "%.2f", duration / .seconds(1))
  }

  private static func verdict(on reports: [DemoReport]) -> String {
    let verified = reports.reduce(0) { $0 + $1.verifiedCount }
    let notVerified = reports.reduce(0) { $0 + $1.notVerifiedCount }
    let differed = reports.reduce(0) { $0 + $1.differedCount }
    return "\(verified) verified, \(notVerified) not verified, \(differed) different"
  }
}

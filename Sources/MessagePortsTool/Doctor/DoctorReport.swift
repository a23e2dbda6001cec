import Glibc

/// A diagnosis as text: a headline, then a few aligned lines for each finding.
package struct DoctorReport {
  package struct Style {
    package var isColoured: Bool
    package var columns: Int

    package init(isColoured: Bool, columns: Int) {
      self.isColoured = isColoured
      self.columns = columns
    }
  }

  let diagnosis: Diagnosis
  let style: Style

  package init(_ diagnosis: Diagnosis, style: Style) {
    self.diagnosis = diagnosis
    self.style = style
  }

  package var text: String {
    var lines = [headline]
    for topic in Finding.Topic.allCases {
      lines += ["", painted(topic.rawValue, .bold)]
      for finding in diagnosis.findings(about: topic) { lines += self.lines(for: finding) }
    }
    return lines.map { $0 + "\n" }.joined()
  }

  private var headline: String {
    guard diagnosis.isUsable else {
      return painted("✗ Message ports between processes cannot work here as things are.", .red)
    }
    let notices = diagnosis.findings.count { $0.level == .notice }
    let remark =
      switch notices {
      case 0: ""
      case 1: " One thing could be better."
      default: " \(notices) things could be better."
      }
    let driver = diagnosis.facts.eventLoop.driver == "uring" ? "io_uring" : "epoll"
    return painted("✓ Message ports work here, on \(driver) and \(diagnosis.backing.rawValue).", .green) + remark
  }

  private func lines(for finding: Finding) -> [String] {
    let (mark, colour): (String, Colour) =
      switch finding.level {
      case .ok: ("✓", .green)
      case .notice: ("!", .yellow)
      case .problem: ("✗", .red)
      }
    let subject = finding.subject + String(repeating: " ", count: max(0, Self.subjectColumns - finding.subject.count))
    let indentation = String(repeating: " ", count: Self.textColumn)
    var lines = wrapped(finding.text).enumerated().map { index, line in
      index == 0 ? "  \(painted(mark, colour)) \(subject)  \(line)" : indentation + line
    }
    for advice in finding.advice {
      // A command stands on a line of its own, whole, to be copied.
      lines += wrapped("→ " + advice.text + (advice.command == nil ? "" : ":")).map { indentation + $0 }
      if let command = advice.command { lines.append(indentation + "    " + painted(command, .bold)) }
    }
    return lines
  }

  /// As wide as the longest subject.
  private static var subjectColumns: Int { 16 }
  private static var textColumn: Int { 2 + 1 + 1 + subjectColumns + 2 }

  /// Breaks text at spaces so that it fits beside the subjects.
  private func wrapped(_ text: String) -> [String] {
    let width = max(30, style.columns - Self.textColumn)
    var lines: [String] = []
    var line = ""
    for word in text.split(separator: " ") {
      if !line.isEmpty, line.count + 1 + word.count > width {
        lines.append(line)
        line = ""
      }
      line += line.isEmpty ? String(word) : " " + word
    }
    return lines + [line]
  }

  // MARK: Colour

  private enum Colour: String {
    case bold = "1"
    case red = "31"
    case green = "32"
    case yellow = "33"
  }

  private func painted(_ text: String, _ colour: Colour) -> String {
    style.isColoured ? "\u{1b}[\(colour.rawValue)m\(text)\u{1b}[0m" : text
  }
}

extension DoctorReport.Style {
  /// Coloured, and as wide as the window, only on a terminal; see no-color.org for `NO_COLOR`.
  static var forStandardOutput: DoctorReport.Style {
    let isTerminal = isatty(STDOUT_FILENO) == 1
    let refusesColour = !(environmentVariable("NO_COLOR") ?? "").isEmpty || environmentVariable("TERM") == "dumb"
    var window = winsize()
    if isTerminal { _ = unsafe ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &window) }
    return DoctorReport.Style(
      isColoured: isTerminal && !refusesColour, columns: window.ws_col > 0 ? min(Int(window.ws_col), 120) : 100)
  }
}

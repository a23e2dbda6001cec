import Foundation

/// What is going on, on standard error: one line that is rewritten, or one line per cell if nobody watches.
public final class Progress {
  private let isTerminal = isatty(2) == 1
  private let began = Date()
  private var head = ""

  public init() {}

  func begin(_ cell: Cell, index: Int, of count: Int) {
    head = "[\(index + 1)/\(count)] \(cell.title)"
    if !isTerminal { write("\(elapsed) \(head)\n") }
  }

  func show(_ cell: Cell, _ contender: String, round: Int, probe: Double) {
    guard isTerminal else { return }
    write("\r\u{1b}[K\(elapsed) \(head): \(contender), repetition \(round + 1), cache line \(Int(probe)) ns")
  }

  func waiting(_ probe: Double, secondsLeft: Double) {
    guard isTerminal else { return }
    write(
      "\r\u{1b}[K\(elapsed) waiting for the processors to be near again: \(Int(probe)) ns, \(Int(secondsLeft)) s left")
  }

  func end() { if isTerminal { write("\r\u{1b}[K") } }

  private var elapsed: String {
    let seconds = Int(Date().timeIntervalSince(began))
    return "\(seconds / 60):\(seconds % 60 < 10 ? "0" : "")\(seconds % 60)"
  }

  private func write(_ text: String) { FileHandle.standardError.write(Data(text.utf8)) }
}

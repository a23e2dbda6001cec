import Foundation

/// Counts what a torture has done, and says so now and then.
struct TortureProgress {
  var rounds = 0
  var kills = 0
  var stops = 0
  var violations = 0
  private var shownAt = 0.0

  mutating func show(_ table: TortureTable, workers: Int, seconds: Double) {
    // A line that is overwritten can change more often.
    let isTerminal = isatty(STDOUT_FILENO) == 1
    guard seconds - shownAt >= (isTerminal ? 0.2 : 5) else { return }
    shownAt = seconds
    let line = counts(table, workers: workers, seconds: seconds)
    print(isTerminal ? "\r\u{1B}[2K\(line)" : line, terminator: isTerminal ? "" : "\n")
    fflush(nil)
  }

  func summary(_ table: TortureTable, workers: Int, seconds: Double, seed: UInt64) -> String {
    let end = isatty(STDOUT_FILENO) == 1 ? "\r\u{1B}[2K" : ""
    return end + counts(table, workers: workers, seconds: seconds) + ", seed \(seed)"
  }

  private func counts(_ table: TortureTable, workers: Int, seconds: Double) -> String {
    func sum(_ word: TortureTable.WorkerWord) -> Int { (0..<workers).reduce(0) { $0 + table[$1, word] } }
    return String(format: "%.1f s: ", seconds)
      + "\(rounds.grouped) rounds, \(sum(.messages).grouped) messages, \((sum(.bytes) >> 20).grouped) MiB, "
      + "\(sum(.transfers).grouped) transfers, \(kills) kills, \(stops) stops, \(violations) violations"
  }
}

extension Int {
  /// With a comma every three digits, whatever the user's language: 100,000.
  fileprivate var grouped: String { formatted(.number.locale(Locale(identifier: "en_US"))) }
}

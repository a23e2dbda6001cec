/// What a program of the demo has shown. Complete as soon as the program has ended, well or not.
struct DemoReport: Sendable {
  let program: DemoProgram
  var processes: [Process] = []
  var findings: [Finding] = []
  var traffic = DemoTraffic()
  var duration = Duration.zero

  struct Process: Sendable {
    let name: String
    let identifier: Int32
    /// What is not the same on every machine.
    let note: String?

    /// As shown to a person.
    var description: String { "\(name) \(identifier)\(note.map { " (\($0))" } ?? "")" }
  }

  /// A claim, and whether it held.
  struct Finding: Sendable {
    let claim: String
    let result: Result
  }

  enum Result: Sendable {
    case verified
    /// It cannot be tried on this machine; the text says why.
    case notVerified(String)
    case differed(String)
  }

  var hasFailed: Bool { differedCount > 0 }

  var verifiedCount: Int { findings.count { if case .verified = $0.result { true } else { false } } }
  var differedCount: Int { findings.count { if case .differed = $0.result { true } else { false } } }
  var notVerifiedCount: Int { findings.count - verifiedCount - differedCount }
}

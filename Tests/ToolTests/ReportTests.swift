import Foundation
import MessagePortsTool
import Testing

@Suite("The doctor's report") struct ReportTests {
  @Test("Texts stand in a column, and a command on a line of its own") func layout() throws {
    let diagnosis = try Diagnosis.of { $0.overrides.driver = "kqueue" }
    let text = DoctorReport(diagnosis, style: .init(isColoured: false, columns: 70)).text
    #expect(
      text.hasPrefix(
        """
        ✓ Message ports work here, on io_uring and memfd. One thing could be better.

        Event loop
          ✓ kernel            Linux 6.18.44
          ✓ io_uring          permitted; futex waits and polls work
          ✓ epoll             works
          ✓ driver            io_uring, because it works
          ! environment       MESSAGEPORTS_DRIVER=kqueue is ignored: it is
                              neither uring nor epoll
                              → to leave the choice to the library:
                                  unset MESSAGEPORTS_DRIVER

        Memory
        """))
    #expect(!text.contains("\u{1b}"))
  }

  @Test("Colours change nothing but the colour") func colours() throws {
    let diagnosis = try Diagnosis.of { $0.limits.openFiles.soft = .finite(5) }
    let plain = DoctorReport(diagnosis, style: .init(isColoured: false, columns: 100)).text
    let coloured = DoctorReport(diagnosis, style: .init(isColoured: true, columns: 100)).text
    #expect(plain.hasPrefix("✗ Message ports between processes cannot work here as things are.\n"))
    #expect(coloured.contains("\u{1b}[31m✗\u{1b}[0m channels"))
    #expect(coloured.replacing(/\u{1b}\[[0-9]+m/, with: "") == plain)
  }

  @Test("Facts survive JSON, in which an absent limit is a word") func json() throws {
    let diagnosis = try Diagnosis.of { $0.limits.openFiles.hard = .unlimited }
    let text = try diagnosis.json()
    let decoded = try JSONDecoder().decode(DiagnosisInJSON.self, from: Data(text.utf8))
    #expect(decoded.facts == diagnosis.facts)
    #expect(decoded.findings == diagnosis.findings)
    #expect(decoded.usable)
    #expect(text.contains(#""hard" : "unlimited""#))
  }
}

/// What `doctor --json` prints, as far as tests look at it.
struct DiagnosisInJSON: Decodable {
  var usable: Bool
  var driver: String?
  var backing: Diagnosis.Backing
  var findings: [Finding]
  var facts: MachineFacts
}

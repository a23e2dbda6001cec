import Glibc
import Logging
import MessagePorts
import Synchronization
import TestSupport
import Testing

/// What the library logs goes to the program's own handler, which may do anything.
@Suite("Logs", .serialized, .timeLimit(.minutes(3)))
struct LogTests {
  /// Uses ports for what it is given.
  private struct PortLogHandler: LogHandler {
    static let lines = Mutex<[String]>([])
    var metadata: Logger.Metadata = [:]
    var logLevel: Logger.Level = .trace

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
      get { metadata[key] }
      set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
      Self.lines.withLock { $0.append("\(event.message)") }
      do {
        let channel = try MessageChannel(), other = try MessageChannel()
        let halves = try channel.port1.split()
        try channel.port2.postMessage(bytes: [1], transfer: [other.port1])
        _ = consume halves
      } catch {
        preconditionFailure("\(error)")
      }
    }
  }

  @Test("A handler for logs may use ports, whatever is logged")
  func portsInHandler() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        // A handler that is called under a lock waits for itself.
        alarm(30)
        unsafe setenv("MESSAGEPORTS_BACKING", "paper", 1)
        unsafe setenv("MESSAGEPORTS_DRIVER", "pigeon", 1)
        LoggingSystem.bootstrap { _ in PortLogHandler() }
        let channel = try MessageChannel()
        let heard = Collected<[UInt8]>()
        channel.port2.onMessage = { heard.append($0.bytes) }
        try channel.port1.postMessage(bytes: [2])
        try await heard.wait(for: 1)
        _ = try channel.port1.split()
        let lines = PortLogHandler.lines.withLock { $0 }
        #expect(lines.count { $0.contains("MESSAGEPORTS_BACKING=paper") } == 1, "\(lines)")
        #expect(lines.count { $0.contains("MESSAGEPORTS_DRIVER=pigeon") } == 1, "\(lines)")
      }
    }
  }
}

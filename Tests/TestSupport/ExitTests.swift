import Glibc
import Testing

/// For the body of an exit test: what it throws would otherwise be seen as a crash without a word.
public func recordErrors(_ body: () async throws -> Void) async {
  do { try await body() } catch {
    // The issue arrives without its text.
    let line = "an exit test threw \(error)\n"
    unsafe write(STDERR_FILENO, line, line.utf8.count)
    Issue.record("threw \(error)")
  }
}

/// Dispatch opens a few descriptors when it is first asked for a timer: now, and not in the midst of a test that looks at
/// numbers, or has none left to give.
public func letDispatchOpenItsOwn() async throws { try await Task.sleep(for: .milliseconds(1)) }

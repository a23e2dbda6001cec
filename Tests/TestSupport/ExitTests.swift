import Testing

/// For the body of an exit test: what it throws would otherwise be seen as a crash without a word.
public func recordErrors(_ body: () async throws -> Void) async {
  do { try await body() } catch { Issue.record("threw \(error)") }
}

/// A wait of a test took longer than it may.
public struct DeadlineExceeded: Error {
  public let what: String
  public init(what: String) { self.what = what }
}

/// How long a wait may take on a machine that has a great deal else to do. Only a failing test waits that long.
public let generousLimit = Duration.seconds(60)

/// Polls until `condition` holds. For what cannot be awaited otherwise: counts of descriptors, states of processes.
public func eventually(
  _ what: String, within limit: Duration = generousLimit, _ condition: () throws -> Bool
) async throws {
  let deadline = ContinuousClock.now + limit
  while try !condition() {
    guard ContinuousClock.now < deadline else { throw DeadlineExceeded(what: what) }
    try await Task.sleep(for: .milliseconds(2))
  }
}

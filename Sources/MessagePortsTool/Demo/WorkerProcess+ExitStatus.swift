import MessagePorts

extension WorkerProcess {
  /// How the worker ended; throws ``DemoTimeout`` if it does not.
  func exitStatus(within limit: Duration) async throws -> ExitStatus {
    try await eventually(limit, "the end of process \(processIdentifier)") { !self.isRunning }
    return await exitStatus
  }
}

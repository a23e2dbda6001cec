/// How long to wait for what should come at once. Decides nothing but when a demonstration gives up: long enough for a machine
/// that has much else to do.
let demoPatience = Duration.seconds(60)

/// Something that a program waited for did not come in time.
struct DemoTimeout: Error, CustomStringConvertible {
  let what: String
  let limit: Duration

  var description: String { "\(what): nothing within \(limit.components.seconds) s" }
}

/// Runs `body`, which must react to cancellation, and throws ``DemoTimeout`` if it takes too long.
func within<Value: Sendable>(
  _ limit: Duration, _ what: String, _ body: @escaping @Sendable () async throws -> Value
) async throws -> Value {
  try await withThrowingTaskGroup(of: Value?.self) { group in
    group.addTask { try await body() }
    group.addTask {
      try await Task.sleep(for: limit)
      return nil
    }
    defer { group.cancelAll() }
    guard let first = try await group.next(), let value = first else { throw DemoTimeout(what: what, limit: limit) }
    return value
  }
}

/// Polls until `condition` holds: for what nobody sends a message about, such as the states of processes.
func eventually(_ limit: Duration, _ what: String, _ condition: @escaping @Sendable () -> Bool) async throws {
  try await within(limit, what) {
    while !condition() { try await Task.sleep(for: .milliseconds(2)) }
  }
}

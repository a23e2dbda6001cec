import MessagePorts

/// Something that a program waited for did not come in time.
struct DemoTimeout: Error, CustomStringConvertible {
  let what: String
  let limit: Duration

  var description: String { "\(what): nothing within \(limit.components.seconds) s" }
}

/// The other end has closed where a message was expected.
struct DemoClosed: Error, CustomStringConvertible {
  let what: String

  var description: String { "\(what): the other end has closed instead" }
}

/// Something else has come than what was expected.
struct DemoUnexpected: Error, CustomStringConvertible {
  let what: String

  var description: String { "\(what): something else has come" }
}

/// Runs `body`, which has to react to cancellation, and throws ``DemoTimeout`` if it takes too long.
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

extension MessagePort {
  /// The next message as a value; `what` names it in the error if it does not come.
  func next<Value: Decodable & Sendable>(
    _ type: Value.Type, _ what: String, within limit: Duration = .seconds(10)
  ) async throws -> Value {
    try await within(limit, what) { [messages] in
      for try await event in messages { return try event.decode(Value.self) }
      throw DemoClosed(what: what)
    }
  }
}

extension Connection {
  /// The next message with this name. Starts the connection: what comes under other names meanwhile is dropped.
  func next(_ name: String) async throws -> ConnectionEvent {
    let (events, continuation) = AsyncStream.makeStream(of: ConnectionEvent.self)
    once(name) { continuation.yield($0) }
    onClose = { _ in continuation.finish() }
    for await event in events { return event }
    throw DemoClosed(what: "the message “\(name)”")
  }

  /// Returns when the other process has ended or disconnected, after its last message.
  func closed() async {
    let (events, continuation) = AsyncStream.makeStream(of: Never.self)
    onClose = { _ in continuation.finish() }
    for await _ in events {}
  }
}

extension WorkerProcess {
  /// How the worker ended; throws ``DemoTimeout`` if it does not.
  func exitStatus(within limit: Duration) async throws -> ExitStatus {
    try await eventually(limit, "the end of process \(processIdentifier)") { !self.isRunning }
    return await exitStatus
  }
}

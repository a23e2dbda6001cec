import MessagePorts

extension MessagePort {
  /// The next message as a value; `what` names it in the error if it does not come.
  func next<Value: Decodable & Sendable>(
    _ type: Value.Type, _ what: String, within limit: Duration = demoPatience
  ) async throws -> Value {
    try await within(limit, what) { [messages] in
      for try await event in messages { return try event.decode(Value.self) }
      throw DemoClosed(what: what)
    }
  }
}

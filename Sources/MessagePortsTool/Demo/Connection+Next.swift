import MessagePorts

extension Connection {
  /// The next message with this name. Starts the connection: what comes under other names meanwhile is dropped.
  func next(_ name: String) async throws -> ConnectionEvent {
    let (events, continuation) = AsyncStream.makeStream(of: ConnectionEvent.self)
    once(name) { continuation.yield($0) }
    onClose = { _ in continuation.finish() }
    for await event in events { return event }
    throw DemoClosed(what: "the message “\(name)”")
  }
}

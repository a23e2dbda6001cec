// Handlers that are given the port, and one for the next message alone.

extension MessagePort {
  /// Sets ``onMessage`` to a handler that is given the port as well: it need not capture it, and can answer there.
  ///
  /// ```swift
  /// func echo(on port: MessagePort) {
  ///   port.on { event, port in try? port.postMessage(bytes: event.bytes) }
  /// }
  /// ```
  public func on(_ handler: @escaping @Sendable (MessageEvent, MessagePort) -> Void) {
    setMessageHandler(keeping: self, passing(self, to: handler))
  }

  /// As ``on(_:)``, for the next message alone. Then the port has no message handler, and what follows waits.
  ///
  /// Starts the port, and replaces the handler that it had.
  public func once(_ handler: @escaping @Sendable (MessageEvent, MessagePort) -> Void) {
    setMessageHandler(keeping: self, isOnce: true, passing(self, to: handler))
  }
}

/// Without keeping the port: whoever is called has it anyway.
private func passing(
  _ port: MessagePort, to handler: @escaping @Sendable (MessageEvent, MessagePort) -> Void
) -> @Sendable (MessageEvent) -> Void {
  { [weak port] event in if let port { handler(event, port) } }
}

import MessagePorts

extension MessagePort {
  /// Receives a message that comes soon: see ``patiently(_:within:_:)``.
  public func receiveSoon(within limit: Duration = patience) throws -> MessageEvent {
    try patiently("a message", within: limit) { try receive(timeout: $0) }
  }

  /// Blocks until the next message, which must be this number.
  public func expect(_ number: UInt64, within limit: Duration = patience) throws {
    let event = try receiveSoon(within: limit)
    guard event.byteCount == 8, try event.load(as: UInt64.self) == number else {
      let found = (try? event.load(as: UInt64.self)).map { "\($0)" } ?? "\(event.byteCount) bytes"
      throw Agent.Failure(description: "expected \(number), got \(found)")
    }
  }

  /// Blocks until the peer is found closed; a message is an error.
  public func expectEnd(within limit: Duration = patience) throws {
    do {
      let event = try receiveSoon(within: limit)
      throw Agent.Failure(description: "expected the end, got \(event.byteCount) bytes")
    } catch PortError.peerClosed {
      return
    }
  }
}

extension PortReader {
  /// Reads a message that comes soon: see ``patiently(_:within:_:)``.
  public mutating func readSoon<Result>(
    within limit: Duration = patience, _ body: (RawSpan) -> Result
  ) throws -> Result {
    try patiently("a message", within: limit) { try read(timeout: $0, body) }
  }
}

extension PortWriter {
  /// Waits for space that there is soon.
  public mutating func waitForSpaceSoon(byteCount: Int, within limit: Duration = patience) throws {
    try patiently("space", within: limit) { try waitForSpace(byteCount: byteCount, timeout: $0) }
  }
}

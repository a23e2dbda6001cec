import MessagePorts

extension MessagePort {
  /// Blocks until the next message, which must be this number.
  public func expect(_ number: UInt64, within limit: Duration = generousLimit) throws {
    let event = try receive(timeout: limit)
    guard event.byteCount == 8, try event.load(as: UInt64.self) == number else {
      let found = (try? event.load(as: UInt64.self)).map { "\($0)" } ?? "\(event.byteCount) bytes"
      throw Agent.Failure(description: "expected \(number), got \(found)")
    }
  }

  /// Blocks until the peer is found closed; a message is an error.
  public func expectEnd(within limit: Duration = generousLimit) throws {
    do {
      let event = try receive(timeout: limit)
      throw Agent.Failure(description: "expected the end, got \(event.byteCount) bytes")
    } catch PortError.peerClosed {
      return
    }
  }
}

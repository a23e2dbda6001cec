import MessagePorts
import TestSupport
import Testing

@Suite("2 Posting", .ownThread, .timeLimit(.minutes(10)))
struct PostingTests {
  // MARK: 2.1

  @Test(
    "2.1 A value is encoded as it is at the time of the call; later changes are not seen", arguments: Place.allCases)
  func valueAtTheTimeOfTheCall(_ place: Place) throws {
    let port = try place.open(.echo)
    let value = Changing("before")
    try port.postMessage(value)
    value.text = "after"
    #expect(try port.receiveSoon().decode(String.self) == "before")
  }

  @Test("2.1 Bytes are copied by the call; the caller may reuse its buffer at once", arguments: Place.allCases)
  func bytesAtTheTimeOfTheCall(_ place: Place) throws {
    let port = try place.open(.echo)
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 300_000, alignment: 8)
    defer { unsafe buffer.deallocate() }
    for size in [1, 48, 49, 4000, 300_000] {
      for index in buffer.indices { unsafe buffer[index] = 1 }
      try unsafe port.postMessage(bytes: RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: buffer[..<size])))
      for index in buffer.indices { unsafe buffer[index] = 2 }
      #expect(try port.receiveSoon().bytes == [UInt8](repeating: 1, count: size))
    }
  }

  @Test("2.1 A plain value and one written in place arrive as they were", arguments: Place.allCases)
  func plainAndInPlace(_ place: Place) throws {
    let port = try place.open(.echo)
    var value: InlineArray<4, Int> = [1, 2, 3, 4]
    try port.postMessage(bitwise: value)
    value = [0, 0, 0, 0]
    let echoed = try port.receiveSoon().load(as: InlineArray<4, Int>.self)
    #expect(value.indices.map { echoed[$0] } == [1, 2, 3, 4])
    // A message is as long as what was written, not as what was asked for.
    try port.postMessage(byteCount: 1000) { output in
      for byte in UInt8(0)..<10 { output.append(byte) }
    }
    #expect(try port.receiveSoon().bytes == Array(0..<10))
  }

  // MARK: 2.5 – 2.7

  @Test("2.5 Posting when the peer is closed is not an error", arguments: Place.allCases)
  func peerClosed(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.close()
    for size in [0, 8, 4096, 1 << 20, 5 << 20] { try puppet.port.postMessage(bytes: Payload.make(0, byteCount: size)) }
    for number in 0..<10_000 { try puppet.port.postMessage(bitwise: number) }
    #expect(puppet.port.isPeerClosed && !puppet.port.isClosed)
  }

  @Test("2.5 Nor is it when the process of the peer was killed, noticed or not")
  func peerKilled() throws {
    let process = FarProcess()
    let unwatched = try process.open(.hold), watched = try process.open(.hold)
    let closed = Promise<CloseReason>()
    watched.onClose = closed.fulfil
    try process.kill()
    _ = try closed.wait()
    for port in [unwatched, watched] {
      for size in [0, 8, 4096, 1 << 20, 5 << 20] { try port.postMessage(bytes: Payload.make(0, byteCount: size)) }
      for number in 0..<10_000 { try port.postMessage(bitwise: number) }
    }
  }

  @Test(
    "2.6 Posting on one's own closed port throws `closed`, and the ports listed stay with the caller",
    arguments: Place.allCases)
  func ownClosed(_ place: Place) throws {
    let port = try place.open(.echo), listed = try MessageChannel()
    port.close()
    #expect(portError { try port.postMessage(bitwise: 1) } == "closed")
    #expect(portError { try port.postMessage("text") } == "closed")
    #expect(portError { try port.postMessage(byteCount: 4) { $0.append(1) } } == "closed")
    #expect(portError { try port.postMessage(bytes: [1], transfer: [listed.port1]) } == "closed")
    #expect(try listed.port1.isUsable(with: listed.port2))
  }

  @Test(
    "2.6 Posting on one's own detached port throws `detached`, and the ports listed stay with the caller",
    arguments: Place.allCases)
  func ownDetached(_ place: Place) throws {
    let moved = try MessageChannel(), listed = try MessageChannel()
    try place.place(moved.port1, .echo)
    #expect(portError { try moved.port1.postMessage(bitwise: 1) } == "detached")
    #expect(portError { try moved.port1.postMessage(bytes: [1], transfer: [listed.port1]) } == "detached")
    #expect(try listed.port1.isUsable(with: listed.port2))
    // Nothing was posted by the old object.
    try moved.port2.postMessage(bitwise: 3)
    #expect(try moved.port2.receiveNumber() == 3)
  }

  @Test("2.6 The other calls on one's own closed or detached port throw the same errors", arguments: Place.allCases)
  func otherCallsOnClosed(_ place: Place) async throws {
    let closed = try place.open(.echo), moved = try MessageChannel()
    closed.close()
    try place.place(moved.port1, .echo)
    for (port, expected) in [(closed, "closed"), (moved.port1, "detached")] {
      #expect(portError { _ = try port.tryReceive() } == expected)
      #expect(portError { _ = try port.receiveSoon() } == expected)
      await #expect { try await port.waitForSpace(byteCount: 8) } throws: { ($0 as? PortError)?.caseName == expected }
      port.start()
      port.onMessage = { _ in }
      port.onClose = { _ in }
      #expect(!port.isStarted && port.onMessage == nil && port.onClose == nil)
    }
  }

  @Test(
    "2.7 When a post is discarded because the peer is closed, the ports it carried are closed",
    arguments: Place.allCases)
  func discardedPortsClose(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.close()
    let carried = try (0..<3).map { _ in try MessageChannel() }
    let closed = Collected<CloseReason>()
    for channel in carried { channel.port1.onClose = closed.append }
    try puppet.port.postMessage(bytes: [1], transfer: carried.map(\.port2))
    #expect(carried.allSatisfy { $0.port2.isDetached })
    try closed.wait(for: 3, "closed ports")
    #expect(carried.allSatisfy { $0.port1.isPeerClosed })
  }

  @Test("2.7 When the peer's process dies with the message unread, the ports in it close as well")
  func portsOfKilledReceiverClose() throws {
    let process = FarProcess()
    let port = try process.open(.hold), carried = try MessageChannel()
    let closed = Promise<CloseReason>()
    carried.port1.onClose = closed.fulfil
    try port.postMessage(bytes: [1], transfer: [carried.port2])
    try process.kill()
    _ = try closed.wait()
  }

  // MARK: 2.8

  @Test("2.8 A message posted on the same port while another is being encoded is sent first", arguments: Place.allCases)
  func innerFirst(_ place: Place) throws {
    let port = try place.open(.echo)
    try port.postMessage(PostsFirst(port: port, number: 1, depth: 3))
    for depth in 0...3 {
      #expect(try port.receiveSoon().decode(Int.self) == depth)
    }
  }

  @Test("2.8 So is one posted while a message is written in place, with ports or without", arguments: Place.allCases)
  func innerFirstInPlace(_ place: Place) throws {
    let port = try place.open(.echo)
    let outer = try MessageChannel(), inner = try MessageChannel()
    try port.postMessage(byteCount: 1, transfer: [outer.port1]) { output in
      try port.postMessage(bytes: [1], transfer: [inner.port1])
      try port.postMessage(bytes: [2])
      output.append(3)
    }
    #expect(try (0..<3).map { _ in try port.receiveSoon() }.map(\.bytes) == [[1], [2], [3]])
  }

  @Test("2.8 What is posted before encoding fails is sent, and nothing else", arguments: Place.allCases)
  func innerOfFailure(_ place: Place) throws {
    let port = try place.open(.echo)
    #expect(
      portError {
        try port.postMessage(byteCount: 1) { _ in
          try port.postMessage(bytes: [1])
          throw Unwilling()
        }
      } == "encodingFailed")
    try port.postMessage(bytes: [2])
    #expect(try port.receiveSoon().bytes == [1])
    #expect(try port.receiveSoon().bytes == [2])
  }

  @Test("2.8 User code that closes the port while encoding makes the post throw `closed`", arguments: Place.allCases)
  func closedWhileEncoding(_ place: Place) throws {
    let port = try place.open(.echo), listed = try MessageChannel()
    #expect(
      portError {
        try port.postMessage(byteCount: 1, transfer: [listed.port1]) { _ in port.close() }
      } == "closed")
    #expect(try listed.port1.isUsable(with: listed.port2))
  }
}

// MARK: - Values

struct Unwilling: Error {}

/// A value whose encoding fails.
struct Unencodable: Encodable {
  func encode(to encoder: any Encoder) throws { throw Unwilling() }
}

/// A value that its owner changes; encoded as its text.
private final class Changing: Encodable {
  var text: String
  init(_ text: String) { self.text = text }
  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(text)
  }
}

/// Encoded as `depth`, after having posted one less deep on the same port.
private struct PostsFirst: Encodable {
  let port: MessagePort
  let number: Int
  let depth: Int
  func encode(to encoder: any Encoder) throws {
    if depth > 0 { try port.postMessage(PostsFirst(port: port, number: number, depth: depth - 1)) }
    var container = encoder.singleValueContainer()
    try container.encode(depth)
  }
}

import MessagePorts
import TestSupport
import Testing

/// What the other end is told of a port whose message nobody has received.
@Suite("Undelivered ports", .serialized, .timeLimit(.minutes(3)))
struct UndeliveredTests {
  @Test("4.3, 6.7 A port in a message that its receiver does not read closes as undelivered", arguments: [false, true])
  func receiverCloses(_ isSplit: Bool) async throws {
    let channel = try MessageChannel()
    let (link, far) = try sharedChannelHere()
    try link.postMessage(bytes: [1], transfer: [channel.port2])
    if isSplit {
      let halves = try channel.port1.split()
      let reader = TestThread { () -> String in
        var reader = halves.takeReader()
        return portError { _ = try reader.readSoon { $0.byteCount } }
      }
      far.close()
      #expect(try reader.join() == "peerClosed.undelivered")
    } else {
      let closes = Collected<CloseReason>()
      channel.port1.onClose = { closes.append($0) }
      far.close()
      #expect(try await closes.wait(for: 1) == [.undelivered])
    }
  }

  @Test("4.3, 6.7 So it is if the receiver is killed before it reads; one that has read it has exited, or closed it")
  func receiverDies() async throws {
    let agent = try Agent(.anotherProcess)
    let (link, unread, read, closed, back) = (
      try MessageChannel(), try MessageChannel(), try MessageChannel(), try MessageChannel(), try MessageChannel()
    )
    try await agent.call(.keep, 0, transfer: [link.port2])
    try await agent.call(.keep, 1, transfer: [read.port2])
    try await agent.call(.keep, 2, transfer: [closed.port2])
    try await agent.call(.keep, 3, transfer: [back.port2])
    // Refused, or moved there and back, it is in no message any more.
    let returned = try #require(try await agent.call(.give, 3).ports.first)
    try await agent.call(.keep, 3, transfer: [returned])
    let closes = Collected<String>()
    for (name, channel) in [("unread", unread), ("read", read), ("closed", closed), ("back", back)] {
      channel.port1.onClose = { closes.append("\(name): \($0)") }
    }
    try await agent.call(.close, 2)
    try await closes.wait(for: 1)
    try link.port1.postMessage(bytes: [1], transfer: [unread.port2])
    try agent.begin(.die)
    #expect(
      try await closes.wait(for: 4).sorted() == [
        "back: peer exited", "closed: closed by peer", "read: peer exited", "unread: undelivered",
      ])
  }
}

import MessagePorts
import TestSupport
import Testing

/// A server's end, which takes sealed memory only, and a hand-made client that it has let in.
func connectByHand() async throws -> (server: Connection, peer: HandMadePeer, listener: Listener) {
  let listener = try Listener(path: freshPath(), options: Scene.options)
  let peer = try HandMadePeer(connectingTo: listener.path)
  try await peer.shakeHands()
  return (try await listener.next(), peer, listener)
}

/// Lets the hand-made peer do `something`, which must cost it its connection, and nobody else anything.
func expectViolation(
  startedFirst: Bool = true, sourceLocation: SourceLocation = #_sourceLocation, _ something: (HandMadePeer) -> Void
) async throws {
  let (server, peer, listener) = try await connectByHand()
  let bystander = try await Connection.connect(path: listener.path, timeout: patience, options: Scene.options)
  let other = try await listener.next()
  let closes = Collected<CloseReason>()
  let messages = Collected<ConnectionEvent>()
  server.onClose = { closes.append($0) }
  if startedFirst {
    server.onUnhandled = { messages.append($0) }
    try await Task.sleep(for: .milliseconds(5))  // The loop is asleep, and has to be woken.
  }
  something(peer)
  if !startedFirst { server.onUnhandled = { messages.append($0) } }
  let reason = try await closes.wait(for: 1)[0]
  guard case .protocolViolation = reason else {
    Issue.record("closed for another reason: \(reason)", sourceLocation: sourceLocation)
    return
  }
  #expect(messages.all.isEmpty, sourceLocation: sourceLocation)
  // The liar has been hung up on, and the others notice nothing.
  #expect(try await peer.readWords() == [], sourceLocation: sourceLocation)
  try await expectWorking(bystander, other, sourceLocation: sourceLocation)
}

/// A listener still lets clients in and talks to them.
func expectServing(
  _ listener: Listener, options: ChannelOptions = ChannelOptions(), sourceLocation: SourceLocation = #_sourceLocation
) async throws {
  let client = try await Connection.connect(path: listener.path, timeout: patience, options: options)
  try await expectWorking(client, try await listener.next(), sourceLocation: sourceLocation)
  client.close()
}

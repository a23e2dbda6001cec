import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// Peers that send what is no port.
@Suite("Bad ports", .serialized, .timeLimit(.minutes(5)))
struct BadPortTests {
  private func postPort(_ peer: HandMadePeer, _ packet: () throws -> Void) rethrows {
    try peer.end.post([UInt8](repeating: 0, count: 8), packet: packet)
  }

  @Test("9.5 A port made by hand arrives and works: the other tests lie about one thing each")
  func honestPort() async throws {
    let (server, peer, _) = try await connectByHand()
    let messages = Collected<ConnectionEvent>()
    server.onUnhandled = { messages.append($0) }
    let traveller = try HandMadePort()
    postPort(peer) { traveller.send(over: peer.end) }
    let port = try #require(try await messages.wait(for: 1)[0].ports.first)
    try port.postMessage(bytes: [1])
    #expect(!port.isPeerClosed)
    // The first record on lane 1, behind lane 0's data.
    let memory = traveller.far.memory
    var header: UInt64 = 0
    _ = unsafe pread(memory.fd, &header, 8, off_t(RingLayout.initialDataOffset(lane: 1, capacity: memory.laneCapacity)))
    #expect(header == word(.message, 1))
    port.close()
    #expect(csupport_socket_is_hung_up(traveller.far.socket) == 1)
  }

  @Test(
    "9.5 A port that is none costs its sender the connection, or the message, and nobody anything else",
    arguments: HostileRecordsTests.Packet.allCases)
  func badPort(_ packet: HostileRecordsTests.Packet) async throws {
    let (server, peer, listener) = try await connectByHand()
    let outcomes = Collected<Bool>()
    let messages = Collected<ConnectionEvent>()
    server.onClose = { if case .protocolViolation = $0 { outcomes.append(false) } }
    server.onMessageError = { error in
      switch error {
      case .badPort, .portsLost: outcomes.append(true)
      default: Issue.record("\(error)")
      }
    }
    server.onUnhandled = { messages.append($0) }
    var far: RawEnd?
    try postPort(peer) { far = try packet.send(over: peer.end) }
    let traveller = try #require(far)
    #expect(try await outcomes.wait(for: 1) == [packet.isError])
    #expect(messages.all.isEmpty)
    try await eventually("the hang-up of the port that was none") { csupport_socket_is_hung_up(traveller.socket) == 1 }
    try await expectServing(listener, options: Scene.options)
  }

  @Test("9.5 A peer that sends its own end of the connection does not keep it open for ever")
  func ownEnd() async throws {
    let (server, peer, listener) = try await connectByHand()
    let closes = Collected<CloseReason>()
    server.onClose = { closes.append($0) }
    server.onUnhandled = { _ in }
    // Whoever takes it has end 0.
    var own = ForgedPort(peer.end, near: peer.socket)
    own.words[0] = 0
    postPort(peer) { peer.end.send(words: [ForgedPort.header(1)] + own.words, own.fds) }
    peer.hangUp()
    try await closes.wait(for: 1)
    try await expectServing(listener, options: Scene.options)
  }

  @Test("9.5 Any number of doorbells before a port do not hide it")
  func doorbells() async throws {
    let (server, peer, _) = try await connectByHand()
    let messages = Collected<ConnectionEvent>()
    let traveller = try HandMadePort()
    for index in 0..<200 { peer.end.send([1], index % 10 == 0 ? [peer.memory] : []) }
    postPort(peer) { traveller.send(over: peer.end) }
    server.onUnhandled = { messages.append($0) }
    #expect(try await messages.wait(for: 1)[0].ports.count == 1)
  }
}

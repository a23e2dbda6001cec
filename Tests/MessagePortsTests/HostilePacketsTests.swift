import CSupport
import Glibc
import MessagePorts
import SharedRing
import Synchronization
import TestSupport
import Testing

/// A peer that sends packets that are right in themselves, but come when they should not, or not when they should.
@Suite("Hostile packets", .serialized, .timeLimit(.minutes(3)))
struct HostilePacketsTests {
  @Test(
    "Doorbells with descriptors attached cost nothing; a port behind them arrives, or a message if they fill the socket",
    arguments: Style.allCases, [20, 5000])
  func doorbellFlood(_ style: Style, _ count: Int) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    var sent = 0
    while sent < count, far.send([1], [far.memory.fd, far.memory.fd, far.memory.fd]) > 0 { sent += 1 }
    #expect(sent >= 20)
    let use = try await scene.loopUse(during: .milliseconds(100))
    #expect(use < 0.5, "\(use) of a processor")
    // A port behind them, if there is room in the socket: the record makes the victim clear the way.
    let other = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    var sockets: (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    let theirs = try RawEnd(other, end: 0, owning: sockets.0)
    let forged = ForgedPort(theirs, near: sockets.1)
    let packet = [ForgedPort.header(1)] + forged.words
    // A peer that fills its socket may lose by it what needs a packet; its messages go through.
    let hasRoom = count == 20
    if hasRoom { #expect(far.send(words: packet, forged.fds) > 0) }
    far.post([8], ports: hasRoom ? 1 : 0)
    #expect(try await told.wait(for: 1) == [.message([8], ports: hasRoom ? 1 : 0)])
    _ = csupport_close(sockets.1)
    try await scene.checkFriend()
  }

  @Test(
    "Doorbells without end instead of the ports that were announced end the channel",
    arguments: [Style.handler, .reader])
  func doorbellsForEver(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let isOver = Flag()
    for _ in 0..<3 {
      let socket = Descriptors([copy(of: far.socket)])
      startThread {
        var byte: UInt8 = 1
        while !isOver.isSet {
          let sent = unsafe csupport_send_packet(socket.all[0], &byte, 1, nil, 0)
          if sent < 0, sent != -Int(EAGAIN) { return }
        }
      }
    }
    defer { isOver.set() }
    usleepBriefly(20_000)
    far.put(word(.message, 1, ports: 1), [1])
    far.ring()
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    isOver.set()
    try await scene.checkFriend()
  }

  @Test("Packets that no record announces are not looked at, and mistaken for none that is")
  func unannounced() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    far.send(words: [1, 2, 3], [far.memory.fd])
    far.send([], [])
    for number in 0..<10 as Range<UInt8> { far.post([number]) }
    #expect(try await told.wait(for: 10) == (0..<10).map { .message([$0], ports: 0) })
    try HostileRecordsTests.Packet.tooShort.send(over: far)
    far.post([1], ports: 1)
    let all = try await told.wait(for: 11)
    #expect(all[10].isViolation)
    try await scene.checkFriend()
  }

  @Test(
    "A peer that hangs up one half of its socket only is left alone, and its end is noticed",
    arguments: [SHUT_RD, SHUT_WR])
  func halfClosed(_ half: Int) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    #expect(shutdown(far.socket, CInt(half)) == 0)
    let use = try await scene.loopUse(during: .milliseconds(100))
    #expect(use < 0.2, "\(use) of a processor")
    // Who cannot ring may have to wait with its message until it is gone.
    far.post([1])
    // What needs the socket finds out: the ports are closed, as if the peer had closed just before.
    let channel = try MessageChannel()
    try port.postMessage(bytes: [1], transfer: [channel.port2])
    far.hangUp()
    #expect(try await told.wait(for: 2) == [.message([1], ports: 0), .close("peer exited")])
    try await eventually("the other end's close") { channel.port1.isPeerClosed }
    try await scene.checkFriend()
  }

  @Test("A peer that shuts the socket down but lives on is closed, once, and what it writes later is not delivered")
  func shutDown() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    far.post([1])
    _ = csupport_socket_shutdown(far.socket)
    try await told.wait(for: 2)
    for _ in 0..<5 { far.post([2]) }
    try await Task.sleep(for: .milliseconds(50))
    #expect(told.all == [.message([1], ports: 0), .close("peer exited")])
    try await scene.checkFriend()
  }

  @Test("Ports in a message that was never completed close when its poster is gone", arguments: Style.allCases)
  func incompleteTransfer(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    var sockets: (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    let left = try RawEnd(memory, end: 0, owning: sockets.0)
    let forged = ForgedPort(left, near: sockets.1)
    far.post([1])
    far.send(words: [ForgedPort.header(1)] + forged.words, forged.fds)
    _ = csupport_close(sockets.1)
    // As one that is killed between the packet and the record.
    far.hangUp()
    #expect(try await told.wait(for: 2) == [.message([1], ports: 0), .close("peer exited")])
    try await eventually("the close of the port that was sent") { csupport_socket_is_hung_up(left.socket) == 1 }
    withExtendedLifetime(port) {}
    try await scene.checkFriend()
  }
}

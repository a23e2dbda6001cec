import CSupport
import Glibc
import MessagePorts
import SharedRing
import Synchronization
import TestSupport
import Testing

/// A peer whose packets are right in themselves, but come when they should not, or fail to come when they should.
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
    if hasRoom { far.post([8]) { #expect(far.send(words: packet, forged.fds) > 0) } } else { far.post([8]) }
    #expect(try await told.wait(for: 1) == [.message([8], ports: hasRoom ? 1 : 0)])
    _ = csupport_close(sockets.1)
    try await scene.checkFriend()
  }

  @Test(
    "Doorbells without end instead of the ports that were announced keep nobody from others, nor from hearing the end",
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
    far.signal()
    for _ in 0..<5 { try await scene.checkFriend() }
    #expect(told.count == 0)
    isOver.set()
    far.hangUp()
    #expect(try await told.wait(for: 1) == [.close("peer exited")])
    withExtendedLifetime(port) {}
  }

  @Test(
    "4.3 A peer that shuts down one half of its socket is gone, for posting and for close alike",
    arguments: [SHUT_RD, SHUT_WR], EventLoop.Driver.allCases)
  func halfClosed(_ half: Int, _ driver: EventLoop.Driver) async throws {
    let scene = try await Scene(driver: driver)
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    far.post([1])
    try await told.wait(for: 1)
    #expect(shutdown(far.socket, CInt(half)) == 0)
    if half == SHUT_RD {
      // The kernel says so only to whoever sends something.
      let channel = try MessageChannel()
      try port.postMessage(bytes: [1], transfer: [channel.port2])
      try await eventually("the close of what it carried") { channel.port1.isPeerClosed }
    }
    #expect(try await told.wait(for: 2) == [.message([1], ports: 0), .close("peer exited")])
    #expect(port.isPeerClosed)
    // What comes later is not looked at, and what is posted is discarded.
    far.put(word(.message, 1), [9])
    let channel = try MessageChannel()
    try port.postMessage(bytes: [2], transfer: [channel.port2])
    try await eventually("the close of what is discarded") { channel.port1.isPeerClosed }
    #expect(told.count == 2)
    let use = try await scene.loopUse(during: .milliseconds(100))
    #expect(use < 0.2, "\(use) of a processor")
    try await scene.checkFriend()
  }

  @Test("4.3 The same at a port that was split")
  func halfClosedHalves() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .reader, on: scene.loop)
    far.post([1])
    try await told.wait(for: 1)
    #expect(shutdown(far.socket, CInt(SHUT_WR)) == 0)
    #expect(try await told.wait(for: 2) == [.message([1], ports: 0), .close("peer exited")])
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

  @Test("9.1 However many packets a peer leaves behind, all that is in them closes, while the program keeps its end")
  func manyIncompleteTransfers() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    let ports = try (0..<40).map { _ in try HandMadePort() }
    for port in ports {
      // The first of them may end the channel, since no message announces it.
      let forged = port.forged()
      far.send(words: [ForgedPort.header(1)] + forged.words, forged.fds)
      port.letGo()
    }
    far.hangUp()
    try await told.wait(for: 1)
    try await eventually("the close of all") { ports.allSatisfy { csupport_socket_is_hung_up($0.far.socket) == 1 } }
    withExtendedLifetime(port) {}
    try await scene.checkFriend()
  }
}

import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// A peer that does more of something than it may.
@Suite("Hostile excess", .serialized, .timeLimit(.minutes(3)))
struct HostileLimitsTests {
  @Test(
    "2.3, 9.5 A record of one byte more than the limit ends the channel, with a port and without",
    arguments: [Style.handler, .blocking], [0, 1])
  func recordOverLimit(_ style: Style, _ ports: Int) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort(messageLimit: 100)
    let told = try listen(port, style, on: scene.loop)
    // What the limit just allows goes through.
    far.post([UInt8](repeating: 1, count: 100))
    try await told.wait(for: 1)
    let other = try HandMadePort()
    far.post([UInt8](repeating: 2, count: 101), ports: ports) {
      if ports > 0 { other.send(over: far) } else { other.letGo() }
    }
    let all = try await told.wait(for: 2)
    #expect(all[0] == .message([UInt8](repeating: 1, count: 100), ports: 0))
    #expect(all[1].isViolation, "\(all[1])")
    // The port that came with it is closed again.
    try await eventually("the hang-up of what came with it") { csupport_socket_is_hung_up(other.far.socket) == 1 }
    try await scene.checkFriend()
  }

  @Test(
    "9.5 Doorbells before a port that was announced do not hide it, however many there are",
    .enabled(if: canForceSendBuffer, "needs to have more in a socket than the system grants to all"),
    arguments: [Style.blocking, .reader])
  func doorbellsAreCounted(_ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    #expect(forceSendBuffer(of: far.socket))
    var sent = 0
    while sent < 20_000, far.send([1]) > 0 { sent += 1 }
    try #require(sent == 20_000)
    let told = try listen(port, style, on: scene.loop)
    let other = try HandMadePort()
    far.post([1]) { other.send(over: far) }
    #expect(try await told.wait(for: 1) == [.message([1], ports: 1)])
    try await scene.checkFriend()
  }

  @Test(
    "5.4 A peer that hangs up with a message unread, which nobody takes, costs the loop nothing",
    arguments: EventLoop.Driver.allCases)
  func unreadAtHangUp(_ driver: EventLoop.Driver) async throws {
    let scene = try await Scene(driver: driver)
    let (port, far) = try await scene.makePort()
    port.setEventLoop(scene.loop)
    // Watched for its end, and no taker.
    port.onClose = { _ in Issue.record("closed with a message unread") }
    far.post([1])
    far.hangUp()
    try await eventually("the hang-up to be heard") { port.isPeerClosed }
    let use = try await scene.loopUse()
    #expect(use < 0.3, "\(use) of a processor")
    port.onClose = nil
    #expect(try await onThread { try port.receiveSoon().bytes } == [1])
    try await scene.checkFriend()
  }
}

/// Lets a socket hold as much as a test needs: `SO_SNDBUFFORCE`.
private func forceSendBuffer(of socket: CInt) -> Bool {
  var byteCount: CInt = 64 << 20
  return unsafe setsockopt(socket, SOL_SOCKET, 32, &byteCount, socklen_t(MemoryLayout<CInt>.size)) == 0
}

private let canForceSendBuffer: Bool = {
  var sockets: (CInt, CInt) = (-1, -1)
  guard unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0 else { return false }
  let ends = Descriptors([sockets.0, sockets.1])
  return forceSendBuffer(of: ends.all[0])
}()

import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// A peer that does more of something than it may.
@Suite("Hostile excess", .serialized, .timeLimit(.minutes(3)))
struct HostileLimitsTests {
  @Test("2.3, 9.5 A record of one byte more than the limit ends the channel, with a port and without",
    arguments: [Style.handler, .blocking], [0, 1])
  func recordOverLimit(_ style: Style, _ ports: Int) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort(messageLimit: 100)
    let told = try listen(port, style, on: scene.loop)
    // What the limit just allows goes through.
    far.post([UInt8](repeating: 1, count: 100))
    try await told.wait(for: 1)
    let other = try HandMadePort()
    if ports > 0 { other.send(over: far) } else { other.letGo() }
    far.post([UInt8](repeating: 2, count: 101), ports: ports)
    let all = try await told.wait(for: 2)
    #expect(all[0] == .message([UInt8](repeating: 1, count: 100), ports: 0))
    #expect(all[1].isViolation, "\(all[1])")
    // The port that came with it is closed again.
    try await eventually("the hang-up of what came with it") { csupport_socket_is_hung_up(other.far.socket) == 1 }
    try await scene.checkFriend()
  }

  @Test("9.5 Doorbells instead of a port that was announced are counted: there is an end to it", arguments: Style.allCases)
  func doorbellsAreCounted(_ style: Style) async throws {
    // Whether the socket is ever found empty depends on how the threads run: then the port was just not sent.
    for _ in 0..<200 {
      let scene = try await Scene()
      let (port, far) = try await scene.makePort()
      let told = try listen(port, style, on: scene.loop)
      let isOver = Flag()
      defer { isOver.set() }
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
      usleepBriefly(5000)
      far.put(word(.message, 1, ports: 1), [1])
      far.ring()
      let all = try await told.wait(for: 1)
      try #require(all[0].isViolation, "\(all[0])")
      if all[0] == .close("protocol violation: doorbells without end") { return }
    }
    Issue.record("doorbells were never counted")
  }

  @Test("5.4 A peer that hangs up with a message unread, which nobody takes, costs the loop nothing",
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

import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

/// A peer that sends descriptors whose closing takes a minute: whoever shares a loop with it must not notice.
@Suite("Hostile descriptors", .serialized, .timeLimit(.minutes(3)))
struct HostileDescriptorsTests {
  /// Where the descriptor is put.
  enum Place: String, CaseIterable, Sendable, CustomStringConvertible {
    case socketOfPort, memoryOfPort, partialMessage, afterPorts, withDoorbell, unannounced, instead
    var description: String { rawValue }
  }

  @Test(
    "9.5 A descriptor whose closing takes a minute costs the loop nothing, wherever a peer puts it",
    arguments: Place.allCases, [Style.handler, .blocking])
  func slowToClose(_ place: Place, _ style: Style) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, style, on: scene.loop)
    let slow = LingeringSocket()
    let other = try HandMadePort()
    var forged = ForgedPort(other.far, near: copy(of: other.far.socket))
    defer { _ = csupport_close(forged.fds[0]) }
    var pair: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&pair.0, &pair.1) == 0)
    let ends = Descriptors([pair.0, pair.1])
    var fds = [ends.all[0], other.far.memory.fd]
    switch place {
    case .socketOfPort: fds[0] = slow.descriptor
    case .memoryOfPort: fds[1] = slow.descriptor
    case .partialMessage:
      forged.words[0] |= 0x100
      (forged.words[13], forged.words[14]) = (100, 50)
      fds.append(slow.descriptor)
    case .afterPorts: fds += [CInt](repeating: slow.descriptor, count: 20)
    case .withDoorbell, .instead, .unannounced: break
    }
    if place == .withDoorbell { far.send([1], [slow.descriptor]) }
    far.post([1]) {
      if place == .instead { far.send(words: [1, 2, 3], [slow.descriptor]) }
      far.send(words: [ForgedPort.header(1)] + forged.words, fds)
      if place == .unannounced { far.send(words: [1], [slow.descriptor]) }
    }
    slow.letGo()
    try await told.wait(for: 1)
    try await scene.checkFriend()
    // The peer goes, and what it has left in the socket is closed with this end.
    far.hangUp()
    try await scene.checkFriend()
    try await told.wait(for: 1)
    try await onThread { try patiently("the close") { _ in port.close() } }
    try await scene.checkFriend()
  }

  @Test("8.1 A hello that brings such a descriptor keeps no other client waiting", arguments: [0, 1, 2])
  func hello(_ kind: Int) async throws {
    let scene = try await Scene()
    let peer = try HandMadePeer(connectingTo: scene.listener.path)
    let slow = LingeringSocket()
    switch kind {
    case 0: peer.send(HandMadePeer.hello, [slow.descriptor])
    case 1: peer.send(HandMadePeer.hello, [peer.memory, slow.descriptor])
    default: peer.sendBytes([1], [slow.descriptor])
    }
    slow.letGo()
    _ = try await peer.readWords()
    try await scene.checkFriend()
    _ = try await Connection.connect(path: scene.listener.path, options: Scene.options)
  }
}

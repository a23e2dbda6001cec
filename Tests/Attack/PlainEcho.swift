import CSupport
import Glibc
import TestSupport

/// Asks over a plain socket pair, which has nothing to do with ports, and is answered by a thread: what a round trip takes
/// in this process at this moment.
///
/// Or, with each, passes a socket there and back, as the conversations do with ports: while processes of the same user have many
/// in flight, and cycles among them, the kernel lets nobody of that user send one before it has looked for the cycles.
final class PlainEcho: Sendable {
  let roundTrips = RoundTrips()
  private let isOver = Flag()
  private let asked: TestThread<Void>

  init(passingSockets: Bool) {
    var (asking, answering): (CInt, CInt) = (-1, -1)
    let result = unsafe csupport_socket_pair(&asking, &answering)
    precondition(result == 0, "no socket pair")
    startThread { [answering] in
      while let descriptor = Self.receive(on: answering) { Self.send(on: answering, descriptor) }
      _ = csupport_close(answering)
    }
    asked = TestThread { [roundTrips, isOver, asking] in
      var (cargo, other): (CInt, CInt) = (-1, -1)
      _ = unsafe csupport_socket_pair(&cargo, &other)
      while !isOver.isSet {
        let start = ContinuousClock.now
        Self.send(on: asking, passingSockets ? dup(cargo) : -1)
        guard let descriptor = Self.receive(on: asking) else { break }
        roundTrips.add(from: start, to: .now)
        if descriptor >= 0 { close(descriptor) }
        usleep(2000)
      }
      for descriptor in [cargo, other, asking] { _ = csupport_close(descriptor) }
    }
  }

  /// Sends a byte, and a descriptor, which is closed then; -1: none.
  private static func send(on socket: CInt, _ descriptor: CInt) {
    var (byte, descriptor): (UInt8, CInt) = (0, descriptor)
    while true {
      let result = unsafe csupport_send_packet(socket, &byte, 1, &descriptor, descriptor < 0 ? 0 : 1)
      // So many are in flight that the kernel takes no more: for whoever has no privileges.
      if result == -Int(ETOOMANYREFS) { usleep(1000) } else { break }
    }
    if descriptor >= 0 { close(descriptor) }
  }

  /// The descriptor that came with a byte, or -1; `nil`: the other end is gone.
  private static func receive(on socket: CInt) -> CInt? {
    var (byte, descriptor): (UInt8, CInt) = (0, -1)
    var received = csupport_received()
    while true {
      while csupport_wait_readable(socket, -1) != 1 { continue }
      switch unsafe csupport_receive_packet(socket, &byte, 1, &descriptor, 1, &received) {
      case 1: return received.fd_count == 1 ? descriptor : -1
      case -EAGAIN: continue
      default: return nil
      }
    }
  }

  func end() throws {
    isOver.set()
    try asked.join()
  }
}

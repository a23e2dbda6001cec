import CSupport
import Glibc
import SharedRing

/// One end of a channel that lies in shared memory: the memory, and this end's socket.
///
/// The socket carries ports, and nothing else in the steady state; that it hangs up is the kernel's own word that no one
/// holds the other end any more.
///
/// Thread safety: any thread may ring and hang up. Packets are sent under the lock of the lane on which this end posts,
/// and received under the lock of the one on which it receives.
final class SharedChannel: Sendable {
  let memory: ChannelMemory
  /// Owned.
  let socket: CInt

  init(memory: ChannelMemory, owningSocket socket: CInt) {
    self.memory = memory
    self.socket = socket
  }

  deinit { _ = csupport_close(socket) }

  /// Makes the memory and the two ends of a new channel.
  static func makePair(options: ChannelOptions) throws(SystemError) -> (SharedChannel, SharedChannel) {
    let memory = try ChannelMemory.make(
      laneCapacity: options.laneCapacityBytes, backing: options.backing ?? Environment.backing)
    var sockets: (CInt, CInt) = (-1, -1)
    try checkOnce("socketpair", unsafe csupport_socket_pair(&sockets.0, &sockets.1))
    return (
      SharedChannel(memory: memory, owningSocket: sockets.0), SharedChannel(memory: memory, owningSocket: sockets.1)
    )
  }

  /// Tells the other end that this one is gone, whoever else still holds the descriptor (an event loop's poll, say).
  func hangUp() { _ = csupport_socket_shutdown(socket) }

  /// Whether the other end is gone. One system call.
  var isHungUp: Bool { csupport_socket_is_hung_up(socket) == 1 }

  /// Wakes an end that sleeps on its socket.
  ///
  /// If the packet does not fit because the queue is full, the socket is readable already, and that wakes as well.
  func ring() {
    var byte = TransferPacket.doorbell
    _ = unsafe csupport_send_packet(socket, &byte, 1, nil, 0)
  }

  /// More than a correct peer sends in a row: it rings once for each time that this end said it would sleep.
  static let doorbellsInARow = 1 << 14

  /// Takes doorbell packets off the front of the socket, so that they do not pile up. Ports behind them stay, and so does
  /// what exceeds any reason.
  func drainDoorbells() {
    var received = csupport_received()
    var bytes: (UInt8, UInt8) = (0, 0)
    for _ in 0..<1024 {
      guard unsafe csupport_peek_packet(socket, &bytes, 2, &received) == 1, received.byte_count == 1 else { return }
      // Nobody else takes packets meanwhile: the caller holds the receiving lane's lock.
      guard unsafe csupport_receive_packet(socket, &bytes, 2, nil, 0, &received) == 1 else { return }
    }
  }

  /// Takes what is left off the socket of an end that has received everything: ports that a process sent before it was
  /// killed, in a message that it did not complete. They close here and now, and not when the program lets go of this
  /// end.
  func discardPackets() {
    var byte: UInt8 = 0
    var received = csupport_received()
    var wasReset = false
    while true {
      var fds = ReceivedDescriptors(capacity: Int(CSUPPORT_MAX_PACKET_FDS))
      let result = unsafe fds.withStorage { storage in
        unsafe csupport_receive_packet(socket, &byte, 1, storage.baseAddress, storage.count, &received)
      }
      switch result {
      case 1: fds.arrived(Int(received.fd_count))
      case -EINTR: continue
      // The peer closed with packets of ours unread; its own are still there, behind this one report.
      case -ECONNRESET where !wasReset: wasReset = true
      default: return
      }
    }
  }
}

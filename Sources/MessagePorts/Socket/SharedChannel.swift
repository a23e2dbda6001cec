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
  let socket: PacketSocket

  convenience init(memory: ChannelMemory, owningSocket descriptor: CInt) {
    self.init(memory: memory, socket: PacketSocket(owning: descriptor))
  }

  init(memory: ChannelMemory, socket: consuming PacketSocket) {
    self.memory = memory
    self.socket = socket
  }

  /// The socket's descriptor, for those who watch it or send it away. It stays this end's.
  var descriptor: CInt { socket.descriptor }

  /// Makes the memory and the two ends of a new channel.
  static func makePair(options: ChannelOptions) throws(SystemError) -> (SharedChannel, SharedChannel) {
    let memory = try ChannelMemory.make(
      laneCapacity: options.laneCapacityBytes, backing: options.backing ?? Environment.backing)
    return try PacketSocket.makePair { SharedChannel(memory: memory, socket: $0) }
  }

  /// Tells the other end that this one is gone, whoever else still holds the descriptor (an event loop's poll, say).
  func hangUp() { socket.hangUp() }

  /// Whether the other end is gone. One system call.
  var isHungUp: Bool { socket.isHungUp }

  /// Wakes an end that sleeps on its socket.
  ///
  /// If the packet does not fit because the queue is full, the socket is readable already, and that wakes as well.
  func ring() {
    var byte = TransferPacket.doorbell
    _ = unsafe withUnsafeBytes(of: &byte) { unsafe socket.send($0, []) }
  }

  /// More than a correct peer sends in a row: it rings once for each time that this end said it would sleep.
  static let doorbellsInARow = 1 << 14

  /// Takes doorbell packets off the front of the socket, so that they do not pile up. Ports behind them stay, and so does
  /// what exceeds any reason.
  func drainDoorbells() {
    var none = ReceivedDescriptors(capacity: 0)
    var bytes: (UInt8, UInt8) = (0, 0)
    // Nobody else takes packets meanwhile: the caller holds the receiving lane's lock.
    unsafe withUnsafeMutableBytes(of: &bytes) { bytes in
      for _ in 0..<1024 {
        guard unsafe socket.nextByteCount(bytes) == 1, case .packet = unsafe socket.receive(into: bytes, &none) else {
          return
        }
      }
    }
  }

  /// Takes what is left off the socket of an end that has received everything: ports that a process sent before it was
  /// killed, in a message that it did not complete. They close here and now, and not when the program lets go of this
  /// end.
  func discardPackets() {
    var byte: UInt8 = 0
    unsafe withUnsafeMutableBytes(of: &byte) { byte in
      while true {
        var fds = ReceivedDescriptors(capacity: Int(CSUPPORT_MAX_PACKET_FDS))
        guard case .packet = unsafe socket.receive(into: byte, &fds) else { return }
      }
    }
  }
}

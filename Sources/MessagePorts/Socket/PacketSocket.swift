import CSupport
import Glibc
import SharedRing

/// One end of a connected pair of Unix SOCK_SEQPACKET sockets, closed when this goes away.
///
/// What an interruption and a reset mean is decided here, once. Nothing blocks.
///
/// Thread safety: any thread may use any member. Who takes packets in which order is the callers' business.
struct PacketSocket: ~Copyable, Sendable {
  let descriptor: CInt

  /// A socket that this process has made, accepted or connected.
  init(owning descriptor: CInt) { self.descriptor = descriptor }

  /// Takes over what a peer sent, if it is such a socket; else it is closed. Does not block.
  init?(inspecting descriptor: CInt) {
    guard csupport_socket_is_seqpacket(descriptor) == 1 else {
      csupport_close_elsewhere(descriptor)
      return nil
    }
    self.descriptor = descriptor
  }

  deinit { csupport_socket_close(descriptor) }

  /// Two connected ends, each for `wrap` to take.
  static func makePair<End>(_ wrap: (consuming PacketSocket) -> End) throws(SystemError) -> (End, End) {
    var sockets: (CInt, CInt) = (-1, -1)
    try checkOnce("socketpair", unsafe csupport_socket_pair(&sockets.0, &sockets.1))
    return (wrap(PacketSocket(owning: sockets.0)), wrap(PacketSocket(owning: sockets.1)))
  }

  /// Tells the other end that this one is gone, whoever else still holds the descriptor (an event loop's poll, say).
  func hangUp() { _ = csupport_socket_shutdown(descriptor) }

  /// Whether the other end is gone. One system call.
  var isHungUp: Bool { csupport_socket_is_hung_up(descriptor) == 1 }

  /// Lets more packets wait, as far as the system allows.
  func raiseSendBuffer(to byteCount: CInt) { _ = csupport_socket_set_send_buffer(descriptor, byteCount) }

  /// Whether a server may be at the other end, which would take our packets for requests of this process, with all that
  /// it may do.
  var mayReachServer: Bool { csupport_socket_may_reach_server(descriptor) != 0 }

  // MARK: Sending

  enum Sending {
    case sent
    /// The kernel queues no more: of this socket's packets, or of descriptors in flight.
    case full(CInt)
    /// Nobody can receive it any more.
    case gone
    case failed(SystemError)
  }

  /// Sends one packet: all of it with all descriptors, or nothing. They stay the caller's.
  @unsafe func send(_ bytes: UnsafeRawBufferPointer, _ descriptors: [CInt]) -> Sending {
    while true {
      let result = unsafe descriptors.withUnsafeBufferPointer { fds in
        unsafe csupport_send_packet(descriptor, bytes.baseAddress, bytes.count, fds.baseAddress, fds.count)
      }
      switch CInt(clamping: -result) {
      case ...0: return .sent
      case EINTR: continue
      case EPIPE, ECONNRESET, ENOTCONN: return .gone
      case let errno where errno == EAGAIN || errno == ETOOMANYREFS || errno == ENOBUFS: return .full(errno)
      case let errno: return .failed(SystemError(call: "sendmsg", errno: errno))
      }
    }
  }

  // MARK: Receiving

  struct Packet {
    /// As far as it fitted.
    let byteCount: Int
    let isTruncated: Bool
    /// Some did not arrive: this process is out of them, or made no room for so many.
    let lacksDescriptors: Bool
  }

  enum Receipt {
    case packet(Packet)
    case nothing
    /// There is nothing left, and nobody to send more.
    case ended
    /// The system lacks what it takes to hand the packet over; it is still there.
    case short(SystemError)
  }

  /// Takes one packet; its descriptors are in `fds`, which held none before.
  @unsafe func receive(into bytes: UnsafeMutableRawBufferPointer, _ fds: inout ReceivedDescriptors) -> Receipt {
    unsafe receive(into: bytes, &fds, csupport_receive_packet)
  }

  /// The same, and the packet stays where it is: what is in `fds` are copies.
  @unsafe func copy(into bytes: UnsafeMutableRawBufferPointer, _ fds: inout ReceivedDescriptors) -> Receipt {
    unsafe receive(into: bytes, &fds, csupport_copy_packet)
  }

  /// Takes away a packet that was copied.
  func drop() { while csupport_drop_packet(descriptor) == -EINTR {} }

  private typealias ReceiveCall = (
    CInt, UnsafeMutableRawPointer?, Int, UnsafeMutablePointer<CInt>?, Int, UnsafeMutablePointer<csupport_received>?
  ) -> CInt

  @unsafe private func receive(
    into bytes: UnsafeMutableRawBufferPointer, _ fds: inout ReceivedDescriptors, _ call: ReceiveCall
  ) -> Receipt {
    var received = csupport_received()
    var wasReset = false
    while true {
      let result = unsafe fds.withStorage { storage in
        unsafe call(descriptor, bytes.baseAddress, bytes.count, storage.baseAddress, storage.count, &received)
      }
      switch -result {
      case -1:
        fds.arrived(Int(received.fd_count))
        return .packet(
          Packet(
            byteCount: received.byte_count, isTruncated: received.bytes_truncated,
            lacksDescriptors: received.fds_truncated))
      case EINTR: continue
      case EAGAIN: return .nothing
      case ENOMEM, ENOBUFS, ENFILE, EMFILE: return .short(SystemError(call: "recvmsg", errno: -result))
      // The peer closed with packets of ours unread; its own are still there, behind this one report.
      case ECONNRESET where !wasReset: wasReset = true
      default: return .ended
      }
    }
  }

  enum Glance {
    /// How long the next packet is, as far as it fits, and whether descriptors seem to be in it.
    case packet(byteCount: Int, hasDescriptors: Bool)
    case nothing
    /// The system lacks what it takes to look.
    case short(SystemError)
  }

  /// Looks at the next packet, which stays.
  @unsafe func glance(_ bytes: UnsafeMutableRawBufferPointer) -> Glance {
    var received = csupport_received()
    while true {
      let result = unsafe csupport_peek_packet(descriptor, bytes.baseAddress, bytes.count, &received)
      switch -result {
      case -1: return .packet(byteCount: received.byte_count, hasDescriptors: received.fds_truncated)
      // A packet of nothing looks like the end, and must not hide what lies behind it.
      case 0: return isHungUp ? .nothing : .packet(byteCount: 0, hasDescriptors: false)
      case EINTR: continue
      case ENOMEM, ENOBUFS: return .short(SystemError(call: "recvmsg", errno: -result))
      default: return .nothing
      }
    }
  }
}

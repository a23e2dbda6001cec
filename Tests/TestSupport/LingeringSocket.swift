import CSupport
import Glibc

/// A descriptor whose last `close` blocks for a minute: a socket that lingers over what nobody will ever read.
public final class LingeringSocket: Sendable {
  /// Close it, or send it away and call ``letGo()``.
  public let descriptor: CInt
  private let reader: CInt

  public init() {
    let stream = CInt(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue)
    let listening = Glibc.socket(AF_INET, stream, 0)
    // As little as there can be of both buffers.
    var small: CInt = 1
    let size = socklen_t(MemoryLayout<CInt>.size)
    unsafe setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &small, size)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = Glibc.socket(AF_INET, stream, 0)
    self.descriptor = descriptor
    unsafe setsockopt(descriptor, SOL_SOCKET, SO_SNDBUF, &small, size)
    let isConnected = unsafe withUnsafeMutableBytes(of: &address) { bytes in
      let address = unsafe bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self)
      guard unsafe bind(listening, address, length) == 0, listen(listening, 1) == 0 else { return false }
      guard unsafe getsockname(listening, address, &length) == 0 else { return false }
      return unsafe connect(descriptor, address, length) == 0
    }
    precondition(isConnected, "no loopback")
    reader = accept(listening, nil, nil)
    precondition(reader >= 0)
    close(listening)
    let bytes = [UInt8](repeating: 0, count: 1 << 16)
    while unsafe send(descriptor, bytes, bytes.count, CInt(MSG_DONTWAIT)) > 0 {}
    var minute = linger(l_onoff: 1, l_linger: 60)
    unsafe setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &minute, socklen_t(MemoryLayout<linger>.size))
    // No process that is started meanwhile may have the last copy.
    _ = csupport_adopt(descriptor)
  }

  deinit { close(reader) }

  /// Closes this process's own number for it, while somebody else, or a packet, still holds it. As the library does:
  /// whoever that is may have closed it already, and then this is what takes a minute.
  public func letGo() { csupport_close_elsewhere(descriptor) }
}

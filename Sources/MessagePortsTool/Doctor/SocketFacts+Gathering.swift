import CSupport
import Glibc

extension SocketFacts {
  static func gather(_ files: KernelFiles) -> SocketFacts {
    var facts = SocketFacts(
      pair: .works, defaultSendBufferBytes: files.setting("net.core.wmem_default"),
      largestSendBufferBytes: files.setting("net.core.wmem_max"),
      datagramQueueLength: files.setting("net.unix.max_dgram_qlen"))
    var first: CInt = -1
    var second: CInt = -1
    facts.pair = Outcome(result: unsafe csupport_socket_pair(&first, &second))
    guard facts.pair.worked else { return facts }
    defer { for fd in [first, second] { _ = csupport_close(fd) } }

    // As a port does when it finds its socket full.
    let wantedBytes: CInt = 32 << 20
    _ = csupport_socket_set_send_buffer(first, wantedBytes)
    var bytes: CInt = 0
    var length = socklen_t(MemoryLayout<CInt>.size)
    if unsafe getsockopt(first, SOL_SOCKET, SO_SNDBUF, &bytes, &length) == 0 {
      facts.raisedSendBufferBytes = UInt64(clamping: bytes)
    }
    return facts
  }
}

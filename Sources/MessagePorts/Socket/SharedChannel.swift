import CSupport
import Glibc
import SharedRing
import Synchronization

/// One end of a channel that lies in shared memory: the memory, and this end's socket.
///
/// The socket carries ports, and nothing else in the steady state; that it hangs up is the kernel's own word that no
/// one holds the other end any more.
///
/// Thread safety: any thread may signal and hang up. Packets are sent under the lock of the lane on which this end
/// posts, and received under the lock of the one on which it receives.
final class SharedChannel: Sendable {
  let memory: ChannelMemory
  let socket: PacketSocket
  /// A doorbell's packet was refused, and will be tried again. Relaxed: whoever signals meanwhile may leave it to that.
  private let owesSignal = Atomic<Bool>(false)
  /// Descriptors have come that were of no use, and had to be closed: no more are let in while closing is behind. So it is with
  /// a channel that comes while it is.
  let waste = WasteMark()
  /// For as many there was no number when they were last tried to be had. Under the lock of the lane on which this end
  /// receives: relaxed.
  let lacking = Atomic<Int>(0)
  /// A doorbell was taken off the socket, or is about to be. Relaxed: see `Greeting`.
  let hasTakenPacket = Atomic<Bool>(false)

  convenience init(memory: ChannelMemory, owningSocket descriptor: CInt) {
    self.init(memory: memory, socket: PacketSocket(owning: descriptor))
  }

  init(memory: ChannelMemory, socket: consuming PacketSocket) {
    self.memory = memory
    self.socket = socket
  }

  /// The socket's descriptor, for those who watch it or send it away. It stays this end's.
  var descriptor: CInt { socket.descriptor }

  /// Makes the memory of a new channel, as its options want it.
  static func makeMemory(_ options: ChannelOptions) throws(MemoryError) -> ChannelMemory {
    try ChannelMemory.make(
      laneCapacity: options.laneCapacityBytes, backing: options.backing ?? Environment.backing,
      residency: options.residency)
  }

  /// Makes the memory and the two ends of a new channel.
  static func makePair(options: ChannelOptions) throws(MemoryError) -> (SharedChannel, SharedChannel) {
    let memory = try makeMemory(options)
    do throws(SystemError) {
      return try PacketSocket.makePair { SharedChannel(memory: memory, socket: $0) }
    } catch {
      throw .system(error)
    }
  }

  /// The same for a process that is being started: of its end, the descriptor alone.
  ///
  /// Nobody else has a copy, and nothing is ever in it but our own packets. Whoever closes this process's copy does it at
  /// once, and does not leave it to threads that may be held up: as long as it is open here, nobody hears the other
  /// process close its own.
  static func makeForNewborn(options: ChannelOptions) throws(MemoryError) -> (SharedChannel, theirs: CInt) {
    let memory = try makeMemory(options)
    var (ours, theirs): (CInt, CInt) = (-1, -1)
    let result = unsafe csupport_socket_pair(&ours, &theirs)
    if result < 0 { throw .system(SystemError(call: "socketpair", errno: -result)) }
    return (SharedChannel(memory: memory, owningSocket: ours), theirs)
  }

  /// Tells the other end that this one is gone, whoever else still holds the descriptor (an event loop's poll, say).
  ///
  /// An end that has shut down half of its socket is hung up on as soon as that is noticed: then it is gone for whoever
  /// posts, receives, watches or asks, all at once.
  func hangUp() { socket.hangUp() }

  /// Whether the other end is gone. One system call.
  var isHungUp: Bool { socket.isHungUp }

  /// Wakes an end that sleeps on its socket.
  ///
  /// What the kernel refuses, because the end has packets unread or memory lacks, is still owed, and paid later: whoever has
  /// to signal may never come again.
  func signal() { signal(retryingAfter: Self.firstRetryNanoseconds) }

  private func signal(retryingAfter nanoseconds: UInt64) {
    guard !tryToSignal(), !owesSignal.exchange(true, ordering: .relaxed) else { return }
    // On a loop that every process has: this end's own may have been stopped. Does not keep the channel.
    EventLoop.default.after(nanoseconds: nanoseconds) { [weak self] in
      // Before the attempt: whoever is refused after it does not rely on it.
      self?.owesSignal.store(false, ordering: .relaxed)
      self?.signal(retryingAfter: min(nanoseconds * 2, Self.lastRetryNanoseconds))
    }
  }

  /// `false`: the kernel refused to take the packet. One that nobody can receive is as good as sent.
  private func tryToSignal() -> Bool {
    var byte = TransferPacket.doorbell
    switch unsafe withUnsafeBytes(of: &byte, { unsafe socket.send($0, []) }) {
    case .full: return false
    case .gone: hangUp()
    case .sent, .failed: break
    }
    return true
  }

  private static let firstRetryNanoseconds: UInt64 = 2_000_000
  private static let lastRetryNanoseconds: UInt64 = 256_000_000

  /// What lies on the socket.
  enum Front {
    case nothing
    /// A packet that is no doorbell.
    case packet
    /// Doorbells were taken off in such number that others have their turn first; there may be more.
    case doorbells
    /// The system lacks what it takes to look. `nil`: too many descriptors wait to be closed, for a packet to bring more.
    case short(SystemError?)
  }

  /// Takes doorbells off the socket, so that they do not pile up, and says what there is behind them, which stays.
  ///
  /// Under the receiving lane's lock, so that nobody else takes packets meanwhile. Two system calls for each doorbell, and
  /// one.
  func front() -> Front {
    var none = ReceivedDescriptors(capacity: 0)
    var bytes: (UInt8, UInt8) = (0, 0)
    return unsafe withUnsafeMutableBytes(of: &bytes) { bytes in
      for _ in 0..<64 {
        switch unsafe socket.glance(bytes) {
        case .nothing: return .nothing
        case .short(let error): return .short(error)
        // They take longer than the doorbell itself, which has no business to bring any.
        case .packet(byteCount: 1, hasDescriptors: true):
          if csupport_closing_is_behind(true) { return .short(nil) }
        case .packet(byteCount: 1, hasDescriptors: false): break
        case .packet: return .packet
        }
        hasTakenPacket.store(true, ordering: .relaxed)
        switch unsafe socket.receive(into: bytes, &none) {
        case .short(let error): return .short(error)
        case .packet(let packet) where packet.lacksDescriptors: return .doorbells
        case .packet, .nothing, .ended: break
        }
      }
      return .doorbells
    }
  }

  /// Takes what is left off the socket of an end that has received everything: ports that a process sent before it was
  /// killed, in a message that it did not complete. They close now, and not when the program lets go of this end.
  ///
  /// A few of them here; how many there are was up to the peer, so the rest are taken elsewhere.
  func discardPackets() {
    var byte: UInt8 = 0
    let isEmpty = unsafe withUnsafeMutableBytes(of: &byte) { byte in
      for _ in 0..<4 {
        var fds = ReceivedDescriptors(capacity: Int(CSUPPORT_MAX_PACKET_FDS))
        guard case .packet = unsafe socket.receive(into: byte, &fds) else { return true }
      }
      return false
    }
    if !isEmpty { _ = csupport_socket_drain_elsewhere(descriptor) }
  }
}

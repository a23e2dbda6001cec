import CSupport
import Glibc
import SharedRing

/// The first packet in each direction of a connection's socket, before that becomes a channel's.
///
///     hello    magic 8 B, version 4 B, flags 4 B, queue limit 8 B, message limit 8 B; with the memory's descriptor
///     welcome  magic 8 B, version 4 B, verdict 4 B
///
/// Whoever connects, or spawns, says hello and is end 0. The welcome is left out between a process and its child.
enum Handshake {
  /// Has to be the same on both sides: it stands for the packets, the records, and the memory's layout.
  static var version: UInt32 { RingLayout.version }

  private static let helloMagic: UInt64 = 0x4f4c_4c45_4850_4d01
  private static let welcomeMagic: UInt64 = 0x4d4f_434c_4557_4d01

  enum Verdict: UInt32 {
    case welcome = 0
    case versionDiffers = 1
    case notPermitted = 2
    case malformed = 3
  }

  // MARK: Hello

  /// Sends the hello. The packet is the first on its socket, so it fits.
  static func sayHello(_ channel: SharedChannel, _ options: ChannelOptions) throws(SystemError) {
    let words: [UInt64] = [
      helloMagic, UInt64(version), options.queueLimitBytes.map(UInt64.init) ?? .max, UInt64(options.messageLimitBytes),
    ]
    var fd = channel.memory.fd
    let result = unsafe words.withUnsafeBytes { bytes in
      unsafe csupport_send_packet(channel.descriptor, bytes.baseAddress, bytes.count, &fd, 1)
    }
    if result < 0 { throw SystemError(call: "sendmsg", errno: CInt(-result)) }
  }

  enum Hello {
    /// None has come yet.
    case pending
    /// The other side is gone.
    case gone
    /// The system lacks what it takes to see it: look again in a moment.
    case short(SystemError)
    case refused(Verdict, theirVersion: UInt32)
    case accepted(ChannelMemory, ChannelOptions)
  }

  /// Reads a hello, if one has come, and checks all of it. Does not block, whatever came with it.
  static func readHello(_ socket: borrowing PacketSocket, _ options: ChannelOptions) -> Hello {
    var words: [UInt64] = [0, 0, 0, 0]
    var fds = ReceivedDescriptors(capacity: 1)
    let byteCount: Int
    switch receive(socket, &words, &fds) {
    case .none: return .pending
    case .end: return .gone
    case .short(let error): return .short(error)
    case .packet(let count, let lacksDescriptors):
      // Without room for a descriptor here, what the other side said cannot be judged. Hung up on, it tries again.
      if lacksDescriptors && fds.isEmpty { return .gone }
      byteCount = count
    }
    guard byteCount >= 16, words[0] == helloMagic else { return .refused(.malformed, theirVersion: 0) }
    let theirs = UInt32(truncatingIfNeeded: words[1])
    guard theirs == version else { return .refused(.versionDiffers, theirVersion: theirs) }
    guard byteCount == 32, words[2] == .max || words[2] <= UInt64(Int.max),
      words[3] <= UInt64(ChannelOptions.largestMessageLimit), let fd = fds.take()
    else { return .refused(.malformed, theirVersion: theirs) }
    do throws(AttachError) {
      let memory = try ChannelMemory.attach(owning: fd, trustingUnsealed: options.acceptsUnsealedMemory)
      var agreed = options
      // The other side may ask for less than this one allows, and never for more.
      if words[2] != .max { agreed.queueLimitBytes = min(options.queueLimitBytes ?? .max, Int(words[2])) }
      agreed.messageLimitBytes = min(options.messageLimitBytes, Int(words[3]))
      return .accepted(memory, agreed)
    } catch {
      if case .versionDiffers(let theirs) = error { return .refused(.versionDiffers, theirVersion: theirs) }
      // What the hello brought is lost. Hung up on, the other side tries again.
      return error.isViolation ? .refused(.malformed, theirVersion: theirs) : .gone
    }
  }

  // MARK: Welcome

  static func sayWelcome(_ socket: borrowing PacketSocket, _ verdict: Verdict) {
    let words: [UInt64] = [welcomeMagic, UInt64(version) | UInt64(verdict.rawValue) << 32]
    _ = unsafe words.withUnsafeBytes { unsafe socket.send($0, []) }
  }

  enum Welcome {
    case pending
    case gone
    /// As of a hello.
    case short(SystemError)
    case verdict(Verdict, theirVersion: UInt32)
  }

  static func readWelcome(_ socket: borrowing PacketSocket) -> Welcome {
    var words: [UInt64] = [0, 0]
    var fds = ReceivedDescriptors(capacity: 0)
    switch receive(socket, &words, &fds) {
    case .none: return .pending
    case .end: return .gone
    case .short(let error): return .short(error)
    case .packet(let byteCount, _):
      guard byteCount == 16, words[0] == welcomeMagic else { return .verdict(.malformed, theirVersion: 0) }
      let verdict = Verdict(rawValue: UInt32(truncatingIfNeeded: words[1] >> 32)) ?? .malformed
      return .verdict(verdict, theirVersion: UInt32(truncatingIfNeeded: words[1]))
    }
  }

  // MARK: Packets

  private enum Packet {
    case none
    case end
    case short(SystemError)
    /// - Parameter byteCount: 0 if it is longer than anything that is expected.
    case packet(byteCount: Int, lacksDescriptors: Bool)
  }

  private static func receive(
    _ socket: borrowing PacketSocket, _ words: inout [UInt64], _ fds: inout ReceivedDescriptors
  ) -> Packet {
    switch unsafe words.withUnsafeMutableBytes({ bytes in unsafe socket.receive(into: bytes, &fds) }) {
    case .packet(let packet):
      return .packet(byteCount: packet.isTruncated ? 0 : packet.byteCount, lacksDescriptors: packet.lacksDescriptors)
    case .nothing: return .none
    case .ended: return .end
    case .short(let error): return .short(error)
    }
  }
}

import CSupport
import Glibc
import SharedRing

extension SharedChannel {
  /// Sends the ends of shared channels through this channel's socket, in one packet: all or none.
  ///
  /// - Returns: `false` if nobody can receive them any more.
  func send(_ cores: [PortCore]) throws(PortError) -> Bool {
    var packet = OutgoingPacket()
    for core in cores { try core.describe(in: &packet) }
    crashPoint(.transferDescribed)
    guard packet.descriptors.count <= CSUPPORT_MAX_PACKET_FDS else {
      throw .tooManyPorts(count: cores.count, limit: CSUPPORT_MAX_PACKET_FDS / 3)
    }
    var outcome = send(packet)
    if case .full(EAGAIN) = outcome {
      // The default buffer holds a few hundred ports; ask for as much as the system allows, once it is needed.
      socket.raiseSendBuffer(to: Self.raisedSendBufferBytes)
      outcome = send(packet)
    }
    switch outcome {
    case .sent: return true
    case .gone: return false
    case .full(let errno): throw .transferQueueFull(SystemError(call: "sendmsg", errno: errno))
    case .failed(let error): throw .system(error)
    }
  }

  private static var raisedSendBufferBytes: CInt { 32 << 20 }

  private func send(_ packet: borrowing OutgoingPacket) -> PacketSocket.Sending {
    unsafe packet.bytes.withUnsafeBytes { unsafe socket.send($0, packet.descriptors) }
  }
}

/// A transfer packet being put together. It borrows the ports' descriptors, and owns those of partial messages.
private struct OutgoingPacket: ~Copyable {
  private var words: [UInt64] = []
  private(set) var descriptors: [CInt] = []
  /// Those of partial messages: closed with the packet, which the kernel has copied by then.
  private var owned: [CInt] = []
  private var count: UInt32 = 0

  deinit { for fd in owned { _ = csupport_close(fd) } }

  var bytes: [UInt64] { [UInt64(TransferPacket.magic) | UInt64(count) << 32] + words }

  mutating func add(_ port: TravellingPort, channel: SharedChannel, partial: CInt?) {
    count += 1
    words += port.words
    descriptors += [channel.descriptor, channel.memory.fd]
    if let partial {
      descriptors.append(partial)
      owned.append(partial)
    }
  }
}

extension PortCore {
  /// Adds this end, whose channel is shared and which nobody uses meanwhile, to a packet.
  fileprivate func describe(in packet: inout OutgoingPacket) throws(PortError) {
    let out = outgoing.state.withLock { lane in lane.sending.producer.lanePosition }
    let (position, isPeerViolator, channel, partial) = incoming.state.withLock { lane in
      lane.receiving.release()
      // The announcement was ours; threads that sleep on it find out what became of the port.
      lane.receiving.wakeThreads(of: self)
      return (
        lane.receiving.records.consumer.lanePosition, !lane.receiving.records.consumer.isAttached,
        lane.receiving.transport.channel, lane.receiving.records.partial
      )
    }
    guard let channel else { throw .closed }
    var partialFile: CInt?
    if let partial {
      do throws(SystemError) {
        partialFile = try PartialFile.make(partial.bytes, filled: partial.filled)
      } catch {
        throw .system(error)
      }
      crashPoint(.partMade)
    }
    packet.add(
      TravellingPort(
        end: end, queueLimitBytes: options.queueLimitBytes, messageLimitBytes: options.messageLimitBytes, outgoing: out,
        incoming: position, partial: partial.map { (byteCount: $0.bytes.byteCount, filled: $0.filled) },
        isPeerViolator: isPeerViolator),
      channel: channel, partial: partialFile)
  }
}

import CSupport
import Glibc
import SharedRing

extension SharedChannel {
  /// Sends a packet: all of it or nothing. Under the lock of the lane whose record has announced it.
  ///
  /// - Returns: `false` if nobody can receive it any more.
  func send(_ packet: borrowing OutgoingPacket) throws(PortError) -> Bool {
    var outcome = sendOnce(packet)
    if case .full(EAGAIN) = outcome {
      // The default buffer holds a few hundred ports; ask for as much as the system allows, once it is needed.
      socket.raiseSendBuffer(to: Self.raisedSendBufferBytes)
      outcome = sendOnce(packet)
    }
    switch outcome {
    case .sent: return true
    case .gone:
      hangUp()
      return false
    case .full(let errno): throw .transferQueueFull(SystemError(call: "sendmsg", errno: errno))
    case .failed(let error): throw .system(error)
    }
  }

  private static var raisedSendBufferBytes: CInt { 32 << 20 }

  private func sendOnce(_ packet: borrowing OutgoingPacket) -> PacketSocket.Sending {
    unsafe packet.bytes.withUnsafeBytes { unsafe socket.send($0, packet.descriptors) }
  }
}

/// What announces itself by a record, and follows it through the socket: the ends of shared channels, and freight. It
/// borrows all of that.
struct OutgoingPacket: ~Copyable {
  private var words: [UInt64] = []
  private(set) var descriptors: [CInt] = []
  private var parts: [(bytes: OwnedBytes, filled: Int)] = []
  /// Closed with the packet, which the kernel has copied by then.
  private var partialFile: PartialFile?
  private(set) var cargo: CargoCount
  private let bufferCount: Int

  /// Describes the ends of shared channels, and takes freight along. Nobody uses either meanwhile.
  init(of cores: [PortCore], _ freight: Freight) throws(PortError) {
    cargo = CargoCount(ports: 0, descriptors: freight.count)
    bufferCount = freight.buffers.count
    for core in cores { try core.describe(in: &self) }
    if !parts.isEmpty {
      do throws(SystemError) {
        let file = try PartialFile.make(parts)
        descriptors.insert(file.descriptor, at: 0)
        partialFile = file
      } catch {
        throw .system(error)
      }
      crashPoint(.partMade)
    }
    descriptors += freight.numbers
    crashPoint(.transferDescribed)
  }

  var bytes: [UInt64] { [TransferPacket.firstWord(cargo, buffers: bufferCount)] + words }

  fileprivate mutating func add(_ port: TravellingPort, channel: SharedChannel, part: (bytes: OwnedBytes, filled: Int)?)
  {
    cargo.ports += 1
    words += port.words
    descriptors += [channel.descriptor, channel.memory.fd]
    if let part { parts.append(part) }
  }
}

extension PortCore {
  /// Adds this end, whose channel is shared and which nobody uses meanwhile, to a packet.
  fileprivate func describe(in packet: inout OutgoingPacket) throws(PortError) {
    let out = outgoing.state.withLock { lane in
      // Should the message be destroyed, the other end is told that.
      lane.sending.producer.sayInMessage(true)
      return lane.sending.producer.lanePosition
    }
    let (position, isPeerViolator, channel, partial) = try incoming.state.withLock { (lane) throws(PortError) in
      lane.receiving.release()
      // The announcement was ours. Threads that rely on it are told what became of the port.
      do throws(SystemError) {
        try lane.receiving.records.consumer.takeAnnouncementBack()
      } catch {
        throw .system(error)
      }
      return (
        lane.receiving.records.consumer.lanePosition, !lane.receiving.records.consumer.isAttached,
        lane.receiving.transport.channel, try lane.receiving.records.partial()
      )
    }
    guard let channel else { throw .closed }
    packet.add(
      TravellingPort(
        end: end, queueLimitBytes: options.queueLimitBytes, messageLimitBytes: options.messageLimitBytes, outgoing: out,
        incoming: position, partial: partial.map { (byteCount: $0.bytes.byteCount, filled: $0.filled) },
        isPeerViolator: isPeerViolator),
      channel: channel, part: partial)
  }
}

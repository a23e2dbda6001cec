import CSupport
import Glibc
import SharedRing

/// Why the ports of a message could not be received.
enum ArrivalError: Error {
  /// The channel is to be trusted no more.
  case violation(String)
  /// Only this message suffers.
  case message(MessageError)
  /// They are still on the socket: the system lacks what it takes to hand them over (`nil`: see `SharedChannel.Front`). Try
  /// again later.
  case blocked(SystemError?)
}

extension SharedChannel {
  /// Takes the packet that belongs to a record with `count` ports off the socket, where it was seen. Under the receiving
  /// lane's lock.
  ///
  /// Descriptors that do not become ports are closed, whatever happens.
  func receivePorts(count: Int, options: ChannelOptions, loop: EventLoop) -> Result<[MessagePort], ArrivalError> {
    var words = [UInt64](repeating: 0, count: TransferPacket.byteCount(ports: count) / 8)
    var fds = ReceivedDescriptors(capacity: 2 * count + 1)
    do throws(ArrivalError) {
      try receivePacket(into: &words, &fds, count: count)
      let travellers = try Self.travellers(words, count: count)
      let file = try Self.takePartialFile(of: travellers, &fds, options: options)
      var offset = 0
      var ports: [MessagePort] = []
      for traveller in travellers {
        let part = try traveller.partial.map { (partial) throws(ArrivalError) in
          defer { offset += PartialFile.room(for: partial.filled) }
          let part = file.flatMap {
            ArrivingPart(byteCount: partial.byteCount, filled: partial.filled, in: $0, at: offset)
          }
          guard let part else { throw .message(.badPort("no memory for its partial message")) }
          return part
        }
        ports.append(try MessagePort.arrive(traveller, part, &fds, options: options, loop: loop))
      }
      crashPoint(.receivePortsMade)
      return .success(ports)
    } catch {
      // What we lack ourselves is not the peer's fault.
      if case .blocked = error {} else { hasWasted.store(true, ordering: .relaxed) }
      return .failure(error)
    }
  }

  private static func travellers(_ words: [UInt64], count: Int) throws(ArrivalError) -> [TravellingPort] {
    var travellers: [TravellingPort] = []
    for index in 0..<count {
      let start = 1 + index * TransferPacket.wordsPerPort
      guard let traveller = TravellingPort(words: words[start..<start + TransferPacket.wordsPerPort]) else {
        throw .violation("port with impossible properties")
      }
      travellers.append(traveller)
    }
    return travellers
  }

  /// Takes the file that comes first if any port has a part of a message, once the descriptors were counted.
  private static func takePartialFile(
    of travellers: [TravellingPort], _ fds: inout ReceivedDescriptors, options: ChannelOptions
  ) throws(ArrivalError) -> PartialFile? {
    let parts = travellers.compactMap(\.partial)
    let needed = 2 * travellers.count + (parts.isEmpty ? 0 : 1)
    guard fds.left >= needed else { throw .violation("fewer descriptors than ports need") }
    guard fds.left == needed else { throw .violation("more descriptors than ports need") }
    guard !parts.isEmpty, let descriptor = fds.take() else { return nil }
    guard parts.allSatisfy({ $0.byteCount <= options.messageLimitBytes }) else {
      csupport_close_elsewhere(descriptor)
      throw .message(.badPort("a partial message over the limit"))
    }
    let file = PartialFile.open(
      owning: descriptor, sizes: parts.map(\.filled), acceptsUnsealed: options.acceptsUnsealedMemory)
    guard let file else { throw .message(.badPort("its partial message cannot be read")) }
    return file
  }

  /// Takes the packet at the front, which has to be that of `count` ports.
  private func receivePacket(
    into words: inout [UInt64], _ fds: inout ReceivedDescriptors, count: Int
  ) throws(ArrivalError) {
    if hasWasted.load(ordering: .relaxed), csupport_closing_is_behind() { throw .blocked(nil) }
    let receipt = unsafe words.withUnsafeMutableBytes { bytes in unsafe socket.receive(into: bytes, &fds) }
    switch receipt {
    case .packet(let packet):
      crashPoint(.receivePacketTaken)
      guard packet.byteCount == TransferPacket.byteCount(ports: count), !packet.isTruncated,
        words[0] == UInt64(TransferPacket.magic) | UInt64(count) << 32
      else { throw .violation("not the packet of \(count) ports") }
      if packet.lacksDescriptors { throw .message(.portsLost(expected: count)) }
    // Our own trouble, not the peer's. The kernel says so before it takes the packet off the socket.
    case .short(let error): throw .blocked(error)
    case .nothing, .ended: throw .violation("not the packet of \(count) ports")
    }
  }
}

extension MessagePort {
  /// Makes a port of what has arrived, after checking all of it with the kernel.
  fileprivate static func arrive(
    _ port: TravellingPort, _ part: ArrivingPart?, _ fds: inout ReceivedDescriptors, options: ChannelOptions,
    loop: EventLoop
  ) throws(ArrivalError) -> MessagePort {
    guard let first = fds.take() else { throw .violation("fewer descriptors than ports need") }
    guard let socket = PacketSocket(inspecting: first) else { throw .violation("a port whose socket is none") }
    guard let second = fds.take() else { throw .violation("fewer descriptors than ports need") }
    let memory: ChannelMemory
    do throws(AttachError) {
      memory = try ChannelMemory.attach(owning: second, trustingUnsealed: options.acceptsUnsealedMemory)
    } catch {
      guard error.isViolation else { throw .message(.badPort("\(error)")) }
      throw .violation("a port whose memory is none: \(error)")
    }
    var violation: String? = port.isPeerViolator ? "found by the port's previous owner" : nil
    // Whoever has made the channel can bind its sockets to names at any time, also once its carrier has looked at them:
    // that costs this port alone.
    if socket.mayReachServer {
      socket.hangUp()
      violation = violation ?? "its socket has a name, as a server's has"
    }
    let channel = SharedChannel(memory: memory, socket: socket)
    var portOptions = options
    // The stricter of one's own limits and the channel's: a peer must not choose how much memory it can take here.
    portOptions.queueLimitBytes = [options.queueLimitBytes, port.queueLimitBytes].compactMap(\.self).min()
    portOptions.messageLimitBytes = min(options.messageLimitBytes, port.messageLimitBytes)
    do throws(ResumeError) {
      let core = try PortCore(
        channel: channel, end: port.end, sending: port.outgoing, receiving: port.incoming, part: part,
        peerViolation: violation, options: portOptions, loop: loop)
      core.giveBackOverflowWhenRead()
      return MessagePort(core)
    } catch {
      switch error {
      case .implausible: throw .violation("a port at an impossible position")
      case .system(let error) where error.mayPass: throw .message(.badPort(error.description))
      case .system(let error): throw .violation("a port at a position that cannot be mapped: \(error)")
      }
    }
  }
}

extension PortCore {
  /// One end of a shared channel, which goes on where its previous owner stopped.
  ///
  /// - Parameter peerViolation: how the other end broke the protocol, if it did: then nothing is received any more.
  convenience init(
    channel: SharedChannel, end: Int, sending: LanePosition, receiving: LanePosition,
    part: ArrivingPart?, peerViolation: String?, options: ChannelOptions, loop: EventLoop
  ) throws(ResumeError) {
    let producer = try RingProducer.resume(memory: channel.memory, lane: end, at: sending)
    producer.sayInMessage(false)
    let consumer =
      if peerViolation != nil { RingConsumer() } else {
        try RingConsumer.resume(memory: channel.memory, lane: 1 - end, at: receiving)
      }
    self.init(
      outgoing: Lane(options, producer: producer, channel: channel),
      incoming: Lane(options, records: RecordReader(consumer), channel: channel), end: end, options: options, loop: loop
    )
    if let peerViolation { endReceiving(peerViolation) }
    incoming.state.withLock { lane in
      // Whatever came before this process had the port: nobody tells of it again.
      lane.receiving.records.packetsMayWait = peerViolation == nil
      if let part { lane.receiving.records.resume(part) }
    }
  }
}

import CSupport
import Glibc
import SharedRing

/// Why the ports of a message could not be received.
enum ArrivalError: Error {
  /// The channel is to be trusted no more.
  case violation(String)
  /// Only this message suffers.
  case message(MessageError)
  /// They are still on the socket: the system lacks what it takes to hand them over. Try again later.
  case blocked(SystemError)
}

extension SharedChannel {
  /// Takes the packet that belongs to a record with `count` ports off the socket. Under the receiving lane's lock.
  ///
  /// Descriptors that do not become ports are closed, whatever happens.
  func receivePorts(count: Int, options: ChannelOptions, loop: EventLoop) -> Result<[MessagePort], ArrivalError> {
    guard count <= TransferPacket.maximumPorts else { return .failure(.violation("\(count) ports in one message")) }
    var words = [UInt64](repeating: 0, count: TransferPacket.byteCount(ports: count) / 8)
    var fds = ReceivedDescriptors(capacity: min(3 * count, CSUPPORT_MAX_PACKET_FDS))
    do throws(ArrivalError) {
      try receivePacket(into: &words, &fds, count: count)
    } catch {
      return .failure(error)
    }
    var ports: [MessagePort] = []
    for index in 0..<count {
      let start = 1 + index * TransferPacket.wordsPerPort
      guard let traveller = TravellingPort(words: words[start..<start + TransferPacket.wordsPerPort]) else {
        return .failure(.violation("port with impossible properties"))
      }
      do throws(ArrivalError) {
        ports.append(try MessagePort.arrive(traveller, &fds, options: options, loop: loop))
      } catch {
        return .failure(error)
      }
    }
    guard fds.isEmpty else { return .failure(.violation("more descriptors than ports need")) }
    crashPoint(.receivePortsMade)
    return .success(ports)
  }

  /// Takes packets off the socket until one is no doorbell: it has to be that of `count` ports.
  private func receivePacket(
    into words: inout [UInt64], _ fds: inout ReceivedDescriptors, count: Int
  ) throws(ArrivalError) {
    // A peer that keeps ringing instead of sending what it announced must not keep us here.
    for _ in 0..<Self.doorbellsInARow {
      let receipt = unsafe words.withUnsafeMutableBytes { bytes in unsafe socket.receive(into: bytes, &fds) }
      switch receipt {
      case .packet(let packet):
        if packet.byteCount == 1 {
          // A doorbell has no business to bring any.
          fds.closeAll()
          continue
        }
        crashPoint(.receivePacketTaken)
        guard packet.byteCount == TransferPacket.byteCount(ports: count), !packet.isTruncated,
          words[0] == UInt64(TransferPacket.magic) | UInt64(count) << 32
        else { throw .violation("not the packet of \(count) ports") }
        if packet.lacksDescriptors { throw .message(.portsLost(expected: count)) }
        return
      // Our own trouble, not the peer's. The kernel says so before it takes the packet off the socket.
      case .short(let error): throw .blocked(error)
      case .nothing, .ended: throw .violation("ports announced and not sent")
      }
    }
    throw .violation("doorbells without end")
  }
}

extension MessagePort {
  /// Makes a port of what has arrived, after checking all of it with the kernel.
  fileprivate static func arrive(
    _ port: TravellingPort, _ fds: inout ReceivedDescriptors, options: ChannelOptions, loop: EventLoop
  ) throws(ArrivalError) -> MessagePort {
    guard let socket = fds.take() else { throw .violation("fewer descriptors than ports need") }
    guard csupport_socket_is_seqpacket(socket) == 1, let file = fds.take() else {
      _ = csupport_close(socket)
      throw .violation("a port whose socket is none")
    }
    let memory: ChannelMemory
    do throws(AttachError) {
      memory = try ChannelMemory.attach(owning: file, trustingUnsealed: options.acceptsUnsealedMemory)
    } catch {
      _ = csupport_close(socket)
      if case .system(let error) = error { throw .message(.badPort(error.description)) }
      throw .violation("a port whose memory is none: \(error)")
    }
    let channel = SharedChannel(memory: memory, owningSocket: socket)
    var partial: (bytes: OwnedBytes, filled: Int)?
    if let (byteCount, filled) = port.partial {
      guard byteCount <= options.messageLimitBytes else {
        throw .message(.badPort("a partial message of \(byteCount) bytes, over the limit"))
      }
      guard let file = fds.take() else { throw .violation("fewer descriptors than ports need") }
      let bytes = PartialFile.read(
        file, byteCount: byteCount, filled: filled, acceptsUnsealed: options.acceptsUnsealedMemory)
      _ = csupport_close(file)
      guard let bytes else { throw .message(.badPort("its partial message cannot be read")) }
      crashPoint(.partRead)
      partial = (bytes, filled)
    }
    var portOptions = options
    // The stricter of one's own limits and the channel's: a peer must not choose how much memory it can take here.
    portOptions.queueLimitBytes = [options.queueLimitBytes, port.queueLimitBytes].compactMap(\.self).min()
    portOptions.messageLimitBytes = min(options.messageLimitBytes, port.messageLimitBytes)
    do throws(ResumeError) {
      let core = try PortCore(
        channel: channel, end: port.end, sending: port.outgoing,
        receiving: port.isPeerViolator ? nil : port.incoming, partial: partial,
        options: portOptions, loop: loop)
      core.giveBackOverflowWhenRead()
      return MessagePort(core)
    } catch {
      switch error {
      case .implausible: throw .violation("a port at an impossible position")
      case .system(let error): throw .message(.badPort(error.description))
      }
    }
  }
}

extension PortCore {
  /// One end of a shared channel, which goes on where its previous owner stopped.
  ///
  /// - Parameter receiving: `nil`: nowhere, because the other end broke the protocol.
  convenience init(
    channel: SharedChannel, end: Int, sending: LanePosition, receiving: LanePosition?,
    partial: (bytes: OwnedBytes, filled: Int)?, options: ChannelOptions, loop: EventLoop
  ) throws(ResumeError) {
    let producer = try RingProducer.resume(memory: channel.memory, lane: end, at: sending)
    let consumer =
      try receiving.map { (position) throws(ResumeError) in
        try RingConsumer.resume(memory: channel.memory, lane: 1 - end, at: position)
      } ?? RingConsumer()
    self.init(
      outgoing: Lane(options, producer: producer, channel: channel),
      incoming: Lane(options, records: RecordReader(consumer), channel: channel), end: end, options: options, loop: loop
    )
    if receiving == nil { endReceiving("found by the port's previous owner") }
    if let partial { incoming.state.withLock { $0.receiving.records.resume(partial.bytes, filled: partial.filled) } }
  }
}

import CSupport
import Glibc
import SharedRing

/// Why what comes with a message could not be received.
enum ArrivalError: Error {
  /// The channel is to be trusted no more.
  case violation(String)
  /// Only this message suffers.
  case message(MessageError)
  /// It is still on the socket: the system lacks what it takes to hand it over (`nil`: see `SharedChannel.Front`). Try again
  /// later.
  case blocked(SystemError?)
}

extension SharedChannel {
  /// Takes the packet that belongs to a record which announces `cargo` off the socket, where it was seen. Under the
  /// receiving lane's lock.
  ///
  /// Descriptors that nobody gets are closed, whatever happens.
  func receive(
    _ cargo: CargoCount, options: ChannelOptions, loop: EventLoop
  ) -> Result<MessageCargo, ArrivalError> {
    var words = [UInt64](repeating: 0, count: TransferPacket.byteCount(cargo) / 8)
    var fds = ReceivedDescriptors(capacity: cargo.mostDescriptors)
    do throws(ArrivalError) {
      try receivePacket(into: &words, &fds, cargo)
      let travellers = try Self.travellers(words, count: cargo.ports)
      let file = try Self.takePartialFile(of: travellers, &fds, descriptors: cargo.descriptors, options: options)
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
      var freight = Freight()
      let bufferCount = try Self.bufferCount(in: words, cargo)
      // Of these, nothing is asked: they may be anything.
      while fds.left > bufferCount, let fd = fds.take() {
        freight.descriptors.append(Descriptor(received: fd, from: waste))
      }
      while let fd = fds.take() { freight.buffers.append(try Self.buffer(fd)) }
      crashPoint(.receivePortsMade)
      return .success(MessageCargo(ports, freight))
    } catch {
      // What we lack ourselves is not the peer's fault.
      if case .blocked = error {} else { waste.note() }
      return .failure(error)
    }
  }

  /// What comes with a message could not be received, and still cannot: not enough descriptors are free, or those of a peer
  /// are to be closed first.
  var isHeldUp: Bool {
    if csupport_closing_is_behind(waste.isSet) { return true }
    let lacked = lacking.load(ordering: .relaxed)
    return lacked > 0 && csupport_descriptors_are_free(memory.fd, lacked) < 0
  }

  private static func bufferCount(in words: [UInt64], _ cargo: CargoCount) throws(ArrivalError) -> Int {
    guard let count = TransferPacket.bufferCount(in: words[0], of: cargo) else {
      throw .violation(isNotThePacket(of: cargo))
    }
    return count
  }

  /// Makes a buffer of what has arrived. A peer that only passes it on has checked it, too.
  private static func buffer(_ fd: CInt) throws(ArrivalError) -> MessageBuffer {
    do throws(AttachError) {
      return MessageBuffer(BufferMemory(try BufferFile(received: fd)))
    } catch {
      guard error.isViolation else { throw .message(.badBuffer("\(error)")) }
      throw .violation("a buffer that is none: \(error)")
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
    of travellers: [TravellingPort], _ fds: inout ReceivedDescriptors, descriptors: Int, options: ChannelOptions
  ) throws(ArrivalError) -> PartialFile? {
    let parts = travellers.compactMap(\.partial)
    let needed = 2 * travellers.count + (parts.isEmpty ? 0 : 1) + descriptors
    guard fds.left >= needed else { throw .violation("fewer descriptors than were announced") }
    guard fds.left == needed else { throw .violation("more descriptors than were announced") }
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

  /// Takes the packet at the front, which has to be that of `cargo`.
  ///
  /// With a copy of the packet first, for which descriptors are had or not: the packet itself stays until they are here.
  private func receivePacket(
    into words: inout [UInt64], _ fds: inout ReceivedDescriptors, _ cargo: CargoCount
  ) throws(ArrivalError) {
    if csupport_closing_is_behind(waste.isSet) { throw .blocked(nil) }
    // Since it has failed, not with what the peer has sent, of which a part would have to be closed each time.
    let lacked = lacking.load(ordering: .relaxed)
    if lacked > 0 { try checkFree(lacked) }
    let copy = unsafe words.withUnsafeMutableBytes { bytes in unsafe socket.copy(into: bytes, &fds) }
    switch copy {
    case .packet(let packet) where packet.lacksDescriptors && !fds.isFull:
      try Self.check(packet, words, cargo)
      let hasPart = try Self.travellers(words, count: cargo.ports).contains { $0.partial != nil }
      fds.closeAll()
      waste.note()
      try checkFree(2 * cargo.ports + cargo.descriptors + (hasPart ? 1 : 0))
    // Or a kernel that has no memory for copies, and says nothing of it: the packet itself will tell.
    case .packet(let packet) where !packet.lacksDescriptors && fds.left < 2 * cargo.ports + cargo.descriptors:
      fds.closeAll()
    case .packet(let packet):
      crashPoint(.receivePacketCopied)
      socket.drop()
      crashPoint(.receivePacketTaken)
      try Self.check(packet, words, cargo)
      if packet.lacksDescriptors { throw .violation("more descriptors than were announced") }
      return
    case .short(let error): throw .blocked(error)
    case .nothing, .ended: throw .violation(Self.isNotThePacket(of: cargo))
    }
    // There are enough, and yet they were not to be had: if that is so again, the message has to do without.
    let receipt = unsafe words.withUnsafeMutableBytes { bytes in unsafe socket.receive(into: bytes, &fds) }
    switch receipt {
    case .packet(let packet):
      try Self.check(packet, words, cargo)
      if packet.lacksDescriptors {
        throw .message(
          cargo.descriptors == 0
            ? .portsLost(expected: cargo.ports) : .descriptorsLost(expected: cargo.descriptors))
      }
    // Our own trouble, not the peer's. The kernel says so before it takes the packet off the socket.
    case .short(let error): throw .blocked(error)
    case .nothing, .ended: throw .violation(Self.isNotThePacket(of: cargo))
    }
  }

  private static func check(
    _ packet: PacketSocket.Packet, _ words: [UInt64], _ cargo: CargoCount
  ) throws(ArrivalError) {
    guard packet.byteCount == TransferPacket.byteCount(cargo), !packet.isTruncated,
      TransferPacket.bufferCount(in: words[0], of: cargo) != nil
    else { throw .violation(isNotThePacket(of: cargo)) }
  }

  private static func isNotThePacket(of cargo: CargoCount) -> String {
    "not the packet of \(cargo.ports) ports and \(cargo.descriptors) descriptors"
  }

  /// Throws unless so many descriptors can be had at this moment.
  private func checkFree(_ count: Int) throws(ArrivalError) {
    let result = csupport_descriptors_are_free(memory.fd, count)
    lacking.store(result < 0 ? count : 0, ordering: .relaxed)
    if result < 0 { throw .blocked(SystemError(call: "recvmsg", errno: -result)) }
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

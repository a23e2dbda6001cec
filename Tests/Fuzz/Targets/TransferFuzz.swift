import CSupport
import Dispatch
import Glibc
@testable import MessagePorts
@testable import SharedRing

/// A port that receives ports and descriptors from a peer which chooses every word of the packets and every descriptor; what arrives is
/// used, with memory that the peer goes on writing to.
enum TransferFuzz {
  private static let zoo = DescriptorZoo()
  private static let carrier = Carrier()
  /// Has its thread and its descriptors already.
  private static let loop = {
    let loop = EventLoop(name: "fuzz")
    let isRunning = DispatchSemaphore(value: 0)
    guard let channel = try? MessageChannel(loop: loop) else { fatalError("no channel") }
    channel.port1.onMessage = { _ in isRunning.signal() }
    try? channel.port2.postMessage(bytes: [])
    isRunning.wait()
    return loop
  }()
  private static let options = ChannelOptions(messageLimitBytes: 1 << 16, backing: .memfd, acceptsUnsealedMemory: false)

  /// The channel that carries the ports: the victim's side as a channel, the peer's as memory and a socket.
  private struct Carrier {
    let memory = FuzzMemory()
    let sockets = FuzzSockets()
    let channel: SharedChannel

    init() { channel = SharedChannel(memory: memory.memory, owningSocket: sockets.victim) }
  }

  private enum Step: Int, CaseIterable {
    // The peer.
    case packet, rawPacket, doorbell, record, fragments, scribble, scribbleFar, post
    // The victim, and its ports.
    case take, use, pass, drop, drain
    // With descriptors: the peer, twice, and the victim.
    case packetWithDescriptors, recordWithDescriptors, passDescriptors
    // With buffers.
    case packetWithBuffers
  }

  static func run(_ input: inout FuzzInput) {
    carrier.memory.reset()
    carrier.sockets.drain()
    _ = (loop, zoo)
    withoutDescriptorLeak {
      play(&input)
      carrier.sockets.drain()
      zoo.reset()
    }
  }

  private static func play(_ input: inout FuzzInput) {
    var victim = Victim()
    var peer = Peer()
    // A peer that goes on for longer does the same again.
    for _ in 0..<64 where !input.isAtEnd {
      switch Step.allCases[input.below(Step.allCases.count)] {
      case .packet: peer.sendPacket(&input, ports: 1 + input.below(4))
      case .packetWithDescriptors: peer.sendPacket(&input, ports: input.below(3), descriptors: 1 + input.below(8))
      case .packetWithBuffers:
        let count = 1 + input.below(8)
        peer.sendPacket(&input, ports: input.below(3), descriptors: count, buffers: input.below(count + 1))
      case .recordWithDescriptors:
        peer.put(.message, 8, ports: input.below(3), descriptors: Int(input.byte()))
      case .passDescriptors: victim.passDescriptors()
      case .rawPacket:
        let fds = peer.descriptors(input.below(8), &input)
        carrier.sockets.send(Array(input.take(input.below(256))), fds)
      case .doorbell: carrier.sockets.send([1], peer.descriptors(input.below(4), &input))
      case .record: peer.put(.message, Int(input.byte() & 0x3f), ports: Int(input.byte()))
      case .fragments:
        peer.put(.firstFragment, 16, ports: 0, first: 16)
        peer.put(.lastFragment, 8, ports: Int(input.byte() & 7))
      case .scribble: carrier.memory.store(input.word(), at: Int(input.half()))
      case .scribbleFar: zoo.memory.store(input.word(), at: Int(input.half()))
      case .post:
        // A correct message on the lane of an arrived port that is end 1.
        let place = zoo.memory.data + Int(input.byte()) * 8
        zoo.memory.store(0, at: place + 16)
        zoo.memory.store(input.word(), at: place + 8)
        zoo.memory.store(RecordHeader(kind: .message, byteCount: 8).rawValue, at: place)
      case .take: victim.take()
      case .use: victim.use(input.below(8), Int(input.half() & 0xfff))
      case .pass: victim.pass(input.below(8))
      case .drop: victim.drop(input.below(8))
      case .drain: victim.notePackets()
      }
    }
    victim.take()
  }

  private struct Peer {
    var offset = 0

    mutating func put(
      _ kind: RecordHeader.Kind, _ byteCount: Int, ports: Int, descriptors: Int = 0, first: UInt64 = 0
    ) {
      let cargo = CargoCount(ports: ports, descriptors: descriptors)
      let header = RecordHeader(kind: kind, byteCount: byteCount).carrying(cargo)
      let end = offset + RecordHeader.recordBytes(payloadBytes: byteCount)
      guard end < carrier.memory.memory.laneCapacity else { return }
      let data = carrier.memory.data
      carrier.memory.store(first, at: data + offset + 8)
      carrier.memory.store(0, at: data + end)
      carrier.memory.store(header.rawValue, at: data + offset)
      offset = end
    }

    func descriptors(_ count: Int, _ input: inout FuzzInput) -> [CInt] {
      (0..<count).map { _ in zoo.fd(Int(input.byte())) }
    }

    /// A correct packet, except for what the input changes: words, descriptors, the header, its length.
    func sendPacket(_ input: inout FuzzInput, ports count: Int, descriptors: Int = 0, buffers: Int = 0) {
      let cargo = CargoCount(ports: count, descriptors: descriptors)
      var words = [TransferPacket.firstWord(cargo, buffers: buffers)]
      var fds: [CInt] = []
      for _ in 0..<count {
        let place = LanePosition(
          segmentOffset: 0, capacity: UInt64(zoo.memory.memory.laneCapacity), cursorOffset: 0, position: 0,
          segmentPosition: 0)
        words +=
          TravellingPort(
            end: 1, queueLimitBytes: nil, messageLimitBytes: options.messageLimitBytes, outgoing: place,
            incoming: place,
            partial: nil, isPeerViolator: false
          ).words
        fds += [zoo.fd(DescriptorZoo.socketIndex), zoo.fd(DescriptorZoo.memoryIndex)]
      }
      for _ in 0..<descriptors - buffers { fds.append(zoo.fd(Int(input.byte()))) }
      // Most are some, so that the channel goes on.
      for _ in 0..<buffers {
        let index = Int(input.byte())
        fds.append(index < 192 ? zoo.buffer(index) : zoo.fd(index))
      }
      for _ in 0..<input.below(8) { words[Int(input.byte()) % words.count] = input.word() }
      for _ in 0..<input.below(4) {
        let index = Int(input.byte())
        if index < 128 {
          fds[index % fds.count] = zoo.fd(Int(input.byte()))
        } else {
          // At the front is the file of partial messages.
          fds.insert(zoo.fd(Int(input.byte())), at: index < 192 ? fds.count : 0)
        }
      }
      if input.below(8) == 7 { fds.removeLast() }
      let missing = input.below(8) == 7 ? 1 + input.below(16) : 0
      carrier.sockets.send(words: words, byteCount: max(1, words.count * 8 - missing), fds)
    }
  }

  private struct Victim: ~Copyable {
    let lane = Lane(
      options, records: RecordReader(RingConsumer(memory: carrier.memory.memory, lane: 0)), channel: carrier.channel)
    var ports: [MessagePort] = []
    var descriptors: [Descriptor] = []
    var buffers: [MessageBuffer] = []
    var isOver = false

    mutating func take() {
      for _ in 0..<16 where !isOver {
        var after = AfterLock.none
        var event = MessageEvent()
        let taken = lane.state.withLock { $0.take(into: &event, &after, loop: loop) }
        after.perform()
        switch taken {
        case .nothing, .unfinished, .blocked: return
        case .failed: break
        case .violation: isOver = true
        case .message:
          blackHole(event.bytes.reduce(0, &+))
          for port in event.ports { check(port) }
          ports += event.ports.prefix(16)
          for descriptor in event.descriptors { check(descriptor) }
          descriptors += event.descriptors.prefix(4)
          for buffer in event.buffers { check(buffer) }
          buffers += event.buffers.prefix(4)
        }
      }
    }

    /// Only memory that cannot shrink and a connected socket have become a port.
    private func check(_ port: MessagePort) {
      let channels = [
        port.core.outgoing.state.withLock { $0.sending.transport.channel },
        port.core.incoming.state.withLock { $0.receiving.transport.channel },
      ]
      for case let channel? in channels {
        demand(csupport_memory_is_shrink_sealed(channel.memory.fd) == 1, "memory without a seal")
        demand(csupport_socket_is_seqpacket(channel.descriptor) == 1, "a socket that is none")
      }
      demand(channels.contains { $0 != nil }, "a port without a channel")
      demand((0...1).contains(port.core.end), "end \(port.core.end)")
    }

    /// Of its own, and nobody else's.
    private func check(_ descriptor: Descriptor) {
      let flags = try? descriptor.withDescriptor { $0 < 3 ? -1 : fcntl($0, F_GETFD) }
      demand(flags == FD_CLOEXEC, "a descriptor that is none")
    }

    /// Sealed as it says, and all of it can be read.
    private func check(_ buffer: MessageBuffer) {
      let seals = csupport_memory_seals(buffer.handle.descriptor) & 0xf
      switch buffer {
      case .frozen(let frozen):
        demand(seals == 0xf, "frozen with seals \(seals)")
        guard let bytes = try? frozen.bytes() else { return }
        blackHole(UInt8(truncatingIfNeeded: bytes.reduce(0) { $0 &+ Int($1) }))
      case .shared(let shared):
        demand(seals == 0x7, "shared with seals \(seals)")
        guard (try? shared.map(upTo: 1 << 20)) != nil else { return }
        demand((try? shared.store(7 as UInt8, at: shared.byteCount - 1)) != nil, "not written")
        demand((try? shared.read(0..<shared.byteCount))?.last == 7, "not read")
      }
    }

    /// To another process, which is this one again.
    mutating func passDescriptors() {
      guard !descriptors.isEmpty || !buffers.isEmpty, let pair = try? SharedChannel.makePair(options: options) else {
        return
      }
      let near = MessagePort(PortCore(newChannel: pair.0, end: 0, options: options, loop: loop))
      let far = MessagePort(PortCore(newChannel: pair.1, end: 1, options: options, loop: loop))
      do throws(PortError) { try near.postMessage(bytes: [1, 2, 3], descriptors: descriptors, buffers: buffers) } catch
      {
        switch error {
        case .system, .transferQueueFull: return
        default: fatalError("passing on: \(error)")
        }
      }
      demand(descriptors.allSatisfy { !$0.isOpen }, "passed on, and still here")
      guard case .message(let event)? = try? far.tryReceive() else { fatalError("they have not arrived") }
      demand(event.descriptors.count == descriptors.count, "another number of them")
      descriptors = event.descriptors
      for descriptor in descriptors { check(descriptor) }
      demand(buffers.allSatisfy { !$0.handle.isOpen }, "passed on, and still here")
      demand(event.buffers.map(\.byteCount) == buffers.map(\.byteCount), "other buffers")
      buffers = event.buffers
      for buffer in buffers { check(buffer) }
    }

    /// As the loop does when the socket is readable.
    func notePackets() { _ = lane.state.withLock { $0.receiving.notePackets() } }

    private func port(_ index: Int) -> MessagePort? { ports.isEmpty ? nil : ports[index % ports.count] }

    func use(_ index: Int, _ byteCount: Int) {
      guard let port = port(index) else { return }
      do throws(PortError) { try port.postMessage(bytes: [UInt8](repeating: 1, count: byteCount)) } catch {
        switch error {
        case .queueFull, .messageTooLarge, .system: break
        default: fatalError("posting: \(error)")
        }
      }
      _ = (port.queuedByteCount, port.isPeerClosed)
      for _ in 0..<8 {
        guard case .message(let event)? = try? port.tryReceive() else { return }
        blackHole(event.bytes.reduce(0, &+))
      }
    }

    /// To another process, which is this one again.
    mutating func pass(_ index: Int) {
      guard let port = port(index), let pair = try? SharedChannel.makePair(options: options) else { return }
      let near = MessagePort(PortCore(newChannel: pair.0, end: 0, options: options, loop: loop))
      let far = MessagePort(PortCore(newChannel: pair.1, end: 1, options: options, loop: loop))
      do throws(PortError) { try near.postMessage(bytes: [1, 2, 3], transfer: [port]) } catch {
        switch error {
        case .system, .transferQueueFull: return
        default: fatalError("passing on: \(error)")
        }
      }
      demand(port.isDetached, "passed on, and still here")
      ports.removeAll { $0 === port }
      // Its position was checked when it came here: so the next takes it.
      guard case .message(let event)? = try? far.tryReceive() else { fatalError("it has not arrived") }
      for port in event.ports { check(port) }
      ports += event.ports
    }

    mutating func drop(_ index: Int) {
      if !ports.isEmpty { ports.remove(at: index % ports.count) }
    }
  }
}

extension TransferFuzz {
  static var seeds: [[UInt8]] {
    func packet(_ w: inout SeedWriter, count: Int, words: [(Int, UInt64)] = [], fds: [(Int, Int)] = []) {
      w.byte(Step.packet.rawValue)
      w.byte(count - 1)
      w.byte(words.count)
      for (index, value) in words {
        w.byte(index)
        w.word(value)
      }
      w.byte(fds.count)
      for (index, fd) in fds {
        w.byte(index)
        w.byte(fd)
      }
      w.byte(0)
      w.byte(0)
    }
    func record(_ w: inout SeedWriter, ports: Int) {
      w.byte(Step.record.rawValue)
      w.byte(8)
      w.byte(ports)
      w.byte(Step.take.rawValue)
    }
    func use(_ w: inout SeedWriter) {
      w.byte(Step.post.rawValue)
      w.byte(0)
      w.word(42)
      w.byte(Step.use.rawValue)
      w.byte(0)
      w.half(100)
      w.byte(Step.pass.rawValue)
      w.byte(0)
      w.byte(Step.use.rawValue)
      w.byte(0)
      w.half(2000)
    }
    var seeds = (1...4).map { count in
      SeedWriter.make { w in
        packet(&w, count: count)
        record(&w, ports: count)
        use(&w)
      }
    }
    // Every kind of descriptor as the socket, and as the memory.
    for fd in 0..<zoo.count {
      for place in 0..<2 {
        seeds.append(
          SeedWriter.make { w in
            packet(&w, count: 1, fds: [(place, fd)])
            record(&w, ports: 1)
            use(&w)
          })
      }
    }
    // Every kind of descriptor as one that travels, with and without a port.
    for fd in 0..<zoo.count {
      seeds.append(
        SeedWriter.make { w in
          w.byte(Step.packetWithDescriptors.rawValue)
          w.byte(fd % 2)
          w.byte(1)
          w.byte(fd)
          w.byte(fd)
          for _ in 0..<4 { w.byte(0) }
          w.byte(Step.recordWithDescriptors.rawValue)
          w.byte(fd % 2)
          w.byte(2)
          w.byte(Step.take.rawValue)
          w.byte(Step.passDescriptors.rawValue)
        })
    }
    // A partial message, in a file or not; a peer that broke the protocol; the other end.
    for (flags, fd) in [(0x101, 13), (0x101, 14), (0x101, 17), (0x101, 5), (0x201, 0), (0, 0)] as [(UInt64, Int)] {
      seeds.append(
        SeedWriter.make { w in
          packet(
            &w, count: 1, words: [(1, flags), (14, 1000), (15, 50)], fds: flags & 0x100 != 0 ? [(200, fd)] : [])
          record(&w, ports: 1)
          use(&w)
        })
    }
    return seeds
  }
}

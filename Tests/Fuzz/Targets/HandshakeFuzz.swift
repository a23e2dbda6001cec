import CSupport
import Glibc
@testable import MessagePorts
@testable import SharedRing

/// The first packet on a connection's socket: a hello for a listener, or a welcome for a client.
enum HandshakeFuzz {
  private static let zoo = DescriptorZoo()
  private static let sockets = FuzzSockets()
  private static let options = ChannelOptions(backing: .memfd, acceptsUnsealedMemory: false)
  private static let helloMagic: UInt64 = 0x4f4c_4c45_4850_4d01
  private static let welcomeMagic: UInt64 = 0x4d4f_434c_4557_4d01

  private enum Step: Int, CaseIterable {
    case hello, welcome, raw, scribble, readHello, readWelcome
  }

  static func run(_ input: inout FuzzInput) {
    sockets.drain()
    _ = zoo
    withoutDescriptorLeak {
      play(&input)
      sockets.drain()
      zoo.reset()
    }
  }

  private static func play(_ input: inout FuzzInput) {
    for _ in 0..<32 where !input.isAtEnd {
      switch Step.allCases[input.below(Step.allCases.count)] {
      case .hello: sendHello(&input)
      case .welcome: send([welcomeMagic, UInt64(Handshake.version) | UInt64(input.byte()) << 32], fds: 0, &input)
      case .raw:
        let fds = (0..<input.below(6)).map { _ in zoo.fd(Int(input.byte())) }
        sockets.send(Array(input.take(input.below(64))), fds)
      case .scribble: zoo.memory.store(input.word(), at: Int(input.half()))
      case .readHello: readHello()
      case .readWelcome: readWelcome()
      }
    }
    readHello()
    readWelcome()
  }

  private static func sendHello(_ input: inout FuzzInput) {
    send([helloMagic, UInt64(Handshake.version), .max, 1 << 20], fds: 1, &input)
  }

  /// A correct packet, except for what the input changes: words, descriptors, its length.
  private static func send(_ words: [UInt64], fds count: Int, _ input: inout FuzzInput) {
    var words = words
    for _ in 0..<input.below(4) { words[input.below(words.count)] = input.word() }
    var fds = [CInt](repeating: zoo.fd(DescriptorZoo.memoryIndex), count: count)
    for _ in 0..<input.below(4) {
      let fd = zoo.fd(Int(input.byte()))
      if input.byte() & 1 == 0, !fds.isEmpty { fds[0] = fd } else { fds.append(fd) }
    }
    let missing = input.below(4) == 3 ? input.below(words.count * 8) : 0
    sockets.send(words: words, byteCount: words.count * 8 - missing, fds)
  }

  private static func readHello() {
    // Not its own: the next look is at the same socket.
    let socket = PacketSocket(owning: fcntl(sockets.victim, F_DUPFD_CLOEXEC, 0))
    guard case .accepted(let memory, let agreed) = Handshake.readHello(socket, options) else { return }
    demand(csupport_memory_is_shrink_sealed(memory.fd) == 1, "memory without a seal")
    demand((0...ChannelOptions.largestMessageLimit).contains(agreed.messageLimitBytes), "\(agreed)")
    demand((agreed.queueLimitBytes ?? 0) >= 0 && !agreed.acceptsUnsealedMemory, "\(agreed)")
    // What the listener does next with it.
    var consumer = RingConsumer(memory: memory, lane: 0)
    var producer = RingProducer(memory: memory, lane: 1)
    _ = consumer.next()
    _ = consumer.prepareToSleep(Doorbell.asleepOnSocket)
    _ = unsafe producer.tryWrite([UInt8](repeating: 1, count: 100).span.bytes)
  }

  private static func readWelcome() {
    let socket = PacketSocket(owning: fcntl(sockets.victim, F_DUPFD_CLOEXEC, 0))
    if case .verdict(.welcome, let theirs) = Handshake.readWelcome(socket) {
      blackHole(UInt8(truncatingIfNeeded: theirs))
    }
  }
}

extension HandshakeFuzz {
  static var seeds: [[UInt8]] {
    func hello(_ w: inout SeedWriter, fds: [Int] = []) {
      w.byte(Step.hello.rawValue)
      w.byte(0)
      w.byte(fds.count)
      for fd in fds {
        w.byte(fd)
        w.byte(0)
      }
      w.byte(0)
      w.byte(Step.readHello.rawValue)
    }
    return [SeedWriter.make { hello(&$0) }]
      + (0..<zoo.count).map { fd in SeedWriter.make { hello(&$0, fds: [fd]) } }
      + (0..<5).map { verdict in
        SeedWriter.make { w in
          for value in [Step.welcome.rawValue, verdict, 0, 0, 0, Step.readWelcome.rawValue] { w.byte(value) }
        }
      }
  }
}

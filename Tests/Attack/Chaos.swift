import CSupport
import Glibc
import SharedRing
import TestSupport

/// What an attacker does at random with the channels that it shares with its victim.
enum ChaosManner: String, CaseIterable {
  /// Writes words of all kinds all over the memory while it posts and reads as it should.
  case scribble
  /// Lies in the header: positions, doorbells, that it has closed.
  case lie
  /// Fills the socket: doorbells, packets nobody asked for, descriptors.
  case flood
  /// Sends ports that are none, and ports whose memory it cuts off, or whose rings it fills with nonsense.
  case forge
  /// Neither reads nor writes, and says that it is awake.
  case stall
  /// Comes and goes, with half a handshake or none.
  case comeAndGo
}

/// An attacker's connection to its victim, and the channels that it gets over it.
struct Chaos {
  struct Failure: Error {}

  private let manner: ChaosManner
  private let path: String

  init(_ manner: ChaosManner, path: String) {
    self.manner = manner
    self.path = path
  }

  /// Attacks whoever listens at `path`, in every manner at once, for ever.
  static func play(path: String, seed: Int) -> Never {
    for (number, manner) in ChaosManner.allCases.enumerated() {
      startThread {
        var random = SeededGenerator(seed: seed &+ number)
        while true {
          // Whatever goes wrong (no listener yet, a victim that hung up): again.
          try? Chaos(manner, path: path).run(&random)
          usleepBriefly(1000)
        }
      }
    }
    while true { pause() }
  }

  func run(_ random: inout SeededGenerator) throws {
    let socket = unsafe csupport_socket_connect(path)
    guard socket >= 0 else { throw Failure() }
    let memory = try ChannelMemory.make(laneCapacity: Bool.random(using: &random) ? 0 : 8192, backing: .memfd)
    let carrier = try RawEnd(memory, end: 0, owning: socket)
    if manner == .comeAndGo { return halfAHandshake(carrier, &random) }
    carrier.send(words: Self.hello, [memory.fd])

    var ends = [try ChaosEnd(carrier)]
    let over = csupport_monotonic_ns() + UInt64.random(in: 20_000_000...400_000_000, using: &random)
    while csupport_monotonic_ns() < over {
      // The first packet is the welcome, the next brings the ports.
      if ends.count == 1 { ends += try Self.takePorts(carrier.socket).map { try ChaosEnd($0) } }
      for end in ends { end.act(manner, &random) }
    }
  }

  private static let hello: [UInt64] = [0x4f4c_4c45_4850_4d01, UInt64(RingLayout.version), .max, 1 << 20]

  private func halfAHandshake(_ carrier: RawEnd, _ random: inout SeededGenerator) {
    var words = Self.hello
    switch Int.random(in: 0..<5, using: &random) {
    case 0: return
    case 1: words[Int.random(in: 0..<4, using: &random)] = random.next()
    case 2: words.removeLast()
    case 3: carrier.send([1], [carrier.memory.fd])
    default: break
    }
    carrier.send(words: words, [CInt](repeating: carrier.memory.fd, count: Int.random(in: 0..<4, using: &random)))
    usleepBriefly(UInt32.random(in: 0..<3000, using: &random))
  }

  /// The ports that the victim gives everybody, once they have come.
  private static func takePorts(_ socket: CInt) throws -> [RawEnd] {
    var words = [UInt64](repeating: 0, count: 1 + 16 * 8)
    var fds = [CInt](repeating: -1, count: 16)
    var received = csupport_received()
    let result = unsafe words.withUnsafeMutableBytes { bytes in
      unsafe csupport_receive_packet(socket, bytes.baseAddress, bytes.count, &fds, fds.count, &received)
    }
    if result == 0 || result == -EPIPE { throw Failure() }
    guard result == 1 else { return [] }
    var ports: [RawEnd] = []
    for index in 0..<Int(received.fd_count) / 2 {
      do {
        let memory = try ChannelMemory.attach(owning: fds[2 * index + 1], trustingUnsealed: true)
        ports.append(try RawEnd(memory, end: Int(words[1 + 16 * index] & 1), owning: fds[2 * index]))
      } catch {
        for fd in fds[(2 * index)..<Int(received.fd_count)] { _ = csupport_close(fd) }
        throw error
      }
    }
    return ports
  }
}

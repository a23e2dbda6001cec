import CSupport
import Glibc
internal import SharedRing

/// A client made by hand: it says what a test wants until it is let in; then ``end`` acts.
public final class HandMadePeer: Sendable {
  /// Its end of the channel: it posts on lane 0.
  package let end: RawEnd

  public static let magic: UInt64 = 0x5452_4f50_4753_4d01
  public static let helloMagic: UInt64 = 0x4f4c_4c45_4850_4d01
  public static let welcomeMagic: UInt64 = 0x4d4f_434c_4557_4d01
  public static let version: UInt64 = 3
  /// What fits beside the header in one page.
  public static let laneCapacity: UInt64 = 1536

  /// Connects to a listener's path, without a word.
  public init(connectingTo path: String) throws {
    let socket = unsafe csupport_socket_connect(path)
    guard socket >= 0 else { throw Agent.Failure(description: "cannot connect: \(socket)") }
    end = try RawEnd(.make(laneCapacity: 0, backing: .memfd), end: 0, owning: socket)
  }

  public var socket: CInt { end.socket }
  public var memory: CInt { end.memory.fd }
  public func hangUp() { end.hangUp() }

  /// The first page of a channel, as it should be unless told otherwise.
  public static func makeMemory(
    magic: UInt64 = magic, version: UInt64 = version, capacity: UInt64 = laneCapacity, bytes: Int = 4096,
    isSealed: Bool = true
  ) -> CInt {
    let fd = isSealed ? csupport_memory_create_sealed(UInt64(bytes)) : csupport_memory_create_unlinked(UInt64(bytes))
    precondition(fd >= 0)
    var address: UnsafeMutableRawPointer?
    let result = unsafe csupport_memory_map(fd, 0, 4096, &address)
    precondition(result == 0)
    unsafe address!.storeBytes(of: magic, toByteOffset: 0, as: UInt64.self)
    unsafe address!.storeBytes(of: version, toByteOffset: 8, as: UInt64.self)
    unsafe address!.storeBytes(of: capacity, toByteOffset: 16, as: UInt64.self)
    _ = unsafe csupport_memory_unmap(address!, 4096)
    return fd
  }

  // MARK: Saying

  /// Sends a packet.
  @discardableResult
  public func send(_ words: [UInt64], _ fds: [CInt] = []) -> Int {
    end.send(words: words, fds)
  }

  @discardableResult
  public func sendBytes(_ bytes: [UInt8], _ fds: [CInt] = []) -> Int {
    end.send(bytes, fds)
  }

  /// The hello of a correct peer.
  public func sayHello() { send(Self.hello, [memory]) }

  public static let hello: [UInt64] = [helloMagic, version, .max, 1 << 30]

  /// Waits for an answer, and returns its words; empty if the other side has hung up.
  public func readWords(within limit: Duration = patience) async throws -> [UInt64] {
    var words = [UInt64](repeating: 0, count: 512)
    var received = csupport_received()
    var fds = [CInt](repeating: -1, count: 16)
    let deadline = ContinuousClock.now + limit
    while true {
      let result = unsafe words.withUnsafeMutableBytes { bytes in
        unsafe csupport_receive_packet(socket, bytes.baseAddress, bytes.count, &fds, fds.count, &received)
      }
      for fd in fds[..<received.fd_count] { _ = csupport_close(fd) }
      if result == 1 { return Array(words[..<(received.byte_count / 8)]) }
      if result == 0 || result == -EPIPE { return [] }
      guard result == -EAGAIN || result == -ECONNRESET else { throw Agent.Failure(description: "receive: \(result)") }
      guard ContinuousClock.now < deadline else { throw DeadlineExceeded(what: "an answer") }
      try await Task.sleep(for: .milliseconds(2))
    }
  }

  /// Says hello and waits to be let in.
  public func shakeHands() async throws {
    sayHello()
    let answer = try await readWords()
    guard answer.count == 2, answer[0] == Self.welcomeMagic, answer[1] >> 32 == 0 else {
      throw Agent.Failure(description: "not let in: \(answer)")
    }
  }
}

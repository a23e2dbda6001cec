import CSupport
import Glibc

/// A peer made by hand from sockets and memory: it says and writes whatever a test wants.
///
/// It is end 0 of its channel, and posts on lane 0. It never cleans up what it wrote.
@safe
public final class HandMadePeer: @unchecked Sendable {  // used by one test at a time
  public private(set) var socket: CInt
  public let memory: CInt
  private let base: UnsafeMutableRawPointer

  public static let magic: UInt64 = 0x5452_4f50_4753_4d01
  public static let helloMagic: UInt64 = 0x4f4c_4c45_4850_4d01
  public static let welcomeMagic: UInt64 = 0x4d4f_434c_4557_4d01
  public static let packetMagic: UInt64 = 0x5450_4d01
  public static let version: UInt64 = 1
  /// What fits beside the header in one page.
  public static let laneCapacity: UInt64 = 1536
  /// Where lane 0's data begins.
  public static let data = 0x400
  /// Where lane 1's released position, the end to lie about for those who post to us, lies.
  public static let released = 0x80 + 0x180 + 0x80
  static let messageDoorbell = 0x80 + 0x100

  /// Connects to a listener's path, without a word.
  public init(connectingTo path: String) throws {
    socket = unsafe csupport_socket_connect(path)
    memory = Self.makeMemory()
    var address: UnsafeMutableRawPointer?
    let result = unsafe csupport_memory_map(memory, 0, 4096, &address)
    precondition(result == 0)
    unsafe base = unsafe address!
    guard socket >= 0 else { throw Agent.Failure(description: "cannot connect: \(socket)") }
  }

  deinit {
    hangUp()
    _ = csupport_close(memory)
    _ = unsafe csupport_memory_unmap(base, 4096)
  }

  public func hangUp() {
    if socket >= 0 { _ = csupport_close(socket) }
    socket = -1
  }

  /// The first page of a channel, as it should be unless told otherwise.
  public static func makeMemory(
    magic: UInt64 = magic, version: UInt64 = version, capacity: UInt64 = laneCapacity, bytes: Int = 4096, isSealed: Bool = true
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
    unsafe words.withUnsafeBytes { sendBytes(unsafe Array($0), fds) }
  }

  @discardableResult
  public func sendBytes(_ bytes: [UInt8], _ fds: [CInt] = []) -> Int {
    unsafe csupport_send_packet(socket, bytes, bytes.count, fds, fds.count)
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

  // MARK: Writing

  /// Writes a word anywhere in the first page.
  public func write(_ word: UInt64, at offset: Int) {
    unsafe base.storeBytes(of: word, toByteOffset: offset, as: UInt64.self)
  }

  /// Writes words at the start of lane 0's data, the first of them, a header, last; and wakes whoever sleeps.
  public func post(_ header: UInt64, _ payload: [UInt64] = [], at offset: Int = data) {
    for (index, word) in payload.enumerated() { write(word, at: offset + 8 + 8 * index) }
    csupport_store_load_fence()
    write(header, at: offset)
    ring()
  }

  /// Wakes the other end, on whatever it sleeps.
  public func ring() {
    csupport_store_load_fence()
    unsafe base.storeBytes(of: 0, toByteOffset: Self.messageDoorbell, as: UInt32.self)
    _ = unsafe csupport_futex_wake_all(base + Self.messageDoorbell)
    sendBytes([1])
  }

  /// A record's header.
  public static func header(kind: UInt64, byteCount: UInt64, ports: UInt64 = 0) -> UInt64 {
    byteCount | kind << 32 | ports << 40
  }

  /// A named message's envelope with an empty name and no content: what a connection takes for a message.
  public static let emptyName: [UInt64] = [0]
}

// An attacker in this process: it speaks the protocol by hand, correctly up to the point where it does not.

import CSupport
import Glibc
import MessagePorts
import SharedRing
import Synchronization
import TestSupport
import Testing

/// The header word of a record, correct or not.
func word(_ kind: UInt8, _ byteCount: UInt32 = 0, ports: UInt16 = 0, high: UInt8 = 0) -> UInt64 {
  UInt64(byteCount) | UInt64(kind) << 32 | UInt64(ports) << 40 | UInt64(high) << 56
}

func word(_ kind: RecordHeader.Kind, _ byteCount: UInt32 = 0, ports: UInt16 = 0) -> UInt64 {
  word(kind.rawValue, byteCount, ports: ports)
}

/// Descriptors for a packet, closed when this goes away.
final class Descriptors: Sendable {
  let all: [CInt]
  init(_ fds: [CInt]) { all = fds }
  deinit { for fd in all { _ = csupport_close(fd) } }
}

func copy(of fd: CInt) -> CInt { fcntl(fd, F_DUPFD_CLOEXEC, 0) }

/// One end of a shared channel, in the hands of somebody who knows how it works.
@safe
final class RawEnd: @unchecked Sendable {  // each is used by one thread at a time, or for single words
  let memory: ChannelMemory
  /// -1 once it is hung up.
  private(set) var socket: CInt
  /// Posts on this lane, and reads on the other.
  let end: Int
  private let mapping: Mapping
  /// Where the next record goes in the initial data.
  var offset = 0

  init(_ memory: ChannelMemory, end: Int, owning socket: CInt) throws {
    self.memory = memory
    self.end = end
    self.socket = socket
    mapping = try Mapping(fd: memory.fd, fileOffset: 0, byteCount: RingLayout.baseBytes(capacity: memory.laneCapacity))
  }

  deinit { hangUp() }

  func hangUp() {
    if socket >= 0 { _ = csupport_close(socket) }
    socket = -1
  }

  // MARK: Memory

  private var data: Int { RingLayout.initialDataOffset(lane: end, capacity: memory.laneCapacity) }

  /// Writes a word anywhere in this end's ring.
  func store(_ value: UInt64, at offset: Int) {
    precondition(offset >= 0 && offset <= memory.laneCapacity - 8)
    unsafe RecordHeader(rawValue: value).commit(at: mapping.address + data + offset)
  }

  /// Writes a record, with the header last, and "not yet" behind it; does not tell anybody.
  func put(_ header: UInt64, _ payload: [UInt8] = []) {
    let words = (payload.count + 7) / 8
    for index in 0..<words {
      let bytes = payload[(8 * index)..<min(8 * index + 8, payload.count)]
      store(bytes.reversed().reduce(0) { $0 << 8 | UInt64($1) }, at: offset + 8 + 8 * index)
    }
    store(0, at: offset + 8 + 8 * words)
    store(header, at: offset)
    offset += 8 + 8 * words
  }

  func put(_ header: UInt64, words: [UInt64]) {
    put(header, words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } })
  }

  /// Wakes whoever waits for messages, as a correct producer does.
  func ring() {
    var producer = RingProducer(memory: memory, lane: end)
    if producer.consumerSleeps(), producer.wakeConsumer() { send([1]) }
  }

  /// A correct message.
  func post(_ bytes: [UInt8], ports: Int = 0) {
    put(word(.message, UInt32(bytes.count), ports: UInt16(ports)), bytes)
    ring()
  }

  /// The words that the victim reads of this end: what was released, whether somebody sleeps.
  var theirLane: LaneWords { memory.words(lane: 1 - end) }
  var ourLane: LaneWords { memory.words(lane: end) }

  // MARK: Socket

  @discardableResult
  func send(_ bytes: [UInt8], _ fds: [CInt] = []) -> Int {
    unsafe csupport_send_packet(socket, bytes, bytes.count, fds, fds.count)
  }

  @discardableResult
  func send(words: [UInt64], _ fds: [CInt] = []) -> Int {
    send(words.flatMap { word in (0..<8).map { UInt8(truncatingIfNeeded: word >> (8 * $0)) } }, fds)
  }
}

/// What travels with a port, as in `TransferPacket.swift`, to be spoiled.
struct ForgedPort {
  static let magic: UInt64 = 0x5450_4d01
  var words: [UInt64]
  var fds: [CInt]

  /// The victim's end of a channel of which `far` is the other one; `near` is the socket that travels.
  init(_ far: RawEnd, near: CInt, queueLimit: UInt64 = .max) {
    let place = [0, UInt64(far.memory.laneCapacity), 0, 0, 0] as [UInt64]
    words = [UInt64(1 - far.end), queueLimit, 1 << 20] + place + place + [0, 0, 0]
    fds = [near, far.memory.fd]
  }

  static func header(_ count: Int) -> UInt64 { magic | UInt64(count) << 32 }
}

/// A victim in this process: a listener, a connection to an attacker, and one to a friend, all on a loop of their own.
final class Scene: Sendable {
  static let helloMagic: UInt64 = 0x4f4c_4c45_4850_4d01

  let loop: EventLoop
  let listener: Listener
  /// The attacker's connection, on the victim's side.
  let connection: Connection
  /// And on the attacker's.
  let carrier: RawEnd
  let friend: Connection
  let arrived = Collected<MessageEvent>()
  let errors = Collected<MessageError>()
  let closes = Collected<CloseReason>()
  private let echoes = Collected<UInt64>()
  private let friends = Collected<Connection>()

  /// Sealed memory only, whatever the environment says.
  static let options = ChannelOptions(backing: .memfd, acceptsUnsealedMemory: false)

  init() async throws {
    loop = EventLoop(name: "victim-\(UInt16.random(in: 0 ... .max))")
    listener = try Listener(path: freshPath(".socket"), options: Self.options, loop: loop)
    var connections = listener.connections.makeAsyncIterator()

    let memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    let socket = unsafe csupport_socket_connect(listener.path)
    try #require(socket >= 0)
    carrier = try RawEnd(memory, end: 0, owning: socket)
    carrier.send(words: [Self.helloMagic, UInt64(RingLayout.version), .max, 1 << 20], [memory.fd])
    connection = try #require(await connections.next())
    try await eventually("welcome") { [carrier] in
      var received = csupport_received()
      var bytes = [UInt8](repeating: 0, count: 32)
      return unsafe csupport_receive_packet(carrier.socket, &bytes, 32, nil, 0, &received) == 1
    }
    connection.onClose = { [closes] in closes.append($0) }
    connection.onMessageError = { [errors] in errors.append($0) }
    connection.onUnhandled = { [arrived] in arrived.append($0.message) }

    friend = try await Connection.connect(path: listener.path, options: Self.options)
    let theirs = try #require(await connections.next())
    theirs.on("echo") { event in try? event.connection.postMessage("echo", bytes: event.bytes, transfer: event.ports) }
    friends.append(theirs)
    friend.on("echo") { [echoes] event in echoes.append((try? event.load(as: UInt64.self)) ?? 0) }
  }

  deinit {
    listener.close()
    for friend in friends.all { friend.close() }
    friend.close()
    connection.close()
    loop.stop()
  }

  /// The victim still serves others.
  func checkFriend(sourceLocation: SourceLocation = #_sourceLocation) async throws {
    let before = echoes.count
    let number = UInt64.random(in: 1 ... .max)
    try friend.postMessage("echo", bitwise: number)
    try await echoes.wait(for: before + 1)
    #expect(echoes.all.last == number, sourceLocation: sourceLocation)
    #expect(!friend.isPeerClosed, sourceLocation: sourceLocation)
  }

  /// A port of the victim's whose other end is in the attacker's hands.
  func makePort(
    queueLimit: UInt64 = .max, laneCapacity: Int = 0, _ memory: ChannelMemory? = nil
  ) async throws -> (port: MessagePort, far: RawEnd) {
    let memory = try memory ?? ChannelMemory.make(laneCapacity: laneCapacity, backing: .memfd)
    var sockets: (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    let far = try RawEnd(memory, end: 0, owning: sockets.0)
    let near = Descriptors([sockets.1])
    let forged = ForgedPort(far, near: near.all[0], queueLimit: queueLimit)
    let count = arrived.count
    carrier.send(words: [ForgedPort.header(1)] + forged.words, forged.fds)
    if carrier.offset > 1400 { throw Failure("too many ports over one carrier") }
    // The name of the channel, which is empty.
    carrier.post([0, 0], ports: 1)
    let event = try await arrived.wait(for: count + 1)[count]
    let port = try #require(event.ports.first)
    arrived.removeAll()
    return (port, far)
  }

  struct Failure: Error { let what: String; init(_ what: String) { self.what = what } }

  /// The processor time of the victim's loop so far.
  var loopTime: Duration {
    for task in entries(of: "/proc/self/task")
    where text(of: "/proc/self/task/\(task)/comm").trimmed == String(loop.name.prefix(15)) {
      let nanoseconds = text(of: "/proc/self/task/\(task)/schedstat").split(separator: " ").first.flatMap { Int64($0) }
      return .nanoseconds(nanoseconds ?? 0)
    }
    return .zero
  }

  /// How much of a processor the loop uses in the next moment: 1 is all of one.
  func loopUse(during time: Duration = .milliseconds(250)) async throws -> Double {
    let (began, used) = (ContinuousClock.now, loopTime)
    try await Task.sleep(for: time)
    return (loopTime - used) / (ContinuousClock.now - began)
  }
}

extension String {
  var trimmed: Substring { self.prefix { $0 != "\n" } }
}

/// How a victim takes its messages.
enum Style: String, CaseIterable, Sendable, CustomStringConvertible {
  case handler
  case blocking = "blocking receive"
  case reader = "split reader"
  var description: String { rawValue }
}

/// What the victim was told, in order.
enum Told: Sendable, Equatable, CustomStringConvertible {
  case message([UInt8], ports: Int)
  case error(String)
  case close(String)
  case failure(String)

  var description: String {
    switch self {
    case .message(let bytes, let ports): "message \(bytes.prefix(8)) with \(ports) ports"
    case .error(let what): "error \(what)"
    case .close(let what): "close: \(what)"
    case .failure(let what): "failure \(what)"
    }
  }
  var isViolation: Bool { if case .close(let what) = self { what.hasPrefix("protocol violation") } else { false } }
  var isError: Bool { if case .error = self { true } else { false } }

  static func close(_ reason: CloseReason) -> Told { .close(reason.description) }
}

/// Takes everything that comes at a port, in one of the styles, until it ends.
func listen(_ port: MessagePort, _ style: Style, on loop: EventLoop? = nil) throws -> Collected<Told> {
  let told = Collected<Told>()
  switch style {
  case .handler:
    if let loop { port.setEventLoop(loop) }
    port.onMessageError = { told.append(.error("\($0)")) }
    port.onClose = { told.append(.close($0)) }
    port.onMessage = { told.append(.message($0.bytes, ports: $0.ports.count)) }
  case .blocking:
    port.onMessageError = { told.append(.error("\($0)")) }
    startThread {
      do {
        while true {
          let event = try port.receive(timeout: .seconds(20))
          told.append(.message(event.bytes, ports: event.ports.count))
        }
      } catch PortError.peerClosed(let reason) {
        told.append(.close(reason))
      } catch {
        told.append(.failure("\(error)"))
      }
    }
  case .reader:
    let halves = try Halves(port)
    startThread {
      let writer = halves.takeWriter()
      var reader = halves.takeReader()
      while true {
        do {
          let bytes = try reader.read(timeout: .seconds(20)) { span in unsafe span.withUnsafeBytes { unsafe Array($0) } }
          told.append(.message(bytes, ports: reader.takePorts().count))
        } catch PortError.peerClosed(let reason) {
          told.append(.close(reason))
          break
        } catch PortError.decodingFailed(let error) {
          told.append(.error("\(error)"))
        } catch {
          told.append(.failure("\(error)"))
          break
        }
      }
      _ = consume writer
    }
  }
  return told
}

/// Both halves of a split port, on their way to the threads that own them.
final class Halves: Sendable {
  private let writer: Mutex<PortWriter?>
  private let reader: Mutex<PortReader?>

  init(_ port: MessagePort) throws {
    let (writer, reader) = try port.split()
    self.writer = Mutex(writer)
    self.reader = Mutex(reader)
  }

  func takeWriter() -> PortWriter { writer.withLock { $0.take()! } }
  func takeReader() -> PortReader { reader.withLock { $0.take()! } }
}

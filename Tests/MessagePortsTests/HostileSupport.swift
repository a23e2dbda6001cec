// A victim in this process, and how it takes what an attacker sends it.

import CSupport
import Glibc
import MessagePorts
import SharedRing
import TestSupport
import Testing

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

  /// - Parameter messageLimit: what the attacker asks for, of its connection and all that comes through it.
  init(driver: EventLoop.Driver? = nil, messageLimit: UInt64 = 1 << 20) async throws {
    loop = EventLoop(name: "victim-\(UInt16.random(in: 0 ... .max))", driver: driver)
    listener = try Listener(path: freshPath(".socket"), options: Self.options, loop: loop)
    var connections = listener.connections.makeAsyncIterator()

    let memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    let socket = unsafe csupport_socket_connect(listener.path)
    try #require(socket >= 0)
    carrier = try RawEnd(memory, end: 0, owning: socket)
    carrier.send(words: [Self.helloMagic, UInt64(RingLayout.version), .max, messageLimit], [memory.fd])
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
    let number = UInt64.random(in: 1 ... .max)
    try friend.postMessage("echo", bitwise: number)
    // A test may have asked for others before, whose answers are still under way.
    try await eventually("the friend's answer") { echoes.all.contains(number) }
    #expect(!friend.isPeerClosed, sourceLocation: sourceLocation)
  }

  /// A port of the victim's whose other end is in the attacker's hands.
  func makePort(
    queueLimit: UInt64 = .max, messageLimit: UInt64 = 1 << 20, laneCapacity: Int = 0, _ memory: ChannelMemory? = nil
  ) async throws -> (port: MessagePort, far: RawEnd) {
    let memory = try memory ?? ChannelMemory.make(laneCapacity: laneCapacity, backing: .memfd)
    var sockets: (CInt, CInt) = (-1, -1)
    #expect(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    let far = try RawEnd(memory, end: 0, owning: sockets.0)
    let near = Descriptors([sockets.1])
    let forged = ForgedPort(far, near: near.all[0], queueLimit: queueLimit, messageLimit: messageLimit)
    let count = arrived.count
    if carrier.offset > 1400 { throw Failure("too many ports over one carrier") }
    // The name of the channel, which is empty.
    carrier.post([0, 0]) { carrier.send(words: [ForgedPort.header(1)] + forged.words, forged.fds) }
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

  /// How much of a processor the loop uses in the next moment: 1 is one whole processor.
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
  case set = "set"
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
          let event = try port.receiveSoon()
          told.append(.message(event.bytes, ports: event.ports.count))
        }
      } catch PortError.peerClosed(let reason) {
        told.append(.close(reason))
      } catch {
        told.append(.failure("\(error)"))
      }
    }
  case .set:
    port.onMessageError = { told.append(.error("\($0)")) }
    startThread {
      do {
        let set = try PortSet([port])
        while set.count > 0 {
          _ = try patiently("something", { try set.firstReady(timeout: $0) })
          switch try port.tryReceive() {
          case .message(let event): told.append(.message(event.bytes, ports: event.ports.count))
          case .closed(let reason):
            told.append(.close(reason))
            // It may have been told of for a message that turned out to be none.
            set.remove(port)
          case .empty: break
          }
        }
      } catch {
        told.append(.failure("\(error)"))
      }
    }
  case .reader:
    let halves = try port.split()
    startThread {
      let writer = halves.takeWriter()
      var reader = halves.takeReader()
      while true {
        do {
          let bytes = try reader.readSoon { span in unsafe span.withUnsafeBytes { unsafe Array($0) } }
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

/// A port whose other end a test has in its hands, to be sent.
final class HandMadePort {
  let far: RawEnd
  private var near: Descriptors?

  init() throws {
    let memory = try ChannelMemory.make(laneCapacity: 0, backing: .memfd)
    var sockets: (CInt, CInt) = (-1, -1)
    try #require(unsafe csupport_socket_pair(&sockets.0, &sockets.1) == 0)
    far = try RawEnd(memory, end: 0, owning: sockets.0)
    near = Descriptors([sockets.1])
  }

  /// Afterwards only the packet holds it.
  func send(over carrier: RawEnd) {
    let forged = ForgedPort(far, near: near!.all[0])
    #expect(carrier.send(words: [ForgedPort.header(1)] + forged.words, forged.fds) > 0)
    letGo()
  }

  func letGo() { near = nil }

  /// What travels, to be spoiled; this goes on to hold it, too.
  func forged(messageLimit: UInt64 = 1 << 20) -> ForgedPort {
    ForgedPort(far, near: near!.all[0], messageLimit: messageLimit)
  }
}

import CSupport
import Glibc
import Logging
import SharedRing

/// Lets other processes connect by name.
///
/// The name is a path in the file system; it lies in the user's runtime directory if it has no slash. Only processes of
/// the same user may connect unless told otherwise: others are refused by the credentials that the kernel gives, and
/// before that by the socket's mode, which never lets them near. (Root may become another user, whose processes connect
/// then, so root's socket has no such mode.) A name left behind by a server that was killed is taken over, one in use is
/// refused.
///
/// Clients are welcomed before the program takes them, 128 at most. More than that wait in the kernel's queue, as long as
/// they like to, until some were taken.
///
/// The listener closes, and removes the name, with ``close()`` or when the last reference to it goes away; connections
/// that it accepted do not depend on it.
///
/// Thread safety: any thread may use any member.
public final class Listener: Sendable {
  /// Who may connect.
  public enum Access: Sendable, Hashable {
    /// Processes of the user who made the name, or whom this process runs as now.
    case sameUser
    /// Processes of these users.
    case users(Set<UInt32>)
    /// Every process that can reach the path.
    case anyone
  }

  /// The path it listens on.
  public let path: String

  private let acceptor: Acceptor

  /// Starts listening.
  ///
  /// - Parameters:
  ///   - path: at most 107 bytes; without a slash, a name in the user's runtime directory.
  ///   - access: who may connect; everybody else gets ``ConnectionError/notPermitted(path:)``.
  ///   - options: of the connections; of each limit, the stricter of this and the connecting side's holds.
  ///   - loop: serves the connections.
  /// - Throws: ``ConnectionError/nameInUse(path:)``, ``ConnectionError/foreignFile(path:)``,
  ///   ``ConnectionError/notPermitted(path:)``, ``ConnectionError/pathTooLong(path:limit:)`` or
  ///   ``ConnectionError/system(_:)``.
  public init(
    path: String, access: Access = .sameUser, options: ChannelOptions = ChannelOptions(), loop: EventLoop = .default
  ) throws(ConnectionError) {
    let name = try SocketPath(path)
    let (socket, bound) = try name.listen(backlog: 1024)
    if access != .sameUser || geteuid() == 0 {
      let result = bound.openToAll()
      if result < 0 {
        bound.remove()
        _ = csupport_close(socket)
        throw ConnectionError(result, "chmod", path: name.path)
      }
    }
    self.path = name.path
    acceptor = Acceptor(
      name: bound, socket: socket, access: access, options: options, loop: loop, welcomed: WelcomedClients(loop: loop))
    crashPoint(.listening)
    acceptor.start()
  }

  deinit { acceptor.close() }

  /// Stops listening and removes the name. ``connections`` ends after those that were accepted. Idempotent.
  public func close() { acceptor.close() }

  /// Those that were let in, until somebody takes them.
  var welcomed: WelcomedClients { acceptor.welcomed }
}

/// Accepts and greets, on the loop.
private final class Acceptor: LoopWatcher {
  private let name: BoundName
  private let socket: CInt
  private let access: Listener.Access
  private let options: ChannelOptions
  private let loop: EventLoop
  let welcomed: WelcomedClients
  private let unfinished = UnfinishedHandshakes()
  /// The user who made the name; the process may become another one later.
  private let maker = geteuid()

  private enum State: Sendable {
    case idle
    case listening(EventLoop.Token)
    case closed
  }
  /// The name is the parent's: a forked child does not remove it.
  private let state = PerProcess(State.idle) { .closed }

  init(
    name: BoundName, socket: CInt, access: Listener.Access, options: ChannelOptions, loop: EventLoop,
    welcomed: WelcomedClients
  ) {
    self.name = name
    self.socket = socket
    self.access = access
    self.options = options
    self.loop = loop
    self.welcomed = welcomed
  }

  deinit { _ = csupport_close(socket) }

  func start() {
    state.withLock { state in
      guard case .idle = state else { return }
      state = .listening(loop.watch(socket, self, events: UInt32(CSUPPORT_EVENT_IN)))
    }
  }

  func close() {
    let wasOpen = state.withLock { state in
      defer { state = .closed }
      switch state {
      case .listening(let token):
        loop.unwatch(token)
        return true
      case .idle: return true
      case .closed: return false
      }
    }
    guard wasOpen else { return }
    name.remove()
    _ = csupport_socket_shutdown(socket)
    unfinished.endAll()
    welcomed.finish()
  }

  /// How many clients are greeted before others on the loop have their turn. The socket says again that more wait.
  private static let mostAtOnce = 32

  func ready(_ events: UInt32) {
    for _ in 0..<Self.mostAtOnce {
      // The others wait in the backlog, as they do while the program is not running.
      guard welcomed.hasRoom else { return pauseUntilThereIsRoom() }
      let accepted = csupport_socket_accept(socket)
      switch -accepted {
      case ...0: greet(PacketSocket(owning: accepted))
      case EINTR, ECONNABORTED: continue
      case EAGAIN, EINVAL: return
      default:
        // Out of descriptors or memory: the client waits in the backlog meanwhile.
        Log.logger.warning("cannot accept a connection: \(SystemError(call: "accept", errno: -accepted))")
        return pause()
      }
    }
  }

  private func pause() {
    if stopWatching() { loop.after(nanoseconds: 50_000_000) { self.start() } }
  }

  private func pauseUntilThereIsRoom() {
    if stopWatching() { welcomed.whenThereIsRoom { [weak self] in self?.start() } }
  }

  /// `false`: it was closed.
  private func stopWatching() -> Bool {
    state.withLock { state in
      guard case .listening(let token) = state else { return false }
      loop.unwatch(token)
      state = .idle
      return true
    }
  }

  private func greet(_ socket: consuming PacketSocket) {
    guard let peer = PeerCredentials(of: socket.descriptor) else { return }
    guard mayConnect(peer) else { return Handshake.sayWelcome(socket, .notPermitted) }
    HelloReader(socket, options: options, loop: loop, among: unfinished) { [welcomed, loop] channel, options in
      let core = PortCore(newChannel: channel, end: 1, options: options, loop: loop)
      welcomed.add(Connection(port: MessagePort(core), peer: peer))
    }.begin()
  }

  private func mayConnect(_ peer: PeerCredentials) -> Bool {
    switch access {
    case .sameUser: peer.userIdentifier == geteuid() || peer.userIdentifier == maker
    case .users(let users): users.contains(peer.userIdentifier)
    case .anyone: true
    }
  }
}

extension PortCore {
  /// One end of a channel on which nothing has been posted yet.
  convenience init(newChannel channel: SharedChannel, end: Int, options: ChannelOptions, loop: EventLoop) {
    let memory = channel.memory
    self.init(
      outgoing: Lane(options, producer: RingProducer(memory: memory, lane: end), channel: channel),
      incoming: Lane(options, records: RecordReader(RingConsumer(memory: memory, lane: 1 - end)), channel: channel),
      end: end, options: options, loop: loop)
  }
}

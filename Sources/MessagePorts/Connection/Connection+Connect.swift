import CSupport
import Glibc
import SharedRing

extension Connection {
  /// Connects to a ``Listener`` in another process, waiting for it to appear if need be.
  ///
  /// - Parameters:
  ///   - path: what the listener was made with.
  ///   - timeout: how long to wait for the listener, and for its answer, in all.
  ///   - options: of the connection.
  ///   - loop: serves the connection.
  /// - Throws: ``ConnectionError/noServer(path:)`` after the time-out; ``ConnectionError/notPermitted(path:)``,
  ///   ``ConnectionError/versionDiffers(ours:theirs:)``, ``ConnectionError/cancelled`` and others at once.
  public static func connect(
    path: String, timeout: Duration = .seconds(5), options: ChannelOptions = ChannelOptions(),
    loop: EventLoop = .default
  ) async throws(ConnectionError) -> Connection {
    do throws(PortError) { try options.validate() } catch { throw .invalidOption("\(error)") }
    let name = try SocketPath(path)
    let deadline = ContinuousClock.now + timeout.patience
    var pause = Duration.milliseconds(1)
    while true {
      if Task.isCancelled { throw .cancelled }
      if let socket = try attempt(name), let connection = try await greet(socket, name, deadline, options, loop) {
        return connection
      }
      let remaining = deadline - ContinuousClock.now
      guard remaining > .zero else { throw .noServer(path: name.path) }
      do { try await Task.sleep(for: min(pause, remaining)) } catch { throw .cancelled }
      pause = min(pause * 2, .milliseconds(50))
    }
  }

  /// A connected socket; `nil` if nobody listens yet.
  private static func attempt(_ name: SocketPath) throws(ConnectionError) -> PacketSocket? {
    let socket = name.connect()
    switch -socket {
    case ...0: return PacketSocket(owning: socket)
    // What is no socket refuses as a socket without a server does, but no server will come to it.
    case ECONNREFUSED where name.isForeign: throw .foreignFile(path: name.path)
    case ENOENT, ECONNREFUSED, EAGAIN, EINTR: return nil
    case EPROTOTYPE, ENOTSOCK: throw .notAMessagePort
    default: throw ConnectionError(socket, "connect", path: name.path)
    }
  }

  /// Says hello and waits for the welcome; `nil` if the server went away instead.
  private static func greet(
    _ socket: consuming PacketSocket, _ name: SocketPath, _ deadline: ContinuousClock.Instant,
    _ options: ChannelOptions, _ loop: EventLoop
  ) async throws(ConnectionError) -> Connection? {
    crashPoint(.connected)
    let peer = PeerCredentials(of: socket.descriptor)
    let memory: ChannelMemory
    do throws(MemoryError) { memory = try SharedChannel.makeMemory(options) } catch { throw ConnectionError(error) }
    let channel = SharedChannel(memory: memory, socket: socket)
    do throws(SystemError) {
      try Handshake.sayHello(channel, options)
    } catch {
      // A server that turns this user away hangs up without waiting for the hello; what it has said can still be read.
      if error.errno != EPIPE && error.errno != ECONNRESET { throw .system(error) }
    }
    crashPoint(.helloSent)
    switch await WelcomeReader.wait(channel, until: deadline, loop) {
    case .cancelled: throw .cancelled
    case .timedOut: throw .noServer(path: name.path)
    case .gone: return nil
    case .verdict(.versionDiffers, let theirs): throw .versionDiffers(ours: Handshake.version, theirs: theirs)
    case .verdict(.notPermitted, _): throw .notPermitted(path: name.path)
    case .verdict(.malformed, _): throw .notAMessagePort
    case .verdict(.welcome, let theirs):
      guard theirs == Handshake.version else { throw .versionDiffers(ours: Handshake.version, theirs: theirs) }
    }
    crashPoint(.welcomeRead)
    let core = PortCore(newChannel: channel, end: 0, options: options, loop: loop)
    return Connection(port: MessagePort(core), peer: peer)
  }
}

/// Waits for a server's welcome. Keeps itself alive by being watched.
private final class WelcomeReader: LoopWatcher {
  enum Outcome: Sendable {
    case verdict(Handshake.Verdict, theirVersion: UInt32)
    case gone
    case timedOut
    case cancelled
  }

  private struct State: Sendable {
    var resumption: Resumption<Outcome>?
    var outcome: Outcome?
    var token: EventLoop.Token?
    var timer: LoopTimers.ID?
  }

  /// Owns the socket: whoever gives up waiting on another thread must not close what is being read here.
  private let channel: SharedChannel
  private let loop: EventLoop
  private let state = Lock(State())

  private init(channel: SharedChannel, loop: EventLoop) {
    self.channel = channel
    self.loop = loop
  }

  static func wait(
    _ channel: SharedChannel, until deadline: ContinuousClock.Instant, _ loop: EventLoop
  ) async -> Outcome {
    let reader = WelcomeReader(channel: channel, loop: loop)
    return await withTaskCancellationHandler {
      await Resumption.suspend { resumption in
        let outcome = reader.state.withLock { state in
          if state.outcome == nil { state.resumption = resumption }
          return state.outcome
        }
        if let outcome { return resumption.resume(outcome) }
        reader.start(until: deadline)
      }
    } onCancel: {
      reader.end(.cancelled)
    }
  }

  private func start(until deadline: ContinuousClock.Instant) {
    let nanoseconds = UInt64(clamping: (deadline - ContinuousClock.now).nanoseconds)
    state.withLock { state in
      guard state.outcome == nil else { return }
      state.token = loop.watch(channel.descriptor, self, events: UInt32(CSUPPORT_EVENT_IN))
      state.timer = loop.after(nanoseconds: nanoseconds) { [weak self] in self?.end(.timedOut) }
    }
  }

  /// How soon a welcome that cannot be read for now is looked at again.
  private static let retryNanoseconds: UInt64 = 50_000_000

  /// The socket would say again and again that it has something.
  private func pause() {
    if let token = state.withLock({ $0.token.take() }) { loop.unwatch(token) }
    // Keeps this alive meanwhile, as watching does.
    loop.after(nanoseconds: Self.retryNanoseconds) { [self] in
      state.withLock { state in
        guard state.outcome == nil else { return }
        state.token = loop.watch(channel.descriptor, self, events: UInt32(CSUPPORT_EVENT_IN))
      }
    }
  }

  func ready(_ events: UInt32) {
    // Once the outcome is known, the socket is a channel's.
    guard state.withLock({ $0.outcome == nil }) else { return }
    switch Handshake.readWelcome(channel.socket) {
    case .pending: if events & UInt32(CSUPPORT_EVENT_HUP) != 0 { end(.gone) }
    case .gone: end(.gone)
    case .short: pause()
    case .verdict(let verdict, let version): end(.verdict(verdict, theirVersion: version))
    }
  }

  private func end(_ outcome: Outcome) {
    let (old, isFirst) = state.withLock { state in
      let old = state
      if old.outcome == nil { state = State(outcome: outcome) }
      return (old, old.outcome == nil)
    }
    guard isFirst else { return }
    if let token = old.token { loop.unwatch(token) }
    if let timer = old.timer { loop.cancel(timer) }
    old.resumption?.resume(outcome)
  }
}

import CSupport
import SharedRing

/// Waits for a client's hello, on the loop. Keeps itself alive by being watched.
final class HelloReader: LoopWatcher {
  private let options: ChannelOptions
  private let loop: EventLoop
  private let unfinished: UnfinishedHandshakes
  private let accept: @Sendable (SharedChannel, ChannelOptions) -> Void

  private struct State: ~Copyable, Sendable {
    /// `nil` once the handshake is over, one way or the other.
    var socket: PacketSocket?
    var token: EventLoop.Token?
    var timer: LoopTimers.ID?
  }
  private let state: Lock<State>

  /// A client says hello at once. One that does not has other things in mind.
  private static let patienceNanoseconds: UInt64 = 10_000_000_000
  /// How soon one that cannot be read for now is looked at again.
  private static let retryNanoseconds: UInt64 = 50_000_000

  init(
    _ socket: consuming PacketSocket, options: ChannelOptions, loop: EventLoop, among unfinished: UnfinishedHandshakes,
    accept: @escaping @Sendable (SharedChannel, ChannelOptions) -> Void
  ) {
    self.options = options
    self.loop = loop
    self.unfinished = unfinished
    self.accept = accept
    state = Lock(State(socket: socket))
  }

  /// Most clients have said hello by now.
  func begin() {
    look(0)
    let isOver = state.withLock { state in
      if state.socket == nil { return true }
      state.timer = loop.after(nanoseconds: Self.patienceNanoseconds) { [weak self] in self?.end() }
      return false
    }
    if isOver { return }
    watch()
    unfinished.add(self)
  }

  func ready(_ events: UInt32) { look(events) }

  private func look(_ events: UInt32) {
    var socket = state.withLock { $0.socket.take() }
    // Over: what the loop has to say came too late.
    guard let open = socket.take() else { return }
    switch Handshake.readHello(open, options) {
    case .pending where events & UInt32(CSUPPORT_EVENT_HUP) == 0:
      socket = consume open
      state.withLock { $0.socket = socket.take() }
    case .short:
      socket = consume open
      state.withLock { $0.socket = socket.take() }
      pause()
    case .pending, .gone: end()
    case .refused(let verdict, _):
      Handshake.sayWelcome(open, verdict)
      end()
    case .accepted(let memory, let options):
      end()
      crashPoint(.helloRead)
      Handshake.sayWelcome(open, .welcome)
      crashPoint(.welcomeSent)
      accept(SharedChannel(memory: memory, socket: open), options)
    }
  }

  private func watch() {
    state.withLock { state in
      guard state.token == nil, let descriptor = state.socket?.descriptor else { return }
      state.token = loop.watch(descriptor, self, events: UInt32(CSUPPORT_EVENT_IN))
    }
  }

  /// The socket would say again and again that it has something.
  private func pause() {
    if let token = state.withLock({ $0.token.take() }) { loop.unwatch(token) }
    // Keeps this alive meanwhile, as watching does.
    loop.after(nanoseconds: Self.retryNanoseconds) { self.watch() }
  }

  /// Gives up, unless the hello has been read. A client that waits for the answer finds that it was hung up on.
  func end() {
    let old = state.withLock { exchange(&$0, with: State(socket: nil)) }
    if let token = old.token { loop.unwatch(token) }
    if let timer = old.timer { loop.cancel(timer) }
    unfinished.remove(self)
    _ = consume old
  }
}

/// The clients of a listener that have not said hello yet. Each holds a descriptor, so there is an end to their number: of
/// too many, the oldest has to go, since a client with something to say says it at once.
final class UnfinishedHandshakes: Sendable {
  private static let limit = 128
  private let readers = Lock<[HelloReader]>([])

  func add(_ reader: HelloReader) {
    let dropped = readers.withLock { readers in
      readers.append(reader)
      return readers.count > Self.limit ? readers.first : nil
    }
    dropped?.end()
  }

  func remove(_ reader: HelloReader) {
    let removed = readers.withLock { readers in
      readers.firstIndex { $0 === reader }.map { readers.remove(at: $0) }
    }
    _ = consume removed
  }

  func endAll() {
    for reader in readers.withLock({ $0 }) { reader.end() }
  }
}

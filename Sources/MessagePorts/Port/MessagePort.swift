import Glibc
import SharedRing

/// One end of a channel: posts messages to the other end, and receives its messages, in whatever process that is.
///
/// Messages wait until the port is started and somebody takes them: a message handler, an async sequence, or a blocking
/// receive. A port can be sent, inside a message, to another process, and its queue goes with it. When the other end is
/// closed, released, or its process ends, ``onClose`` is called, after the last message.
///
/// A port closes when ``close()`` is called, when the last reference to it goes away, or when the process ends. A started
/// port with a message handler is kept alive by the library until either end closes or the handler is removed.
///
/// Thread safety: any thread may use any member. Messages posted by one thread arrive in the order of its posts. The
/// handlers of one port are called on its event loop and never overlap; none is called from within a member of this
/// class.
///
/// Source of the behaviour: the HTML Standard's `MessagePort`, with Electron's `close` event.
public final class MessagePort: Sendable {
  let core: PortCore

  init(_ core: PortCore) { self.core = core }

  deinit { core.close() }

  // MARK: State

  /// Messages are, or will be, given to the message handler.
  public var isStarted: Bool { core.ifUsable { $0.receiving.receiver.isStarted } ?? false }

  /// ``close()`` was called.
  public var isClosed: Bool { core.lifecycle.state == .closed }

  /// The port was transferred, or split: this object does not stand for its end of the channel any more.
  public var isDetached: Bool { core.lifecycle.state == .detached }

  /// The other end is closed or gone. Messages that it had posted may still wait here. One system call,
  /// and a few more when that finds the other end gone.
  public var isPeerClosed: Bool { core.isPeerClosed }

  /// How many bytes of messages wait to be received here, counting eight bytes and the rounding to eight for each
  /// message. A snapshot, which may lag behind what the other process is doing.
  public var queuedByteCount: Int { core.queuedByteCount }

  // MARK: Posting

  /// Posts an encoded value, as it is now.
  ///
  /// Either it throws and has had no effect, or the message is complete and will be delivered, after all that were
  /// posted before, if the other end lives to take it. It never waits for the receiver. If the other end is closed, the
  /// message is discarded and the ports close: that is not an error, since no caller could avoid it. So it is if the
  /// other end waits in a message at one of the very ports, where nobody could ever take it.
  ///
  /// - Parameters:
  ///   - value: encoded with ``MessageCoders/current``. Its `encode(to:)` may itself post here: that message is first.
  ///   - ports: they move with the message: once this returns, they are detached.
  /// - Throws: ``PortError``; the ports are then still the caller's.
  public func postMessage<Value: Encodable>(_ value: Value, transfer ports: [MessagePort] = []) throws(PortError) {
    try core.check(transfer: ports)
    let bytes: [UInt8]
    do { bytes = try MessageCoders.current.encode(value) } catch { throw .encodingFailed(error) }
    try unsafe core.post(bytes.span.bytes, transfer: ports)
  }

  /// Posts bytes; for the rest see ``postMessage(_:transfer:)``.
  ///
  /// Copies them once, into the memory that the receiver reads. One uncontended lock; a system call only if the receiver
  /// sleeps, or if ports or a need for more memory take one.
  public func postMessage(bytes: RawSpan, transfer ports: [MessagePort] = []) throws(PortError) {
    try core.post(bytes, transfer: ports)
  }

  /// Posts bytes; see ``postMessage(bytes:transfer:)-(RawSpan,_)``.
  public func postMessage(bytes: [UInt8], transfer ports: [MessagePort] = []) throws(PortError) {
    try unsafe core.post(bytes.span.bytes, transfer: ports)
  }

  /// Posts a plain value as the bytes that it consists of: no encoder, no allocation.
  ///
  /// The receiver gets it back with ``MessageEvent/load(as:)``. Both processes must agree on the type's layout.
  @inlinable
  public func postMessage<Value: BitwiseCopyable>(
    bitwise value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in
      try unsafe postMessage(bytes: bytes.bytes, transfer: ports)
    }
  }

  /// Posts what `fill` writes.
  ///
  /// - Parameters:
  ///   - byteCount: how much `fill` may write; the message is as long as what it has written.
  ///   - ports: move with the message; see ``postMessage(_:transfer:)``.
  ///   - fill: may post on this port: that message is first.
  /// - Throws: ``PortError/encodingFailed(_:)`` with what `fill` threw; nothing is posted then.
  public func postMessage(
    byteCount: Int, transfer ports: [MessagePort] = [], _ fill: (inout OutputRawSpan) throws -> Void
  ) throws(PortError) {
    guard byteCount >= 0, byteCount <= core.options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: byteCount, limit: core.options.messageLimitBytes)
    }
    try core.check(transfer: ports)
    // The room is taken on the ring only once the bytes are there, so that a message posted by `fill` can be first.
    guard let bytes = OwnedBytes(byteCount: byteCount) else {
      throw .system(SystemError(call: "malloc", errno: ENOMEM))
    }
    let written: Int
    do {
      written = try unsafe bytes.withMutableBytes { buffer in
        var output = unsafe OutputRawSpan(buffer: buffer, initializedCount: 0)
        try fill(&output)
        return unsafe output.finalize(for: buffer)
      }
    } catch {
      throw .encodingFailed(error)
    }
    try bytes.withBytes { (span) throws(PortError) in try core.post(span.extracting(first: written), transfer: ports) }
  }

  /// Returns once a message of `byteCount` bytes would not exceed ``ChannelOptions/queueLimitBytes``, or the other end is
  /// closed. Other posters may be faster: a post after that can still be refused. Without a limit it returns at once.
  ///
  /// - Throws: ``PortError/messageTooLarge(byteCount:limit:)`` if it never can, ``PortError/closed``,
  ///   ``PortError/detached``, or ``PortError/cancelled`` if the task is cancelled.
  public func waitForSpace(byteCount: Int) async throws(PortError) { try await core.waitForSpace(byteCount: byteCount) }

  // MARK: Receiving

  /// Is given each message, in order, on the port's event loop. Setting it starts the port; removing it pauses the
  /// delivery, and the messages wait. Ignored on a port that is closed or detached.
  public var onMessage: (@Sendable (MessageEvent) -> Void)? {
    get { core.ifUsable { $0.receiving.receiver.handlers.onMessage } ?? nil }
    set { setMessageHandler(keeping: self, newValue) }
  }

  /// - Parameter owner: what the library keeps alive as long as messages can come.
  func setMessageHandler(keeping owner: any AnyObject & Sendable, _ handler: (@Sendable (MessageEvent) -> Void)?) {
    core.configure(owner) { receiver in
      receiver.handlers.onMessage = handler
      if handler != nil { receiver.isStarted = true }
    }
  }

  /// As ``onMessage``, for values of one type. What does not decode goes to ``onMessageError``, and its ports close.
  public func onMessage<Value: Decodable & SendableMetatype>(
    of type: Value.Type, _ handler: @escaping @Sendable (Value, MessageEvent) -> Void
  ) {
    onMessage = { [weak core] event in
      let value: Value
      do throws(PortError) {
        value = try event.decode(Value.self)
      } catch {
        (core?.ifUsable { $0.receiving.receiver.handlers.onMessageError } ?? nil)?(.undecodable(error))
        return
      }
      handler(value, event)
    }
  }

  /// Is told of messages that cannot be delivered as what they are. The port stays open, and later messages are not
  /// affected. Setting it does not start the port.
  public var onMessageError: (@Sendable (MessageError) -> Void)? {
    get { core.ifUsable { $0.receiving.receiver.handlers.onMessageError } ?? nil }
    set { core.configure(self) { $0.handlers.onMessageError = newValue } }
  }

  /// Is called once, after the last message, when the other end is closed or gone; not when this one is. Setting it does
  /// not start the port: if messages wait, it is called after they were received. Set after the fact, it is still called.
  public var onClose: (@Sendable (CloseReason) -> Void)? {
    get { core.ifUsable { $0.receiving.receiver.handlers.onClose } ?? nil }
    set { core.configure(self) { $0.handlers.onClose = newValue } }
  }

  /// Lets messages be given to the message handler. Setting ``onMessage`` does it as well. Can be called any number of
  /// times.
  public func start() { core.configure(self) { $0.isStarted = true } }

  /// Takes the next message if there is one. Never blocks, does not start the port, and takes from the same queue as the
  /// handler: no message is received twice.
  ///
  /// - Throws: ``PortError/closed``, ``PortError/detached``, or ``PortError/system(_:)``; nothing is lost.
  public func tryReceive() throws(PortError) -> ReceiveResult { try core.tryReceive() }

  /// Waits for the next message and takes it. Does not start the port.
  ///
  /// Blocks the thread; before it sleeps it spins as ``ChannelOptions/spinPolicy`` says.
  ///
  /// - Parameter timeout: how long to wait at most; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``; ``PortError/peerClosed(_:)`` if there will be no more; ``PortError/closed``,
  ///   ``PortError/detached``, also if that happens meanwhile.
  public func receive(timeout: Duration? = nil) throws(PortError) -> MessageEvent {
    try core.receive(deadline: Deadline.after(timeout))
  }

  // MARK: Closing

  /// Closes this end. Unread messages are discarded, and ports in them close; no handler is called any more; the other
  /// end receives what was posted before, and then `close`. Can be called any number of times.
  ///
  /// A handler that has been called when this is called on another thread may still be running when it returns.
  public func close() { core.close() }

  /// Lets another loop run the handlers from the next event on. Without this it is the loop that the channel was made
  /// with, or that received the port.
  public func setEventLoop(_ loop: EventLoop) { core.setLoop(loop, self) }

  /// Which loop runs the handlers.
  public var eventLoop: EventLoop { core.loop }
}

import CSupport
import Glibc
import SharedRing

/// One end of a channel: posts messages to the other end, and receives its messages, whichever process holds it.
///
/// Messages wait until the port is started and somebody takes them: a message handler, an async sequence, or a blocking
/// receive. A port can be sent to another process inside a message, and its queue goes with it. When the other end is
/// closed or released, or its process ends, ``onClose`` is called, after the last message.
///
/// A port closes when ``close()`` is called, when the last reference to it goes away, or when the process ends. A
/// started port with a message handler is kept alive by the library until either end closes or the handler is removed.
///
/// Thread safety: any thread may use any member. One thread's messages arrive in the order in which it posted them. The
/// handlers of one port are called on its event loop and never overlap; no member of this class calls them.
///
/// In a process that was forked without an exec, ports that existed before are closed: see the article "Programs that
/// fork".
///
/// Source of the behaviour: the HTML Standard's `MessagePort`, with Electron's `close` event.
public final class MessagePort: Sendable {
  private let ownCore: PortCore
  private let mark = ProcessMark.current

  init(_ core: PortCore) { ownCore = core }

  /// In a process that was forked off after the port was made, a closed one.
  @inline(__always)
  var core: PortCore { mark.isInherited ? .inherited : ownCore }

  deinit { core.close() }

  /// The hot path: what ``core`` returns would be retained.
  @inline(__always)
  private func post(_ bytes: RawSpan, _ ports: [MessagePort]) throws(PortError) {
    if mark.isInherited { throw .closed }
    try ownCore.post(bytes, transfer: ports)
  }

  // MARK: State

  /// Messages are, or will be, given to the message handler.
  public var isStarted: Bool { core.ifUsable { $0.receiving.receiver.isStarted } ?? false }

  /// ``close()`` was called.
  public var isClosed: Bool { core.lifecycle.state == .closed }

  /// The port was transferred or split: this object no longer stands for its end of the channel.
  public var isDetached: Bool { core.lifecycle.state == .detached }

  /// The other end is closed or gone. Messages that it had posted may still wait here. One system call, and a few more
  /// when that finds the other end gone.
  public var isPeerClosed: Bool { core.isPeerClosed }

  /// How many bytes of messages wait to be received here: each counts with eight more than its size, rounded up to
  /// eight. A snapshot, which may lag behind the other process.
  public var queuedByteCount: Int { core.queuedByteCount }

  // MARK: Posting

  /// How many ports a message can carry, whatever waits in them: 126. The kernel passes 253 descriptors at once, of which
  /// a port takes two.
  public static let maximumPortsPerMessage = (CSUPPORT_MAX_PACKET_FDS - 1) / 2

  /// How many descriptors a message can carry, 253: as many as the kernel passes at once. Each port beside them takes two
  /// of these, and the first one a third.
  public static let maximumDescriptorsPerMessage = Int(CSUPPORT_MAX_PACKET_FDS)

  /// Posts an encoded value, as it is now.
  ///
  /// Either it throws and has had no effect, or the message is complete and will be delivered, after all that were
  /// posted before, if the other end lives to take it. It never waits for the receiver. If the other end is closed, the
  /// message is discarded and the ports close: that is not an error, since no caller could avoid it. The same happens
  /// if the other end waits in a message at one of these very ports, where nobody could ever take it.
  ///
  /// - Parameters:
  ///   - value: encoded with ``MessageCoders/current``. Its `encode(to:)` may itself post here: that message goes
  ///     first.
  ///   - ports: move with the message: once this returns, they are detached.
  /// - Throws: ``PortError``; the ports are then still the caller's.
  /// - Complexity: O(bytes + ports), and what the coder takes.
  public func postMessage<Value: Encodable>(_ value: Value, transfer ports: [MessagePort] = []) throws(PortError) {
    try core.check(transfer: ports)
    let bytes: [UInt8]
    do { bytes = try MessageCoders.current.encode(value) } catch { throw .encodingFailed(error) }
    try unsafe post(bytes.span.bytes, ports)
  }

  /// Posts a value that writes itself; for the rest see `postMessage(_:transfer:)` of other values.
  ///
  /// A message of up to a kilobyte allocates nothing on its way.
  @inlinable
  public func postMessage<Value: MessageValue>(_ value: Value, transfer ports: [MessagePort] = []) throws(PortError) {
    if !ports.isEmpty { try check(transfer: ports) }
    try MessageCoders.withEncoded(value) { (bytes) throws(PortError) in
      try postMessage(bytes: bytes, transfer: ports)
    }
  }

  @usableFromInline @inline(never)
  func check(transfer ports: [MessagePort]) throws(PortError) { try core.check(transfer: ports) }

  /// Posts bytes; for the rest see `postMessage(_:transfer:)`.
  ///
  /// Copies them once, into the memory that the receiver reads. One lock; a system call only if the receiver sleeps, or
  /// for ports or more memory.
  ///
  /// - Complexity: O(bytes + ports).
  public func postMessage(bytes: RawSpan, transfer ports: [MessagePort] = []) throws(PortError) {
    try post(bytes, ports)
  }

  /// Posts bytes; see ``postMessage(bytes:transfer:)-(RawSpan,_)``.
  public func postMessage(bytes: [UInt8], transfer ports: [MessagePort] = []) throws(PortError) {
    try unsafe post(bytes.span.bytes, ports)
  }

  /// Posts a plain value as its bytes in memory: no encoder, no allocation.
  ///
  /// The receiver gets it back with ``MessageEvent/load(as:)``. Both processes must agree on the type's layout.
  @inlinable
  public func postMessage<Value: PlainValue>(
    bitwise value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    _ = Value.layout
    try unsafe postMessage(unsafeBitwise: value, transfer: ports)
  }

  /// Posts a value of any type that is copied bit by bit.
  ///
  /// Unsafe: padding is sent with it, whatever of this process's memory is there. The receiver gets the value back with
  /// ``MessageEvent/unsafeLoad(as:)``. Otherwise as ``postMessage(bitwise:transfer:)``.
  @inlinable
  @unsafe
  public func postMessage<Value: BitwiseCopyable>(
    unsafeBitwise value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in
      try unsafe postMessage(bytes: bytes.bytes, transfer: ports)
    }
  }

  /// Posts what `fill` writes.
  ///
  /// - Parameters:
  ///   - byteCount: how much `fill` may write; the message is as long as what it has written.
  ///   - ports: move with the message; see `postMessage(_:transfer:)`.
  ///   - fill: may post on this port: that message goes first.
  /// - Throws: ``PortError/encodingFailed(_:)`` with what `fill` threw; then nothing was posted.
  /// - Complexity: O(bytes + ports), and what `fill` takes.
  public func postMessage(
    byteCount: Int, transfer ports: [MessagePort] = [], _ fill: (inout OutputRawSpan) throws -> Void
  ) throws(PortError) {
    try core.check(transfer: ports)
    let bytes = try filled(byteCount, by: fill)
    try bytes.whole.withBytes { (span) throws(PortError) in try post(span.extracting(first: bytes.written), ports) }
  }

  /// Room for `byteCount` bytes, and how much of it `fill` has written.
  func filled(
    _ byteCount: Int, by fill: (inout OutputRawSpan) throws -> Void
  ) throws(PortError) -> (whole: OwnedBytes, written: Int) {
    guard byteCount >= 0, byteCount <= core.options.messageLimitBytes else {
      throw .messageTooLarge(byteCount: byteCount, limit: core.options.messageLimitBytes)
    }
    // Room on the ring is taken only once the bytes are there, so that a message posted by `fill` can go first.
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
    return (bytes, written)
  }

  /// Returns once a message of `byteCount` bytes would not exceed ``ChannelOptions/queueLimitBytes``, or the other end
  /// is closed. Other posters may be faster: a post after that can still be refused. Without a limit, it returns at
  /// once.
  ///
  /// - Throws: ``PortError/messageTooLarge(byteCount:limit:)`` if there can never be room, ``PortError/closed``,
  ///   ``PortError/detached``, or ``PortError/cancelled`` if the task is cancelled.
  public func waitForSpace(byteCount: Int) async throws(PortError) { try await core.waitForSpace(byteCount: byteCount) }

  /// Returns once it is worth trying again to post a message with ports, descriptors or buffers, after one was refused here with
  /// ``PortError/transferQueueFull(_:)``; or when the other end is closed. Unless the last one was refused, it returns at once.
  ///
  /// ```swift
  /// func send(_ file: Descriptor, to reader: MessagePort) async throws {
  ///   while true {
  ///     do {
  ///       return try reader.postMessage("file", descriptors: [file])
  ///     } catch PortError.transferQueueFull {
  ///       try await reader.waitForTransferSpace()
  ///     } catch {
  ///       throw error
  ///     }
  ///   }
  /// }
  /// ```
  ///
  /// If the channel's own queue was full, that is when the receiver has got on. If others' are, whose channels count against the
  /// same limit of the system, nobody is told when that is over: then it returns a hundredth of a second later. Either way, the next
  /// post may be refused again.
  ///
  /// - Throws: ``PortError/closed``, ``PortError/detached``, or ``PortError/cancelled`` if the task is cancelled.
  public func waitForTransferSpace() async throws(PortError) { try await core.waitForTransferSpace() }

  // MARK: Receiving

  /// Is given each message, in order, on the port's event loop. Setting it starts the port; removing it makes messages
  /// wait. Ignored on a port that is closed or detached.
  public var onMessage: (@Sendable (MessageEvent) -> Void)? {
    get { core.ifUsable { $0.receiving.receiver.handlers.onMessage } ?? nil }
    set { setMessageHandler(keeping: self, newValue) }
  }

  /// - Parameters:
  ///   - owner: what the library keeps alive as long as messages can come.
  ///   - isOnce: it is for one message.
  func setMessageHandler(
    keeping owner: any AnyObject & Sendable, isOnce: Bool = false, _ handler: (@Sendable (MessageEvent) -> Void)?
  ) {
    core.configure(owner) { receiver in
      receiver.handlers.onMessage = handler
      receiver.handlers.isOnce = isOnce
      receiver.isForAnswersOnly = false
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

  /// As ``onMessage``, for values that read themselves. What does not decode goes to ``onMessageError``, and its ports close.
  @inlinable
  public func onMessage<Value: MessageValue & SendableMetatype>(
    of type: Value.Type, _ handler: @escaping @Sendable (Value, MessageEvent) -> Void
  ) {
    onMessage = { [weak self] event in
      let value: Value
      do throws(PortError) {
        value = try event.decode(Value.self)
      } catch {
        self?.onMessageError?(.undecodable(error))
        return
      }
      handler(value, event)
    }
  }

  /// Is told of each message that cannot be delivered. The port stays open, and later messages are not affected.
  /// Setting it does not start the port.
  public var onMessageError: (@Sendable (MessageError) -> Void)? {
    get { core.ifUsable { $0.receiving.receiver.handlers.onMessageError } ?? nil }
    set { core.configure(self) { $0.handlers.onMessageError = newValue } }
  }

  /// Is called once, after the last message, when the other end is closed or gone; not when this one is. Setting it
  /// does not start the port: if messages wait, it is called after they were received. It may also be set afterwards.
  ///
  /// It does not keep the port alive (``untilClosed()`` does, as long as it waits). A port to which nobody refers closes, and in an optimised build a local variable's
  /// reference may end with its last use: keep a port that you only listen to in a property, or with
  /// `withExtendedLifetime`, or set ``onMessage`` as well.
  public var onClose: (@Sendable (CloseReason) -> Void)? {
    get { core.ifUsable { $0.receiving.receiver.handlers.onClose } ?? nil }
    set { core.configure(self) { $0.handlers.onClose = newValue } }
  }

  /// Starts giving messages to the message handler, as setting ``onMessage`` does. May be called any number of times.
  public func start() { core.configure(self) { $0.isStarted = true } }

  /// Takes the next message if there is one. Never blocks, does not start the port, and takes from the same queue as
  /// the handler: no message is received twice.
  ///
  /// - Throws: ``PortError/closed``, ``PortError/detached``, or ``PortError/system(_:)``; nothing is lost.
  /// - Complexity: O(bytes + ports) of the message.
  public func tryReceive() throws(PortError) -> ReceiveResult { try core.tryReceive() }

  /// Waits for the next message and takes it. Does not start the port.
  ///
  /// Blocks the thread; before it sleeps it spins as ``ChannelOptions/spinPolicy`` says.
  ///
  /// - Parameter timeout: how long to wait at most; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``; ``PortError/peerClosed(_:)`` if there will be no more; ``PortError/closed`` or
  ///   ``PortError/detached``, also if that happens meanwhile; ``PortError/system(_:)``. Nothing is lost.
  /// - Complexity: O(bytes + ports) of the message.
  public func receive(timeout: Duration? = nil) throws(PortError) -> MessageEvent {
    var event = MessageEvent()
    if core.takePlain(into: &event) { return event }
    return try core.receive(deadline: Deadline.after(timeout))
  }

  // MARK: Closing

  /// Closes this end. Unread messages are discarded, and ports in them close; no handler is called any more; the other
  /// end receives what was posted before, and then `close`. May be called any number of times.
  ///
  /// A handler that runs on another thread when this is called may still be running when it returns.
  ///
  /// - Complexity: O(unread messages and the ports in them).
  public func close() { core.close() }

  /// Makes another loop run the handlers, from the next event on. At first, it is the loop that the channel was made
  /// with, or the one that received the port.
  public func setEventLoop(_ loop: EventLoop) { setLoop(loop, keeping: self) }

  /// - Parameter owner: see ``setMessageHandler(keeping:isOnce:_:)``.
  func setLoop(_ loop: EventLoop, keeping owner: any AnyObject & Sendable) { core.setLoop(loop, owner) }

  /// Which loop runs the handlers.
  public var eventLoop: EventLoop { core.loop }
}

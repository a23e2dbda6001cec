import CSupport
public import MessageCoding
import SharedRing

/// A connection between two processes: a port whose messages have a channel name.
///
/// Made by ``connect(path:timeout:options:loop:)``, accepted by a ``Listener``, inherited by a ``WorkerProcess``, or made of a
/// port with ``init(over:)``. Its
/// messages are delivered in the order they were posted, whatever their names. Until the first handler is set, or
/// ``start()`` is called, they wait; from then on, a message whose name has no handler is given to ``onUnhandled``, or
/// dropped, and its ports close. Ports that were passed over a connection do not depend on it afterwards.
///
/// A connection lives and closes as a port does: see ``MessagePort``.
///
/// Thread safety: any thread may use any member. Handlers are called on the connection's event loop and never overlap.
public final class Connection: Sendable {
  /// Carries the messages, each in a ``NamedEnvelope``.
  let port: MessagePort
  /// Who was at the other end when the connection was made, as the kernel says; `nil` for a parent or child.
  public let peer: PeerCredentials?
  private let handlers = PerProcess { HandlerReference() }
  /// What was asked over this connection, and what is being answered.
  let requests = RequestEngine()

  init(port: MessagePort, peer: PeerCredentials?) {
    self.port = port
    self.peer = peer
  }

  /// Is called on the connection's event loop, never twice at once; see ``MessagePort/onMessage``.
  public typealias Handler = @Sendable (ConnectionEvent) -> Void

  /// The port keeps them, as it keeps its own, and so they go with its last event.
  final class NamedHandlers: Sendable {
    struct Table: Sendable {
      var named: [String: NamedHandler] = [:]
      var requests: [String: RequestHandler] = [:]
      var unhandled: Handler?
      /// While there are any, messages wait.
      var fullInboxes = 0
    }
    let table = Lock(Table())
  }

  /// The handler of a name.
  struct NamedHandler: Sendable {
    var isOnce = false
    /// Whose it is, if messages wait there; see ``NamedInbox``.
    var inbox: ObjectIdentifier?
    let handler: Handler
  }

  private struct HandlerReference: Sendable {
    weak var handlers: NamedHandlers?
    var started = Started.not
  }

  /// Why the port has the handlers, or has had them.
  private enum Started: Comparable, Sendable {
    case not
    /// To hear the answers to requests: the library does not keep the connection alive for that.
    case forAnswers
    case forMessages
  }

  // MARK: Posting

  /// The longest channel name, in bytes of UTF-8.
  public static let maximumNameBytes = 1024

  /// Posts an encoded value under a name; see `MessagePort/postMessage(_:transfer:)`.
  ///
  /// - Throws: ``PortError/invalidOption(_:)`` for a name that is too long, and what a port throws.
  public func postMessage<Value: Encodable>(
    _ name: String, _ value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    let bytes: [UInt8]
    do { bytes = try MessageCoders.current.encode(value) } catch { throw .encodingFailed(error) }
    try unsafe post(name, bytes.span.bytes, ports)
  }

  /// Posts a value that writes itself under a name; see `postMessage(_:transfer:)` of a port.
  ///
  /// - Throws: ``PortError/invalidOption(_:)`` for a name that is too long, and what a port throws.
  @inlinable
  public func postMessage<Value: MessageValue>(
    _ name: String, _ value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    try MessageCoders.withEncoded(value) { (bytes) throws(PortError) in
      try postMessage(name, bytes: bytes, transfer: ports)
    }
  }

  /// Posts a message under a name that has no content but its ports.
  public func postMessage(_ name: String, transfer ports: [MessagePort] = []) throws(PortError) {
    try post(name, RawSpan(), ports)
  }

  /// Posts bytes under a name; see ``MessagePort/postMessage(bytes:transfer:)-(RawSpan,_)``.
  public func postMessage(_ name: String, bytes: RawSpan, transfer ports: [MessagePort] = []) throws(PortError) {
    try post(name, bytes, ports)
  }

  /// Posts bytes under a name; see ``MessagePort/postMessage(bytes:transfer:)-(RawSpan,_)``.
  public func postMessage(_ name: String, bytes: [UInt8], transfer ports: [MessagePort] = []) throws(PortError) {
    try unsafe post(name, bytes.span.bytes, ports)
  }

  /// Posts a plain value under a name; see ``MessagePort/postMessage(bitwise:transfer:)``.
  public func postMessage<Value: PlainValue>(
    _ name: String, bitwise value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    _ = Value.layout
    try unsafe postMessage(name, unsafeBitwise: value, transfer: ports)
  }

  /// Posts a value of any type that is copied bit by bit under a name; see
  /// ``MessagePort/postMessage(unsafeBitwise:transfer:)``.
  @unsafe
  public func postMessage<Value: BitwiseCopyable>(
    _ name: String, unsafeBitwise value: Value, transfer ports: [MessagePort] = []
  ) throws(PortError) {
    try unsafe withUnsafeBytes(of: value) { (bytes) throws(PortError) in try unsafe post(name, bytes.bytes, ports) }
  }

  func post(
    _ name: String, _ bytes: RawSpan, _ ports: [MessagePort], _ freight: Freight = Freight()
  ) throws(PortError) {
    guard let envelope = NamedEnvelope.make(name: name, bytes) else {
      throw .invalidOption("a channel name has at most \(Self.maximumNameBytes) bytes, not \(name.utf8.count)")
    }
    try unsafe port.core.post(envelope.span.bytes, ports, freight)
  }

  // MARK: Receiving

  /// Lets `handler` have each message with this name, instead of the handler it had.
  ///
  /// The first handler starts the connection: from then on, messages under other names are unhandled until those have
  /// handlers, too. To set several, and miss none of their messages, use ``handle(_:)``.
  public func on(_ name: String, _ handler: @escaping Handler) {
    set { $0.named.updateValue(NamedHandler(handler: handler), forKey: name) }
  }

  /// Lets `handler` have the next message with this name; then the name has no handler any more. Starts the connection.
  public func once(_ name: String, _ handler: @escaping Handler) {
    set { $0.named.updateValue(NamedHandler(isOnce: true, handler: handler), forKey: name) }
  }

  /// As ``on(_:_:)``, for values of one type. What does not decode goes to ``onMessageError``.
  public func on<Value: Decodable & SendableMetatype>(
    _ name: String, of type: Value.Type, _ handler: @escaping @Sendable (Value, ConnectionEvent) -> Void
  ) {
    on(name, Self.decoding(type, handler))
  }

  /// As ``on(_:_:)``, for values that read themselves. What does not decode goes to ``onMessageError``.
  @inlinable
  public func on<Value: MessageValue & SendableMetatype>(
    _ name: String, of type: Value.Type, _ handler: @escaping @Sendable (Value, ConnectionEvent) -> Void
  ) {
    on(name, Self.reading(type, handler))
  }

  @inlinable
  static func reading<Value: MessageValue & SendableMetatype>(
    _ type: Value.Type, _ handler: @escaping @Sendable (Value, ConnectionEvent) -> Void
  ) -> Handler {
    { event in
      let value: Value
      do throws(PortError) {
        value = try event.decode(Value.self)
      } catch {
        event.connection.onMessageError?(.undecodable(error))
        return
      }
      handler(value, event)
    }
  }

  private static func decoding<Value: Decodable & SendableMetatype>(
    _ type: Value.Type, _ handler: @escaping @Sendable (Value, ConnectionEvent) -> Void
  ) -> Handler {
    { event in
      do throws(PortError) {
        handler(try event.decode(Value.self), event)
      } catch {
        event.connection.onMessageError?(.undecodable(error))
      }
    }
  }

  /// Sets several handlers as one step, so that none of their messages is missed.
  ///
  ///     connection.handle {
  ///       $0.on("question") { event in … }
  ///       $0.on("answer") { event in … }
  ///     }
  ///
  /// Starts the connection once `register` has returned; nothing is delivered before that. If it throws, nothing was set.
  /// `register` must not use the connection.
  ///
  /// - Returns: what `register` returns, such as ``Registration/messages(named:)``.
  @discardableResult
  public func handle<Result, Failure: Error>(
    _ register: (inout Registration) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    var registration = Registration(connection: self)
    let result = try register(&registration)
    var replaced: [NamedHandler] = []
    var replacedRequests: [RequestHandler] = []
    set { table in
      for (name, entry) in registration.named {
        if let old = table.named.updateValue(entry, forKey: name) { replaced.append(old) }
      }
      for (name, handler) in registration.requests {
        if let old = table.requests.updateValue(handler, forKey: name) { replacedRequests.append(old) }
      }
      guard let unhandled = registration.onUnhandled else { return nil as Handler? }
      defer { table.unhandled = unhandled }
      return table.unhandled
    }
    return result
  }

  /// The handlers that ``handle(_:)`` sets.
  public struct Registration: Sendable {
    let connection: Connection
    var named: [String: NamedHandler] = [:]
    var requests: [String: RequestHandler] = [:]
    /// See ``Connection/onUnhandled``; `nil` leaves what is set.
    public var onUnhandled: Handler?

    /// See ``Connection/on(_:_:)``.
    public mutating func on(_ name: String, _ handler: @escaping Handler) {
      named[name] = NamedHandler(handler: handler)
    }

    /// See ``Connection/once(_:_:)``.
    public mutating func once(_ name: String, _ handler: @escaping Handler) {
      named[name] = NamedHandler(isOnce: true, handler: handler)
    }

    /// See `Connection/on(_:of:_:)`.
    public mutating func on<Value: Decodable & SendableMetatype>(
      _ name: String, of type: Value.Type, _ handler: @escaping @Sendable (Value, ConnectionEvent) -> Void
    ) { on(name, Connection.decoding(type, handler)) }

    /// See `Connection/on(_:of:_:)`.
    @inlinable
    public mutating func on<Value: MessageValue & SendableMetatype>(
      _ name: String, of type: Value.Type, _ handler: @escaping @Sendable (Value, ConnectionEvent) -> Void
    ) { on(name, Connection.reading(type, handler)) }
  }

  /// Takes the name's handler away; its messages are unhandled from then on.
  public func removeHandler(_ name: String) {
    let old = namedHandlers?.table.withLock { $0.named.removeValue(forKey: name) }
    _ = consume old
  }

  /// `nil` before the connection was started, and after its last event.
  var namedHandlers: NamedHandlers? { handlers.withLock { $0.handlers } }

  /// Is given messages whose name has no handler. Setting it starts the connection.
  public var onUnhandled: Handler? {
    get { namedHandlers?.table.withLock { $0.unhandled } }
    set {
      set { table in
        defer { table.unhandled = newValue }
        return table.unhandled
      }
    }
  }

  /// Lets messages be delivered, or dropped, even if no handler was set.
  public func start() { set { _ in nil as Handler? } }

  /// - Parameter change: returns what it replaces, to be released without the lock.
  func set<Replaced: Sendable>(_ change: (inout NamedHandlers.Table) -> Replaced?) { start(.forMessages, change) }

  /// Lets answers to requests arrive; the messages before them are delivered, or dropped.
  func startForAnswers() {
    if requests.isStarted.load(ordering: .relaxed) { return }
    start(.forAnswers) { _ in nil as Handler? }
    requests.isStarted.store(true, ordering: .relaxed)
  }

  private func start<Replaced: Sendable>(
    _ wanted: Started, _ change: (inout NamedHandlers.Table) -> Replaced?
  ) {
    let (handlers, before) = handlers.withLock { reference -> (NamedHandlers?, Started) in
      let before = reference.started
      reference.started = max(before, wanted)
      if before != .not { return (reference.handlers, before) }
      let handlers = NamedHandlers()
      reference.handlers = handlers
      return (handlers, before)
    }
    // After the last event there is nothing to handle.
    guard let handlers else { return }
    if wanted == .forMessages {
      // What is replaced is released without the lock.
      let replaced = handlers.table.withLock { change(&$0) }
      _ = consume replaced
    }
    guard before < wanted else { return }
    port.core.configure(self) { [requests] receiver in
      receiver.isForAnswersOnly = wanted == .forAnswers
      guard before == .not else { return }
      receiver.handlers.onMessage = dispatching(to: handlers)
      receiver.handlers.onEnd = { reason in requests.end(reason) }
      receiver.isStarted = true
    }
    if before == .not, let reason = port.core.deliveredClose { requests.end(.peerClosed(reason)) }
  }

  func dispatching(to handlers: NamedHandlers) -> @Sendable (MessageEvent) -> Void {
    { [weak self] event in self?.dispatch(event, handlers) }
  }

  private func dispatch(_ event: MessageEvent, _ handlers: NamedHandlers) {
    guard let envelope = NamedEnvelope.open(event) else {
      onMessageError?(.undecodable(NamedEnvelope.Malformed()))
      return
    }
    guard envelope.kind == .message else { return requests.take(envelope, over: self, handlers) }
    let handler = handlers.table.withLock { table -> Handler? in
      guard let entry = table.named[envelope.name] else { return table.unhandled }
      if entry.isOnce { table.named[envelope.name] = nil }
      return entry.handler
    }
    handler?(ConnectionEvent(name: envelope.name, message: envelope.body, connection: self))
  }

  // MARK: The end

  /// Is called once, after the last message, when the other process has ended or disconnected.
  public var onClose: (@Sendable (CloseReason) -> Void)? {
    get { port.onClose }
    set { port.onClose = newValue }
  }

  /// See ``MessagePort/onMessageError``.
  public var onMessageError: (@Sendable (MessageError) -> Void)? {
    get { port.onMessageError }
    set { port.onMessageError = newValue }
  }

  /// Disconnects; see ``MessagePort/close()``.
  public func close() { port.close() }

  /// See ``MessagePort/isClosed``.
  public var isClosed: Bool { port.isClosed }

  /// See ``MessagePort/isPeerClosed``.
  public var isPeerClosed: Bool { port.isPeerClosed }
}

/// A message that came over a connection.
public struct ConnectionEvent: Sendable {
  /// The channel name it was posted under.
  public let name: String
  /// Its content and ports.
  public let message: MessageEvent
  /// The connection it came from: answer there.
  public let connection: Connection

  /// See ``MessageEvent/ports``.
  public var ports: [MessagePort] { message.ports }
  /// See ``MessageEvent/byteCount``.
  public var byteCount: Int { message.byteCount }
  /// See ``MessageEvent/bytes``.
  public var bytes: [UInt8] { message.bytes }

  /// See ``MessageEvent/withBytes(_:)``.
  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result { try message.withBytes(body) }

  /// See ``MessageEvent/load(as:)``.
  public func load<Value: PlainValue>(as type: Value.Type) throws(PortError) -> Value { try message.load(as: type) }

  /// See ``MessageEvent/unsafeLoad(as:)``.
  @unsafe
  public func unsafeLoad<Value: BitwiseCopyable>(as type: Value.Type) throws(PortError) -> Value {
    try unsafe message.unsafeLoad(as: type)
  }

  /// See ``MessageEvent/decode(_:coder:)``.
  public func decode<Value: Decodable>(
    _ type: Value.Type, coder: any MessageCoder = MessageCoders.current
  ) throws(PortError) -> Value { try message.decode(type, coder: coder) }

  /// See ``MessageEvent/decode(_:)``.
  @inlinable
  public func decode<Value: MessageValue>(_ type: Value.Type) throws(PortError) -> Value { try message.decode(type) }
}

/// Who was at the other end of a connection when it was made, as the kernel says.
public struct PeerCredentials: Sendable, Hashable {
  /// Of the process that connected, or listened. It may have ended, and its number may have been given to another.
  public let processIdentifier: Int32
  /// The effective user of that process.
  public let userIdentifier: UInt32
  /// The effective group of that process.
  public let groupIdentifier: UInt32

  /// Whoever was at the other end of a socket when it was connected; `nil` if the kernel does not say.
  init?(of socket: CInt) {
    var credentials = csupport_credentials()
    guard unsafe csupport_socket_peer(socket, &credentials) >= 0 else { return nil }
    processIdentifier = credentials.pid
    userIdentifier = credentials.uid
    groupIdentifier = credentials.gid
  }
}

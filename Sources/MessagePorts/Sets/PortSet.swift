import SharedRing

/// Waits for whichever of many ports has something: a message, or its end.
///
/// ```swift
/// func serve(_ ports: [MessagePort]) throws {
///   let set = try PortSet(ports)
///   while set.count > 0 {
///     guard case .port(let port) = try set.firstReady() else { continue }
///     switch try port.tryReceive() {
///     case .message(let event): print(event.byteCount)
///     case .closed(let reason):
///       print("gone: \(reason)")
///       set.remove(port)
///     case .empty: break
///     }
///   }
/// }
/// ```
///
/// A set takes no messages, and starts no port. It says which port has something, and says so again until the message is
/// taken; whoever is told takes it with ``MessagePort/tryReceive()``. A port that was told of comes after all others that have
/// something. One that is at its end is told of once, and is no longer in the set then: because the other end is gone and
/// everything was received, or because it was closed, transferred or split here.
///
/// Three ways to wait, which may be mixed: ``firstReady(timeout:)`` blocks a thread, ``firstReady()`` suspends a task, and
/// ``descriptor`` is for a loop that waits for descriptors, such as `poll`, epoll, GLib, libuv or SwiftNIO. No handler of the
/// program's is called.
///
/// What a call costs does not depend on how many ports are in the set, but on how many have had something since the last one.
/// Ports whose other end is in another process are listened for by their event loops: a message costs a wake-up of that loop's
/// thread besides. A loop that was stopped hears nothing, until its ports are given to another one
/// (``MessagePort/setEventLoop(_:)``).
///
/// A set keeps its ports alive. When it is released, they are as they were before.
///
/// In a process that was forked without an exec, sets that existed before throw ``PortError/closed``: see the article "Programs
/// that fork".
///
/// Thread safety: any thread may use any member; those that wait at the same time may be told of the same port.
public final class PortSet: Sendable {
  private let ownReadiness = ReadySet()
  private let mark = ProcessMark.current

  /// What is in a set.
  public enum Member: Sendable {
    /// A port.
    case port(MessagePort)
    /// A connection.
    case connection(Connection)
  }

  /// An empty set. Needs nothing of the system.
  public init() {}

  /// A set of these ports.
  ///
  /// - Throws: see ``add(_:)-(MessagePort)``; then none of them is in a set because of this.
  public convenience init(_ ports: some Sequence<MessagePort>) throws(PortError) {
    self.init()
    for port in ports { try add(port) }
  }

  deinit { if !mark.isInherited { ownReadiness.dissolve() } }

  /// This process's.
  func readiness() throws(PortError) -> ReadySet {
    if mark.isInherited { throw .closed }
    return ownReadiness
  }

  // MARK: What is in it

  /// Puts a port into the set. If it has something already, the set tells of it.
  ///
  /// A message handler that is set later takes the messages, and so do tasks that wait for one: the set tells of messages only
  /// while there are none of those.
  ///
  /// - Throws: ``PortError/closed`` or ``PortError/detached``; ``PortError/notWaitable(_:)`` for a port that is in a set
  ///   already, or has a message handler. Then nothing has changed.
  /// - Complexity: O(1). Never blocks.
  public func add(_ port: MessagePort) throws(PortError) { try readiness().add(.port(port)) }

  /// Puts a connection into the set, as ``add(_:)-(MessagePort)`` does a port. Take its messages with
  /// ``Connection/tryReceive()``.
  ///
  /// A connection that has sent a request has a message handler, which takes the answer.
  public func add(_ connection: Connection) throws(PortError) { try readiness().add(.connection(connection)) }

  /// Takes a port out of the set, which does not tell of it any more. Returns whether it was there.
  ///
  /// A call that another thread has begun may still be about to return it.
  @discardableResult
  public func remove(_ port: MessagePort) -> Bool { removeMember(ObjectIdentifier(port)) }

  /// Takes a connection out of the set; see ``remove(_:)-(MessagePort)``.
  @discardableResult
  public func remove(_ connection: Connection) -> Bool { removeMember(ObjectIdentifier(connection)) }

  private func removeMember(_ id: ObjectIdentifier) -> Bool {
    guard let readiness = try? readiness() else { return false }
    return readiness.remove(id)
  }

  /// How many ports and connections are in the set. One that has come to its end counts until it was told of.
  public var count: Int { (try? readiness())?.count ?? 0 }
}

extension PortSet.Member {
  var core: PortCore {
    switch self {
    case .port(let port): port.core
    case .connection(let connection): connection.port.core
    }
  }

  var id: ObjectIdentifier {
    switch self {
    case .port(let port): ObjectIdentifier(port)
    case .connection(let connection): ObjectIdentifier(connection)
    }
  }
}

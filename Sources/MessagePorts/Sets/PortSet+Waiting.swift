import SharedRing

// The ways to wait for a set.

extension PortSet {
  /// The next port or connection of the set that has something, if there is one. Never blocks.
  ///
  /// It has a message, or has come to its end: its `tryReceive()` says which. That may find nothing, if another thread is
  /// faster, or the message turns out to be none. If it finds the end instead of a message, the set tells of that once more,
  /// unless the port is taken out. If it throws ``PortError/system(_:)`` because there are not enough descriptors, the set tells
  /// of the message again once there are.
  ///
  /// - Throws: ``PortError/closed`` in a process that was forked off after the set was made.
  /// - Complexity: O(ports that have had something since they were last told of, and have nothing now).
  public func nextReady() throws(PortError) -> Member? { try readiness().next() }

  /// Waits for a port or a connection that has something; see ``nextReady()``.
  ///
  /// Blocks the thread, which does not spin. If the set is empty, waits for whoever puts something into it.
  ///
  /// - Parameter timeout: how long to wait at most; `nil`: as long as it takes.
  /// - Throws: ``PortError/timedOut``; ``PortError/notWaitable(_:)`` on the thread of an event loop that listens for one of the
  ///   ports; ``PortError/closed`` as ``nextReady()``.
  public func firstReady(timeout: Duration? = nil) throws(PortError) -> Member {
    try readiness().first(deadline: Deadline.after(timeout))
  }

  /// Waits for a port or a connection that has something, as ``firstReady(timeout:)`` does, without blocking the thread.
  ///
  /// - Throws: ``PortError/cancelled`` if the task is cancelled; ``PortError/closed`` as ``nextReady()``.
  public func firstReady() async throws(PortError) -> Member { try await readiness().first() }

  /// A descriptor that is readable as long as the set has something to tell, for a loop that waits for descriptors. Made when
  /// it is first asked for.
  ///
  /// When it is readable, call ``nextReady()``, once or until it returns `nil`. It may be readable although there is nothing:
  /// then that call returns `nil`, and the descriptor is readable no more. A loop that cannot help reading what is readable
  /// may read eight bytes at a time, if it calls ``nextReady()`` until that returns `nil` each time.
  ///
  /// It is the set's, which closes it when it is released: a loop that closes what it was given gets a duplicate. Do not write
  /// to it.
  ///
  /// - Throws: ``PortError/system(_:)`` if the system has no descriptor; the set is as it was. ``PortError/closed`` as
  ///   ``nextReady()``.
  public var descriptor: CInt {
    get throws(PortError) { try readiness().descriptor() }
  }
}

extension MessagePort {
  /// Waits for whichever of `ports` has something, and returns that: the first in the list if there are several.
  ///
  /// It has a message, or has come to its end; ``tryReceive()`` says which. Blocks the thread.
  ///
  /// Makes a ``PortSet`` for the time of the call: to wait more than once, make one yourself.
  ///
  /// - Throws: ``PortError/timedOut``; ``PortError/invalidOption(_:)`` for an empty list; what
  ///   ``PortSet/add(_:)-(MessagePort)`` and ``PortSet/firstReady(timeout:)`` throw. Nothing is lost.
  /// - Complexity: O(ports).
  public static func firstReady(of ports: [MessagePort], timeout: Duration? = nil) throws(PortError) -> MessagePort {
    try set(of: ports).firstReady(timeout: timeout).onlyPort
  }

  /// The same without blocking the thread; see ``PortSet/firstReady()``.
  public static func firstReady(of ports: [MessagePort]) async throws(PortError) -> MessagePort {
    try await set(of: ports).firstReady().onlyPort
  }

  private static func set(of ports: [MessagePort]) throws(PortError) -> PortSet {
    guard !ports.isEmpty else { throw .invalidOption("a list of ports to wait for is empty") }
    return try PortSet(ports)
  }
}

extension PortSet.Member {
  fileprivate var onlyPort: MessagePort {
    guard case .port(let port) = self else { preconditionFailure("a connection in a list of ports") }
    return port
  }
}

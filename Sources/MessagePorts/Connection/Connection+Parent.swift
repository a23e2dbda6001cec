import CSupport
import Glibc
import SharedRing

extension Connection {
  /// The connection to the process that has started this one with
  /// ``WorkerProcess/spawn(_:arguments:environment:process:options:loop:)-(String,_,_,_,_,_)``.
  ///
  /// The same object each time; the library keeps it for the life of the process.
  ///
  /// - Throws: as ``parent(options:)``.
  public static var parent: Connection {
    get throws(ConnectionError) { try parent(options: ChannelOptions()) }
  }

  /// The same, with options of this end's own.
  ///
  /// - Parameter options: of the connection; its limits are what the parent chose. Only the first call that returns, of
  ///   this or of ``parent``, makes the connection: the options of later ones are without effect.
  /// - Throws: ``ConnectionError/noParent`` if there is none: a descriptor that is not the parent's stays as it is.
  ///   ``ConnectionError/versionDiffers(ours:theirs:)`` if the parent was built with an incompatible version of this
  ///   library; ``ConnectionError/notAMessagePort`` if what it has sent cannot be accepted (unsealed memory, with
  ///   ``ChannelOptions/acceptsUnsealedMemory`` off); ``ConnectionError/invalidOption(_:)``.
  ///   ``ConnectionError/system(_:)`` if this process has no descriptor free: ask again when it has.
  public static func parent(options: ChannelOptions) throws(ConnectionError) -> Connection {
    do throws(PortError) { try options.validate() } catch { throw .invalidOption("\(error)") }
    return try ParentSocket.connection(options)
  }
}

/// The descriptor on which a worker finds its connection.
enum ParentSocket {
  /// Says on which descriptor, and which inode that is: a grandchild inherits the variable and not the socket.
  static let variable = "MESSAGEPORTS_PARENT"

  /// - Parameters:
  ///   - socket: the worker's end, as this process has it.
  ///   - number: the worker's number for it.
  static func value(for socket: CInt, as number: CInt) throws(SystemError) -> String {
    try "\(number):\(ChannelMemory.fileFacts(socket).inode)"
  }

  /// What came of the parent's hello, which can be read once.
  private static let outcome = PerProcess<Result<Connection, ConnectionError>?> { nil }

  static func connection(_ options: ChannelOptions) throws(ConnectionError) -> Connection {
    let result = try outcome.withLock { (outcome) throws(ConnectionError) -> Result<Connection, ConnectionError> in
      if let outcome { return outcome }
      let socket = try find()
      let result: Result<Connection, ConnectionError>
      do throws(ConnectionError) { result = .success(try open(socket, options)) } catch { result = .failure(error) }
      outcome = result
      return result
    }
    return try result.get()
  }

  /// The descriptor, if it is what the variable says.
  private static func find() throws(ConnectionError) -> CInt {
    guard let value = Environment.value(variable) else { throw .noParent }
    let parts = value.split(separator: ":")
    guard parts.count == 2, let socket = CInt(parts[0]), let inode = UInt64(parts[1]), socket > 2,
      let facts = try? ChannelMemory.fileFacts(socket), facts.inode == inode,
      csupport_socket_is_seqpacket(socket) == 1, csupport_socket_may_reach_server(socket) == 0
    else { throw .noParent }
    // The hello's descriptor would be lost without a free number.
    let free = csupport_eventfd_create()
    if free < 0 { throw .system(SystemError(call: "eventfd", errno: -free)) }
    _ = csupport_close(free)
    return socket
  }

  private static func open(_ socket: CInt, _ options: ChannelOptions) throws(ConnectionError) -> Connection {
    _ = csupport_adopt(socket)
    let socket = PacketSocket(owning: socket)
    switch Handshake.readHello(socket, options) {
    case .accepted(let memory, let options):
      let channel = SharedChannel(memory: memory, socket: socket)
      // Whoever has started this process learns from that that somebody is here.
      channel.signal()
      let core = PortCore(newChannel: channel, end: 1, options: options, loop: .default)
      return Connection(port: MessagePort(core), peer: nil)
    case .refused(.versionDiffers, let theirs): throw .versionDiffers(ours: Handshake.version, theirs: theirs)
    case .refused: throw .notAMessagePort
    case .pending, .gone: throw .noParent
    case .short(let error): throw .system(error)
    }
  }
}

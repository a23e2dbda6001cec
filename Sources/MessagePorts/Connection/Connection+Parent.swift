import CSupport
import Glibc
import SharedRing
import Synchronization

extension Connection {
  /// The connection to the process that has started this one with ``WorkerProcess/spawn(_:arguments:environment:options:loop:)``.
  ///
  /// The same object each time; the library keeps it for the life of the process.
  ///
  /// - Throws: ``ConnectionError/noParent`` if there is none, and ``ConnectionError/versionDiffers(ours:theirs:)`` if the
  ///   parent was built with an incompatible version of this library.
  public static var parent: Connection {
    get throws(ConnectionError) { try ParentSocket.connection.get() }
  }
}

/// The descriptor on which a worker finds its connection.
enum ParentSocket {
  /// The first one that is free in a new process.
  static let descriptor: CInt = 3
  /// Says on which descriptor, and which inode that is: a grandchild inherits the variable and not the socket.
  static let variable = "MESSAGEPORTS_PARENT"

  static func environment(_ base: [String: String], socket: CInt) -> [String: String] {
    var environment = base
    let inode = (try? ChannelMemory.fileFacts(socket).inode) ?? 0
    environment[variable] = "\(descriptor):\(inode)"
    return environment
  }

  static let connection: Result<Connection, ConnectionError> = {
    do throws(ConnectionError) { return .success(try open()) } catch { return .failure(error) }
  }()

  private static func open() throws(ConnectionError) -> Connection {
    guard let value = Environment.value(variable) else { throw .noParent }
    let parts = value.split(separator: ":")
    guard parts.count == 2, let socket = CInt(parts[0]), let inode = UInt64(parts[1]), socket > 2,
      let facts = try? ChannelMemory.fileFacts(socket), facts.inode == inode, csupport_socket_is_seqpacket(socket) == 1
    else { throw .noParent }
    _ = csupport_set_close_on_exec(socket)
    switch Handshake.readHello(socket, ChannelOptions()) {
    case .accepted(let memory, let options):
      let channel = SharedChannel(memory: memory, owningSocket: socket)
      let core = PortCore(newChannel: channel, end: 1, options: options, loop: .default)
      return Connection(port: MessagePort(core), peer: nil)
    case .refused(.versionDiffers, let theirs): throw .versionDiffers(ours: Handshake.version, theirs: theirs)
    case .refused: throw .notAMessagePort
    case .pending, .gone: throw .noParent
    }
  }
}

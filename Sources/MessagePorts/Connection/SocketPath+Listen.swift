import CSupport
import Glibc
import SharedRing

/// A name that this process has bound, and nobody else's that may come to be called the same.
struct BoundName: Sendable {
  /// Absolute: the working directory may be another by the time the name is removed.
  private let bytes: [CChar]
  private let identity: csupport_path_identity

  /// `nil` if the name is not there any more.
  fileprivate init?(_ path: SocketPath) {
    var identity = csupport_path_identity()
    guard unsafe csupport_path_identity(path.bytes, &identity) == 0 else { return nil }
    self.identity = identity
    bytes = Self.absolute(path.bytes)
  }

  private static func absolute(_ path: [CChar]) -> [CChar] {
    let slash = CChar(bitPattern: UInt8(ascii: "/"))
    if path.first == slash { return path }
    var directory = [CChar](repeating: 0, count: Int(PATH_MAX))
    guard unsafe csupport_working_directory(&directory, directory.count) == 0 else { return path }
    return directory.prefix { $0 != 0 } + [slash] + path
  }

  fileprivate func isStill(_ path: SocketPath) -> Bool {
    var now = csupport_path_identity()
    guard unsafe csupport_path_identity(path.bytes, &now) == 0 else { return false }
    return now.device == identity.device && now.inode == identity.inode
  }

  /// Lets every process that can reach the path connect, as far as the file system is concerned.
  func openToAll() -> CInt { unsafe csupport_path_set_mode(bytes, 0o666) }

  /// Removes the name, if it is still this listener's.
  func remove() { _ = unsafe csupport_path_remove(bytes, identity) }
}

extension SocketPath {
  /// Binds a listening socket. A name left behind by a dead server is taken over; anything else is left alone.
  func listen(backlog: CInt) throws(ConnectionError) -> (socket: CInt, name: BoundName) {
    // Among servers that start together, a few rounds settle who has the name.
    for _ in 0..<16 {
      let lock = lockDirectory()
      defer { if lock >= 0 { _ = csupport_close(lock) } }
      let socket = unsafe csupport_socket_listen(bytes, backlog)
      if socket >= 0 {
        if let name = BoundName(self), name.isStill(self) { return (socket, name) }
        _ = csupport_close(socket)
        continue
      }
      guard socket == -EADDRINUSE else { throw ConnectionError(socket, "bind", path: path) }
      try removeDeadName()
    }
    throw .nameInUse(path: path)
  }

  /// Of two servers that find the same dead name, one must not remove the other's live one. The lock keeps honest ones
  /// apart, each for a moment. Whoever holds it for longer is not one of them and is not waited for, and a directory
  /// that cannot be read has none.
  private func lockDirectory() -> CInt {
    let slash = CChar(bitPattern: UInt8(ascii: "/"))
    var directory: [CChar] = [CChar(bitPattern: UInt8(ascii: ".")), 0]
    if let last = bytes.lastIndex(of: slash) { directory = last == 0 ? [slash, 0] : bytes[..<last] + [0] }
    for _ in 0..<50 {
      let lock = unsafe csupport_directory_lock(directory)
      guard lock == -EWOULDBLOCK || lock == -EINTR else { return lock }
      usleep(1000)
    }
    return -EWOULDBLOCK
  }

  private func removeDeadName() throws(ConnectionError) {
    // Looked at before the name is tried: if it is another's by then, that one is not removed.
    var identity = csupport_path_identity()
    _ = unsafe csupport_path_identity(bytes, &identity)
    switch kind {
    case CInt(CSUPPORT_PATH_ABSENT): return
    case CInt(CSUPPORT_PATH_SOCKET): break
    case let error where error < 0: throw ConnectionError(error, "lstat", path: path)
    default: throw .foreignFile(path: path)
    }
    if try isLive() { throw .nameInUse(path: path) }
    let result = unsafe csupport_path_remove(bytes, identity)
    if result < 0 && result != -ESTALE && result != -ENOENT { throw ConnectionError(result, "unlink", path: path) }
  }

  private func isLive() throws(ConnectionError) -> Bool {
    let socket = connect()
    if socket >= 0 { _ = csupport_close(socket) }
    switch -socket {
    case ECONNREFUSED, ENOENT: return false
    case EACCES, EPERM: throw .notPermitted(path: path)
    default: return true  // connected, too busy to answer, or a server of another kind
    }
  }
}

import CSupport
import Glibc
import SharedRing

/// The name that a listener binds and clients connect to.
///
/// A path without a slash lies in the user's runtime directory: `$XDG_RUNTIME_DIR`, else `/run/user/<uid>`, else a
/// directory of the user's own in `/tmp`.
struct SocketPath: Sendable {
  let path: String

  init(_ name: String) throws(ConnectionError) {
    path = name.utf8.contains(UInt8(ascii: "/")) ? name : try Self.runtimeDirectory() + "/" + name
    guard !name.isEmpty, !name.utf8.contains(0) else { throw .invalidOption("a socket's path is not empty") }
    let limit = Int(CSUPPORT_MAX_SOCKET_PATH)
    guard path.utf8.count <= limit else { throw .pathTooLong(path: path, limit: limit) }
  }

  private static func runtimeDirectory() throws(ConnectionError) -> String {
    if let directory = Environment.value("XDG_RUNTIME_DIR"), directory.hasPrefix("/") { return directory }
    let user = geteuid()
    if unsafe csupport_path_kind("/run/user/\(user)") == CInt(CSUPPORT_PATH_DIRECTORY) { return "/run/user/\(user)" }
    let directory = "/tmp/messageports-\(user)"
    let result = unsafe csupport_directory_make_private(directory)
    if result < 0 { throw ConnectionError(result, "mkdir", path: directory) }
    return directory
  }

  /// The directory that the path lies in.
  private var directory: String {
    guard let slash = path.utf8.lastIndex(of: UInt8(ascii: "/")) else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
  }

  /// Binds a listening socket. A name left behind by a dead server is taken over; anything else is left alone.
  func listen(backlog: CInt) throws(ConnectionError) -> CInt {
    // Of two that find the same dead name, one must not remove the other's live one.
    let lock = unsafe csupport_directory_lock(directory)
    if lock < 0 { throw ConnectionError(lock, "open", path: path) }
    defer { _ = csupport_close(lock) }
    let kind = unsafe csupport_path_kind(path)
    switch kind {
    case CInt(CSUPPORT_PATH_ABSENT): break
    case CInt(CSUPPORT_PATH_SOCKET):
      if try isLive() { throw .nameInUse(path: path) }
      _ = unsafe csupport_path_remove(path)
    case ..<0: throw ConnectionError(kind, "lstat", path: path)
    default: throw .foreignFile(path: path)
    }
    let socket = unsafe csupport_socket_listen(path, backlog)
    if socket < 0 { throw ConnectionError(socket, "bind", path: path) }
    return socket
  }

  private func isLive() throws(ConnectionError) -> Bool {
    let socket = unsafe csupport_socket_connect(path)
    if socket >= 0 { _ = csupport_close(socket) }
    switch -socket {
    case ECONNREFUSED, ENOENT: return false
    case EACCES, EPERM: throw .notPermitted(path: path)
    default: return true  // connected, too busy to answer, or a server of another kind
    }
  }

  func remove() { _ = unsafe csupport_path_remove(path) }
}

extension ConnectionError {
  /// What a negative result of the shim means for a connection.
  init(_ result: CInt, _ call: String, path: String) {
    switch -result {
    case EACCES, EPERM, EROFS: self = .notPermitted(path: path)
    case EADDRINUSE: self = .nameInUse(path: path)
    default: self = .system(SystemError(call: call, errno: -result))
    }
  }
}

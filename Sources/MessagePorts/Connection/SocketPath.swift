import CSupport
import Glibc
import SharedRing

/// The name that a listener binds and clients connect to.
///
/// A path without a slash lies in the user's runtime directory: `$XDG_RUNTIME_DIR`, else `/run/user/<uid>`, else a
/// directory of the user's own in `/tmp`.
struct SocketPath: Sendable {
  /// For people: what is not UTF-8 is replaced.
  let path: String
  /// For the kernel, byte for byte, with a zero at the end.
  let bytes: [CChar]

  init(_ name: String) throws(ConnectionError) {
    guard !name.isEmpty, !name.utf8.contains(0) else { throw .invalidOption("a socket's path is not empty") }
    var bytes: [UInt8] = []
    if !name.utf8.contains(UInt8(ascii: "/")) {
      bytes += try Self.runtimeDirectory()
      bytes.append(UInt8(ascii: "/"))
    }
    bytes += name.utf8
    path = String(decoding: bytes, as: UTF8.self)
    let limit = Int(CSUPPORT_MAX_SOCKET_PATH)
    guard bytes.count <= limit else { throw .pathTooLong(path: path, limit: limit) }
    self.bytes = (bytes + [0]).map(CChar.init(bitPattern:))
  }

  private static func runtimeDirectory() throws(ConnectionError) -> [UInt8] {
    if let text = unsafe getenv("XDG_RUNTIME_DIR"), unsafe text[0] == CChar(bitPattern: UInt8(ascii: "/")) {
      let count = unsafe strlen(text)
      return unsafe UnsafeBufferPointer(start: text, count: count).map(UInt8.init(bitPattern:))
    }
    let user = geteuid()
    let system = "/run/user/\(user)"
    if unsafe csupport_path_kind(system) == CInt(CSUPPORT_PATH_DIRECTORY) { return Array(system.utf8) }
    let directory = "/tmp/messageports-\(user)"
    let result = unsafe csupport_directory_make_private(directory)
    if result < 0 { throw ConnectionError(result, "mkdir", path: directory) }
    return Array(directory.utf8)
  }

  /// What is there now; negative: why that cannot be told.
  var kind: CInt { unsafe csupport_path_kind(bytes) }

  /// There is something that is no socket. A link may lead to one.
  var isForeign: Bool {
    var status = stat()
    guard unsafe stat(bytes, &status) == 0 else { return false }
    return status.st_mode & S_IFMT != S_IFSOCK
  }

  /// A connected socket, or a negative `errno`.
  func connect() -> CInt { unsafe csupport_socket_connect(bytes) }
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

import SharedRing

/// Why there is no connection.
public enum ConnectionError: Error, Sendable, Hashable {
  /// Nobody listens on the path, or nobody has answered in time.
  case noServer(path: String)
  /// A live server listens on the path already.
  case nameInUse(path: String)
  /// There is something on the path that no listener has made; it was left alone.
  case foreignFile(path: String)
  /// The path has no room in a socket's name.
  case pathTooLong(path: String, limit: Int)
  /// The system, or the server, lets this user not do that.
  case notPermitted(path: String)
  /// The other side speaks another version of the protocol.
  case versionDiffers(ours: UInt32, theirs: UInt32)
  /// The other side does not speak this protocol at all.
  case notAMessagePort
  /// No client has come in time.
  case timedOut
  /// The listener was closed, and all its connections are taken; or this process was forked off after it was made.
  case listenerClosed
  /// The waiting task was cancelled.
  case cancelled
  /// This program was not started by ``WorkerProcess``.
  case noParent
  /// There is no such program.
  case executableNotFound(String)
  /// The file that was to be a worker's standard input, output or error cannot be opened.
  case cannotOpen(path: String, SystemError)
  /// The system cannot confine a worker as was asked: bubblewrap is not installed, or may not do what it takes. The text says
  /// what is missing. No program has run.
  case confinementUnavailable(String)
  /// An option outside its range; the text names it.
  case invalidOption(String)
  /// Its memory cannot be locked, as ``ChannelOptions/residency`` asks for: so many bytes more would exceed what this process may
  /// lock, `RLIMIT_MEMLOCK`.
  case lockLimitExceeded(byteCount: Int, limit: Int)
  /// The operating system refused something.
  case system(SystemError)
}

extension ConnectionError {
  init(_ error: MemoryError) {
    switch error {
    case .lockLimit(let byteCount, let limit): self = .lockLimitExceeded(byteCount: byteCount, limit: limit)
    case .system(let error): self = .system(error)
    }
  }
}

/// What a worker has as its standard input, output or error.
public enum StandardStream: Sendable, Hashable {
  /// What this process has, if it has any.
  case inherit
  /// `/dev/null`: nothing comes, and what is written is lost.
  case null
  /// A new pipe. This process's end is had from ``WorkerProcess/takePipe(_:)``.
  case pipe
  /// A file. As input, it has to exist; as output, it is made if it does not, and otherwise emptied, unless `append` is set.
  case file(String, append: Bool = false)
  /// A descriptor of this process, which keeps it.
  case descriptor(CInt)
}

/// A standard descriptor of a worker; the raw value is its number there.
public enum StandardDescriptor: CInt, Sendable, Hashable, CaseIterable {
  /// What the worker reads.
  case input = 0
  /// What the worker writes.
  case output = 1
  /// What the worker, and Swift's runtime in it, complains to.
  case error = 2
}

import Glibc

/// What a worker's process has otherwise than the one that starts it. By default: nothing.
///
/// A value; the options of one worker do not change with later changes to it.
public struct WorkerOptions: Sendable {
  /// What the worker reads from descriptor 0.
  public var standardInput = StandardStream.inherit
  /// What the worker writes to descriptor 1.
  public var standardOutput = StandardStream.inherit
  /// What the worker writes to descriptor 2.
  public var standardError = StandardStream.inherit

  /// Where the worker starts; `nil`: where this process is. Of a confined worker, a directory that it can see.
  public var workingDirectory: String?

  /// Further descriptors that the worker has from the start: its number there, and this process's, which stays as it is.
  /// Numbers from 3 on. The connection takes the lowest one that is left.
  public var descriptors: [CInt: CInt] = [:]

  /// Which processes the worker belongs with, for the terminal's signals and for `kill` of a whole group.
  public enum Session: Sendable, Hashable {
    /// Those that this process belongs with.
    case inherited
    /// A new process group in the same session: a Ctrl-C at the terminal does not reach it.
    case newGroup
    /// A new session without a terminal.
    case newSession
  }
  /// Which processes the worker belongs with.
  public var session = Session.inherited

  /// The signal that the worker gets when this process ends, however it ends; `nil`: none, but its connection closes.
  ///
  /// It counts from before the worker's program is loaded. The kernel forgets it when that program is set-user-ID. Costs a
  /// thread of this process for as long as the worker lives: to the kernel, the parent is the thread.
  public var parentDeathSignal: CInt?

  /// Limits of what the worker may use, soft and hard alike; those left out are this process's.
  public var limits: [ResourceLimit: UInt64] = [:]

  /// Keeps the worker from everything but its connection and what is named here; `nil`: it may do what this process may.
  public var confinement: Confinement?

  /// Nothing differs.
  public init() {}
}

/// A resource that the kernel can limit for a process; see `setrlimit(2)`.
public enum ResourceLimit: Sendable, Hashable, CaseIterable {
  /// Addresses in use, in bytes. A channel's memory counts, and Swift's runtime takes some 100 MiB.
  case addressSpace
  /// The size of a core dump, in bytes.
  case coreDump
  /// Processor time, in seconds; then SIGXCPU.
  case processorTime
  /// The highest descriptor, plus one.
  case descriptors
  /// The size of any file that it writes, in bytes; then SIGXFSZ.
  case fileSize
  /// Memory that is locked, in bytes.
  case lockedMemory
  /// Processes and threads of its user.
  case processes
  /// The main thread's stack, in bytes.
  case stack

  var number: CInt {
    switch self {
    case .addressSpace: CInt(RLIMIT_AS.rawValue)
    case .coreDump: CInt(RLIMIT_CORE.rawValue)
    case .processorTime: CInt(RLIMIT_CPU.rawValue)
    case .descriptors: CInt(RLIMIT_NOFILE.rawValue)
    case .fileSize: CInt(RLIMIT_FSIZE.rawValue)
    case .lockedMemory: CInt(__RLIMIT_MEMLOCK.rawValue)
    case .processes: CInt(__RLIMIT_NPROC.rawValue)
    case .stack: CInt(RLIMIT_STACK.rawValue)
    }
  }
}

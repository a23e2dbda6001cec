import CSupport
import Glibc

/// A worker that has its connection, the files named here, and nothing else.
///
/// Asked for with ``WorkerOptions/confinement``, and made by bubblewrap (`bwrap`), which has to be installed. The worker lives in
/// user, process, network, interprocess and host-name namespaces of its own, with a `/proc` that shows itself alone, without
/// capabilities, and without a way to new privileges. Descriptors that it is given, and ports that it is sent, are its whole
/// world: they work as they do anywhere.
///
/// What it is *not*: a filter of system calls, or a limit of processor time or memory; for those see
/// ``WorkerOptions/limits``. The kernel itself is within the worker's reach.
public struct Confinement: Sendable, Hashable {
  /// Files and directories that the worker sees, under the same names. Absolute paths. Its own program is added.
  public var readablePaths: [String]
  /// The same, for writing, too.
  public var writablePaths: [String]
  /// Gives it a `/dev` with `null`, `zero`, `full`, `random`, `urandom` and `tty`.
  public var hasDevices = false
  /// Gives it an empty `/tmp` in memory of its own.
  public var hasTemporaryDirectory = false
  /// Leaves it in this process's network. Names of listening sockets are files: they are not part of it.
  public var sharesNetwork = false

  /// - Parameters:
  ///   - readablePaths: see ``readablePaths``. A program that is linked dynamically needs its interpreter and libraries; of this
  ///     program, they are ``filesOfThisProgram``.
  ///   - writablePaths: see ``writablePaths``.
  public init(readablePaths: [String] = [], writablePaths: [String] = []) {
    self.readablePaths = readablePaths
    self.writablePaths = writablePaths
  }

  /// The executable of this program and the libraries that it has loaded so far, under the names by which they are found: what
  /// ``WorkerProcess/KnownProgram/thisProgram`` needs to start.
  public static var filesOfThisProgram: [String] {
    var names: Set<String> = []
    unsafe withUnsafeMutablePointer(to: &names) { names in
      unsafe csupport_loaded_files(
        { names, name in
          guard let names = unsafe names?.assumingMemoryBound(to: Set<String>.self), let name = unsafe name else {
            return
          }
          unsafe names.pointee.insert(String(cString: name))
        }, names)
    }
    if let executable = Program.pathOfThisProgram { names.insert(String(decoding: executable, as: UTF8.self)) }
    return names.filter { $0.hasPrefix("/") }.sorted()
  }
}

/// How a confined worker was confined, as the kernel told once it was.
public struct GrantedConfinement: Sendable, Hashable {
  /// Something of the system that a process can have to itself.
  public enum Namespace: String, Sendable, Hashable, CaseIterable {
    /// Users, and what root may do.
    case user
    /// Files: which are there, and where.
    case files = "mnt"
    /// Processes that can be seen and signalled.
    case processes = "pid"
    /// Network devices and addresses, and abstract socket names.
    case network = "net"
    /// System V and POSIX message queues, semaphores and shared memory.
    case interprocess = "ipc"
    /// The host's name.
    case hostName = "uts"
    /// The control groups that can be seen.
    case controlGroups = "cgroup"
  }

  /// What was asked for.
  public let asked: Confinement
  /// What the worker has to itself.
  public let namespaces: Set<Namespace>
  /// No program that the worker executes can get it more privileges than it has.
  public let hasNoNewPrivileges: Bool
  /// The capabilities that the worker, or a program that it executes, can have: a bit for each, 0 for none.
  public let capabilities: UInt64

  /// What is missing of what was asked for; `nil`: nothing.
  var shortcoming: String? {
    var expected: Set<Namespace> = [.user, .files, .processes, .network, .interprocess, .hostName]
    if asked.sharesNetwork { expected.remove(.network) }
    let missing = expected.subtracting(namespaces).map(\.rawValue).sorted()
    if !missing.isEmpty { return "no namespace of its own: \(missing.joined(separator: ", "))" }
    if !hasNoNewPrivileges { return "it could get new privileges" }
    if capabilities != 0 { return "it has capabilities" }
    return nil
  }
}

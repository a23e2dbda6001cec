/// What a machine offers message ports, found by trying and by reading `/proc` and `/sys`: facts, no opinions.
///
/// A fact is `nil` if it could not be found, or if this kernel has no such thing.
package struct MachineFacts: Codable, Hashable, Sendable {
  /// As `uname -r` says.
  package var kernelRelease: String
  package var overrides = Overrides()
  package var eventLoop: EventLoopFacts
  package var memory: MemoryFacts
  package var processes: ProcessFacts
  package var limits: LimitFacts
  package var sockets: SocketFacts
  package var sandbox: SandboxFacts
}

/// What the environment says, verbatim.
package struct Overrides: Codable, Hashable, Sendable {
  /// `MESSAGEPORTS_DRIVER`
  package var driver: String?
  /// `MESSAGEPORTS_BACKING`
  package var backing: String?

  package init(driver: String? = nil, backing: String? = nil) {
    self.driver = driver
    self.backing = backing
  }
}

package struct EventLoopFacts: Codable, Hashable, Sendable {
  /// Whether io_uring can be set up.
  package var uring: Outcome
  /// Futex waits on io_uring, tried out with a real wake-up.
  package var uringFutexWaits: Bool
  package var uringPolls: Bool
  /// The setting `kernel.io_uring_disabled`; kernels before 6.6 have none.
  package var uringDisabled: Int?
  /// `Seccomp:` of this process: 0 none, 1 strict, 2 filtered, as in containers.
  package var seccompMode: Int?
  package var epoll: Outcome
  /// What an event loop made here sleeps on; `nil` if none could be made.
  package var driver: String?
}

package struct MemoryFacts: Codable, Hashable, Sendable {
  /// A channel's memory, made with `memfd_create` and sealed.
  package var memfd: MemoryTrial
  /// The setting `vm.memfd_noexec`; kernels before 6.3 have none.
  package var memfdNoexec: Int?
  /// A channel's memory, made with `shm_open`.
  package var posixSharedMemory: MemoryTrial
  /// `/dev/shm`, where `shm_open` puts its files.
  package var devShm: FileSystemFacts?
  package var cgroup: CgroupMemory?
}

/// Memory that was made, then treated as ports treat it.
package struct MemoryTrial: Codable, Hashable, Sendable {
  package var creation: Outcome
  /// Growing the file as far as lanes may grow.
  package var growth: Outcome
  /// The kernel says that it is sealed against shrinking, and an attempt to shrink it was refused.
  package var refusesToShrink: Bool

  package init(creation: Outcome, growth: Outcome, refusesToShrink: Bool) {
    self.creation = creation
    self.growth = growth
    self.refusesToShrink = refusesToShrink
  }
}

package struct FileSystemFacts: Codable, Hashable, Sendable {
  package var sizeBytes: UInt64
  package var freeBytes: UInt64
}

/// The tightest memory limit of the control groups that this process is in.
package struct CgroupMemory: Codable, Hashable, Sendable {
  package var limitBytes: UInt64
  package var usedBytes: UInt64?
  /// The file that sets the limit.
  package var path: String

  package init(limitBytes: UInt64, usedBytes: UInt64?, path: String) {
    self.limitBytes = limitBytes
    self.usedBytes = usedBytes
    self.path = path
  }
}

package struct ProcessFacts: Codable, Hashable, Sendable {
  /// How many processors this process may run on.
  package var usableProcessors: Int
  package var membarrier: Bool
  package var pidfd: Outcome
  package var isRoot: Bool
}

package struct LimitFacts: Codable, Hashable, Sendable {
  /// RLIMIT_NOFILE
  package var openFiles: ResourceLimit
  /// RLIMIT_FSIZE
  package var fileSizeBytes: ResourceLimit
  /// RLIMIT_AS
  package var addressSpaceBytes: ResourceLimit
  /// The setting `fs.nr_open`: as far as a process's limit on open files can be raised.
  package var openFilesCeiling: UInt64?
  /// The setting `fs.file-max`, for the whole system.
  package var systemFiles: UInt64?
  package var systemFilesInUse: UInt64?
  /// The setting `vm.max_map_count`, for each process.
  package var mappings: UInt64?
  /// How many this process has: about as many as any Swift program before its first port.
  package var mappingsInUse: UInt64?
}

package struct SocketFacts: Codable, Hashable, Sendable {
  package var pair: Outcome
  /// The settings `net.core.wmem_default` and `net.core.wmem_max`.
  package var defaultSendBufferBytes: UInt64?
  package var largestSendBufferBytes: UInt64?
  /// What a socket was given when it asked for as much as a port does.
  package var raisedSendBufferBytes: UInt64?
  /// The setting `net.unix.max_dgram_qlen`.
  package var datagramQueueLength: UInt64?
}

package struct SandboxFacts: Codable, Hashable, Sendable {
  /// The setting `user.max_user_namespaces`.
  package var userNamespaces: UInt64?
  /// The setting `kernel.unprivileged_userns_clone` of Debian's kernels.
  package var unprivilegedUserNamespaces: Int?
  /// The setting `kernel.apparmor_restrict_unprivileged_userns` of Ubuntu's kernels.
  package var apparmorRestrictsUserNamespaces: Int?
  /// `nil` if the search path has none.
  package var bubblewrap: Bubblewrap?
}

package struct Bubblewrap: Codable, Hashable, Sendable {
  package var path: String
  /// Its complaint when it failed to make a sandbox; `nil` if it made one.
  package var complaint: String?

  package init(path: String, complaint: String? = nil) {
    self.path = path
    self.complaint = complaint
  }
}

import CSupport
import Glibc

extension MachineFacts {
  /// Finds out everything. Leaves nothing behind but the default event loop, which has not started.
  package static func gather() -> MachineFacts {
    let files = KernelFiles.real
    // The event loop comes last: it keeps its descriptors, which may be scarce.
    let memory = MemoryFacts.gather(files)
    let sockets = SocketFacts.gather(files)
    let processes = ProcessFacts.gather()
    let sandbox = SandboxFacts.gather(files)
    let limits = LimitFacts.gather(files)
    return MachineFacts(
      kernelRelease: files.words("/proc/sys/kernel/osrelease").first.map(String.init) ?? "unknown",
      overrides: Overrides(
        driver: environmentVariable("MESSAGEPORTS_DRIVER"), backing: environmentVariable("MESSAGEPORTS_BACKING")),
      eventLoop: .gather(files), memory: memory, processes: processes, limits: limits, sockets: sockets,
      sandbox: sandbox)
  }
}

func environmentVariable(_ name: String) -> String? {
  guard let text = unsafe getenv(name) else { return nil }
  return unsafe String(cString: text)
}

// MARK: - Processes and limits

extension ProcessFacts {
  static func gather() -> ProcessFacts {
    let pidfd = csupport_pidfd_open(getpid())
    if pidfd >= 0 { _ = csupport_close(pidfd) }
    return ProcessFacts(
      usableProcessors: Int(csupport_usable_processors()), membarrier: csupport_membarrier_is_available() == 1,
      pidfd: Outcome(result: pidfd), isRoot: geteuid() == 0)
  }
}

extension LimitFacts {
  static func gather(_ files: KernelFiles) -> LimitFacts {
    LimitFacts(
      openFiles: ResourceLimit(RLIMIT_NOFILE), fileSizeBytes: ResourceLimit(RLIMIT_FSIZE),
      addressSpaceBytes: ResourceLimit(RLIMIT_AS), openFilesCeiling: files.setting("fs.nr_open"),
      systemFiles: files.setting("fs.file-max"), systemFilesInUse: files.setting("fs.file-nr"),
      mappings: files.setting("vm.max_map_count"), mappingsInUse: files.lineCount("/proc/self/maps"))
  }
}

extension ResourceLimit {
  fileprivate init(_ resource: __rlimit_resource) {
    var limit = rlimit()
    // Cannot fail: the resource exists on every Linux, and the address is valid.
    _ = unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit)
    self.init(soft: Limit(limit.rlim_cur), hard: Limit(limit.rlim_max))
  }
}

extension Limit {
  /// RLIM_INFINITY, a macro that Swift does not see, is the largest number.
  fileprivate init(_ number: rlim_t) { self = number == .max ? .unlimited : .finite(UInt64(number)) }
}

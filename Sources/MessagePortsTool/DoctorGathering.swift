import CSupport
import Glibc
import MessagePorts

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

// MARK: - Event loop

extension EventLoopFacts {
  static func gather(_ files: KernelFiles) -> EventLoopFacts {
    let uring = csupport_uring_probe()
    let (epoll, driver) = withoutStandardError {
      let epoll = epollWorks()
      // Making a loop without the descriptors that it needs would end the process.
      return (epoll, epoll.worked ? EventLoop.default.driver.rawValue : nil)
    }
    return EventLoopFacts(
      uring: Outcome(result: uring),
      uringFutexWaits: uring >= 0 && uring & CInt(CSUPPORT_URING_FUTEX_WAIT) != 0,
      uringPolls: uring >= 0 && uring & CInt(CSUPPORT_URING_POLL) != 0,
      uringDisabled: files.setting("kernel.io_uring_disabled"),
      seccompMode: files.status("Seccomp"),
      epoll: epoll, driver: driver)
  }

  /// Makes what every event loop needs, whatever it sleeps on.
  private static func epollWorks() -> Outcome {
    let epoll = csupport_epoll_create()
    guard epoll >= 0 else { return Outcome(result: epoll) }
    defer { _ = csupport_close(epoll) }
    let eventfd = csupport_eventfd_create()
    guard eventfd >= 0 else { return Outcome(result: eventfd) }
    defer { _ = csupport_close(eventfd) }
    var event = csupport_event()
    var result = csupport_epoll_add(epoll, eventfd, UInt32(CSUPPORT_EVENT_IN), 1)
    if result >= 0 { result = csupport_eventfd_signal(eventfd) }
    if result >= 0 { result = unsafe csupport_epoll_wait(epoll, &event, 1, 0) }
    return Outcome(result: result)
  }

  /// The event loop logs its choice to standard error, and the doctor says the same at more length.
  private static func withoutStandardError<Result>(_ body: () -> Result) -> Result {
    let kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)
    let null = unsafe open("/dev/null", O_WRONLY | O_CLOEXEC)
    if kept >= 0, null >= 0 { _ = dup2(null, STDERR_FILENO) }
    defer {
      if kept >= 0, null >= 0 { _ = dup2(kept, STDERR_FILENO) }
      for fd in [kept, null] where fd >= 0 { _ = csupport_close(fd) }
    }
    return body()
  }
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

import CSupport
import Glibc
import MessagePorts

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

  /// The event loop logs its choice to standard error; the doctor says the same at more length.
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

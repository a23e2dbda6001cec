import CSupport
import Logging
import SharedRing

/// Which driver works here, found out by trying, once for the process.
enum LoopProbe {
  /// What io_uring offers: the bits of `csupport_uring_probe`, or a negative error.
  static let uring: CInt = csupport_uring_probe()

  static let needed = CInt(CSUPPORT_URING_SETUP | CSUPPORT_URING_FUTEX_WAIT | CSUPPORT_URING_POLL)

  static var uringWorks: Bool { uring >= 0 && uring & needed == needed }

  /// Why io_uring is not used, for people.
  static var uringProblem: String? {
    if uring < 0 { return SystemError(call: "io_uring_setup", errno: -uring).description }
    if uring & needed == needed { return nil }
    return "the kernel's io_uring has no futex waits (they came with Linux 6.7)"
  }

  static func choose(_ requested: EventLoop.Driver?) -> EventLoop.Driver {
    let wanted = requested ?? Environment.driver
    switch wanted {
    case .epoll:
      Log.logger.debug("event loop on epoll, as asked for")
      return .epoll
    case .uring, nil:
      if let problem = uringProblem {
        Log.logger.notice("event loop on epoll: \(problem)")
        return .epoll
      }
      Log.logger.debug("event loop on io_uring")
      return .uring
    }
  }
}

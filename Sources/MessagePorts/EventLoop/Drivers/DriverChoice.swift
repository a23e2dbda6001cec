import CSupport
import Glibc
import Logging
import SharedRing

extension EventLoop {
  /// What a loop sleeps on.
  public enum Driver: String, Sendable, Hashable, CaseIterable {
    /// io_uring, with a futex wait for each port that waits for messages. The peer wakes the loop with one futex call.
    case uring
    /// epoll: for systems that forbid io_uring, and kernels whose io_uring has no futex waits, or unsafe ones. The peer
    /// wakes the loop with a packet on the socket.
    case epoll
  }
}

/// Which driver a loop gets, and why.
struct DriverChoice: Equatable {
  let driver: EventLoop.Driver
  /// Why it is not io_uring, though nobody asked for anything else. For people.
  var problem: String?

  /// Decides by what was asked for, in the program or else in the environment, by what the probe has found (see
  /// `csupport_uring_probe`), and by the kernel.
  static func decide(
    requested: EventLoop.Driver?, environment: EventLoop.Driver?, probed: @autoclosure () -> CInt,
    kernel: @autoclosure () -> KernelRelease?
  ) -> DriverChoice {
    let wanted = requested ?? environment
    if wanted == .epoll { return DriverChoice(driver: .epoll) }
    let probed = probed()
    if probed < 0 {
      return DriverChoice(driver: .epoll, problem: SystemError(call: "io_uring_setup", errno: -probed).description)
    }
    guard probed & needed == needed else {
      return DriverChoice(
        driver: .epoll, problem: "the kernel's io_uring has no futex waits (they came with Linux 6.7)")
    }
    if wanted == nil, kernel()?.hasMendedFutexWaits != true {
      return DriverChoice(
        driver: .epoll,
        problem: "this kernel's futex waits on io_uring are not known to be safe (CVE-2025-39698, mended in Linux "
          + "6.12.44, 6.16.4 and 6.17); MESSAGEPORTS_DRIVER=uring uses them all the same")
    }
    return DriverChoice(driver: .uring)
  }

  private static let needed = CInt(CSUPPORT_URING_SETUP | CSUPPORT_URING_FUTEX_WAIT | CSUPPORT_URING_POLL)

  /// What a loop would get now.
  static func now(_ requested: EventLoop.Driver?) -> DriverChoice {
    decide(
      requested: requested, environment: Environment.driver, probed: probe(), kernel: KernelRelease.running)
  }

  /// Opens what a loop sleeps on, given the epoll that every loop has. On the loop's thread.
  static func open(_ requested: EventLoop.Driver?, on epoll: EpollDriver) -> any LoopDriver {
    let choice = now(requested)
    switch choice.driver {
    case .uring:
      do throws(SystemError) {
        let uring = try UringDriver(epoll)
        Log.logger.debug("event loop on io_uring")
        return uring
      } catch {
        Log.logger.notice("event loop on epoll: \(error)")
      }
    case .epoll:
      if let problem = choice.problem {
        Log.logger.notice("event loop on epoll: \(problem)")
      } else {
        Log.logger.debug("event loop on epoll, as asked for")
      }
    }
    return epoll
  }

  private static let probed = PerProcess<CInt?> { nil }

  /// What io_uring offers: the bits of `csupport_uring_probe`, or a negative error. Found out by trying, once per
  /// process, unless something ran out that there may be enough of the next time.
  private static func probe() -> CInt {
    probed.withLock { known in
      if let known { return known }
      let found = csupport_uring_probe()
      if ![EMFILE, ENFILE, ENOMEM, EAGAIN].contains(-found) { known = found }
      return found
    }
  }
}

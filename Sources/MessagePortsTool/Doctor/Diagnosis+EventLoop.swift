import Glibc
import MessagePorts

extension Diagnosis {
  func judgeEventLoop() -> [Finding] {
    [kernel, uring, epoll] + [driver, driverOverride].compactMap(\.self)
  }

  private var kernel: Finding {
    let name = "Linux \(facts.kernelRelease)"
    guard facts.eventLoop.driver == EventLoop.Driver.uring.rawValue, !hasMendedFutexWaits
    else { return Finding(.eventLoop, .ok, "kernel", name) }
    return Finding(
      .eventLoop, .notice, "kernel",
      "\(name): unless its distribution has mended them, futex waits on io_uring can corrupt the kernel's memory "
        + "(CVE-2025-39698). Linux 6.17, 6.16.4 and 6.12.44 are safe",
      advice: [Advice("if in doubt, do without io_uring", command: "export MESSAGEPORTS_DRIVER=epoll")])
  }

  private var release: KernelRelease? { KernelRelease(facts.kernelRelease) }

  private var hasMendedFutexWaits: Bool { release?.hasMendedFutexWaits ?? false }

  // MARK: io_uring

  private var uringWorks: Bool {
    facts.eventLoop.uring.worked && facts.eventLoop.uringFutexWaits && facts.eventLoop.uringPolls
  }

  private var uring: Finding {
    if uringWorks { return Finding(.eventLoop, .ok, "io_uring", "permitted; futex waits and polls work") }
    let (text, advice) = whyNoUring
    return Finding(.eventLoop, .notice, "io_uring", text, advice: advice)
  }

  private var whyNoUring: (String, [Advice]) {
    let facts = facts.eventLoop
    let isFiltered = facts.seccompMode == 2
    let newKernel = Advice("use Linux 6.7 or later")
    switch facts.uring.errno {
    case nil where facts.epoll.errno == EMFILE:
      return ("permitted, but no descriptor is left to try it out", [moreOpenFiles])
    case nil where facts.uringPolls:
      let isOld = release.map { ($0.major, $0.minor) < (6, 7) } ?? false
      return isOld
        ? ("permitted, but without futex waits, which came with Linux 6.7", [newKernel])
        : ("permitted, but futex waits do not work", [])
    case nil: return ("permitted, but polls do not work", [])
    case EPERM where facts.uringDisabled == 2:
      return ("forbidden to everyone by kernel.io_uring_disabled = 2", [permitUring])
    case EPERM where facts.uringDisabled == 1:
      return (
        "forbidden by kernel.io_uring_disabled = 1 to all but administrators and the group kernel.io_uring_group",
        [permitUring]
      )
    case EPERM where isFiltered, EACCES where isFiltered, ENOSYS where isFiltered:
      return (
        "forbidden by a seccomp filter, as container engines install it (\(facts.uring))",
        [
          Advice(
            "permit io_uring_setup, io_uring_enter and io_uring_register in a profile of your own",
            command: "docker run --security-opt seccomp=PROFILE.json …")
        ]
      )
    case EPERM, EACCES: return ("forbidden, perhaps by a security module (\(facts.uring))", [])
    case ENOSYS: return ("not in this kernel, or older than Linux 5.11 (\(facts.uring))", [newKernel])
    case EMFILE: return ("no descriptor is left for it (\(facts.uring))", [moreOpenFiles])
    default: return ("cannot be set up: \(facts.uring)", [])
    }
  }

  private var permitUring: Advice {
    adviceForRoot("to permit it to everyone", "sysctl -w kernel.io_uring_disabled=0")
  }

  // MARK: The choice

  private var epoll: Finding {
    let outcome = facts.eventLoop.epoll
    guard !outcome.worked else { return Finding(.eventLoop, .ok, "epoll", "works") }
    return Finding(
      .eventLoop, .problem, "epoll", "an event loop cannot be made: \(outcome)",
      advice: outcome.errno == EMFILE ? [moreOpenFiles] : [])
  }

  /// What event loops sleep on, and why.
  private var driver: Finding? {
    guard let driver = facts.eventLoop.driver.flatMap(EventLoop.Driver.init) else { return nil }
    switch (driver, facts.overrides.driver.flatMap(EventLoop.Driver.init)) {
    case (.uring, .uring): return Finding(.eventLoop, .ok, "driver", "io_uring, as MESSAGEPORTS_DRIVER says")
    case (.uring, _): return Finding(.eventLoop, .ok, "driver", "io_uring, because it works")
    case (.epoll, .epoll):
      let other = uringWorks ? "; io_uring would work, too" : ""
      return Finding(.eventLoop, .ok, "driver", "epoll, as MESSAGEPORTS_DRIVER says\(other)")
    case (.epoll, .uring):
      return Finding(
        .eventLoop, .notice, "driver",
        "epoll, because io_uring does not work, although MESSAGEPORTS_DRIVER asks for it")
    case (.epoll, nil) where uringWorks && !hasMendedFutexWaits:
      return Finding(
        .eventLoop, .ok, "driver",
        "epoll, because this kernel's futex waits on io_uring are not known to be safe (CVE-2025-39698)",
        advice: [Advice("if its distribution has mended them", command: "export MESSAGEPORTS_DRIVER=uring")])
    case (.epoll, nil): return Finding(.eventLoop, .ok, "driver", "epoll, because io_uring does not work")
    }
  }

  private var driverOverride: Finding? {
    guard let name = facts.overrides.driver, EventLoop.Driver(rawValue: name) == nil else { return nil }
    return Finding(
      .eventLoop, .notice, "environment", "MESSAGEPORTS_DRIVER=\(name) is ignored: it is neither uring nor epoll",
      advice: [Advice("to leave the choice to the library", command: "unset MESSAGEPORTS_DRIVER")])
  }
}

import Glibc
import MessagePorts
import MessagePortsTool
import Testing

@Suite("The doctor on event loops") struct EventLoopJudgementTests {
  @Test("On a healthy machine there is nothing to complain about") func healthy() throws {
    let diagnosis = try Diagnosis.of { _ in }
    #expect(diagnosis.complaints.isEmpty)
    #expect(diagnosis.isUsable)
    #expect(diagnosis.text("driver") == "io_uring, because it works")
    #expect(diagnosis.text("kernel") == "Linux 6.18.44")
  }

  @Test("io_uring that a setting forbids names the setting, and the command that changes it")
  func uringDisabledBySetting() throws {
    let diagnosis = try Diagnosis.of {
      $0.eventLoop.uring = .failed(EPERM)
      $0.eventLoop.uringDisabled = 2
      $0.eventLoop.driver = "epoll"
    }
    let advice = Advice("to permit it to everyone, as root", command: "sudo sysctl -w kernel.io_uring_disabled=0")
    #expect(
      diagnosis.complaints == [
        Finding(
          .eventLoop, .notice, "io_uring", "forbidden to everyone by kernel.io_uring_disabled = 2", advice: [advice])
      ])
    #expect(diagnosis.text("driver") == "epoll, because io_uring does not work")
    #expect(diagnosis.isUsable)
  }

  @Test("Root is not told to type sudo") func rootNeedsNoSudo() throws {
    let diagnosis = try Diagnosis.of {
      $0.eventLoop.uring = .failed(EPERM)
      $0.eventLoop.uringDisabled = 1
      $0.processes.isRoot = true
    }
    #expect(
      diagnosis.complaints == [
        Finding(
          .eventLoop, .notice, "io_uring",
          "forbidden by kernel.io_uring_disabled = 1 to all but administrators and the group kernel.io_uring_group",
          advice: [Advice("to permit it to everyone", command: "sysctl -w kernel.io_uring_disabled=0")])
      ])
  }

  @Test("io_uring that a seccomp filter forbids is told from a kernel without it", arguments: [EPERM, ENOSYS])
  func uringFiltered(errno: CInt) throws {
    func text(seccompMode: Int) throws -> String? {
      try Diagnosis.of {
        $0.eventLoop.uring = .failed(errno)
        $0.eventLoop.seccompMode = seccompMode
        $0.eventLoop.driver = "epoll"
      }.text("io_uring")
    }
    let error = Outcome.failed(errno).description
    #expect(
      try text(seccompMode: 2) == "forbidden by a seccomp filter, as container engines install it (\(error))")
    #expect(
      try text(seccompMode: 0)
        == (errno == EPERM
          ? "forbidden, perhaps by a security module (\(error))"
          : "not in this kernel, or older than Linux 5.11 (\(error))"))
  }

  @Test("A kernel before 6.7 has no futex waits on io_uring") func oldKernel() throws {
    let diagnosis = try Diagnosis.of {
      $0.kernelRelease = "6.1.0-37-amd64"
      $0.eventLoop.uringFutexWaits = false
      $0.eventLoop.driver = "epoll"
    }
    #expect(
      diagnosis.complaints == [
        Finding(
          .eventLoop, .notice, "io_uring", "permitted, but without futex waits, which came with Linux 6.7",
          advice: [Advice("use Linux 6.7 or later")])
      ])
  }

  @Test("A kernel whose futex waits have a known error is worth a notice while they are used")
  func kernelWithKnownError() throws {
    func levels(driver: String, release: String) throws -> [Finding.Level] {
      try Diagnosis.of {
        $0.kernelRelease = release
        $0.eventLoop.driver = driver
      }.findings(about: .eventLoop).filter { $0.subject == "kernel" }.map(\.level)
    }
    #expect(try levels(driver: "uring", release: "6.12.9+deb13-amd64") == [.notice])
    #expect(try levels(driver: "epoll", release: "6.12.9+deb13-amd64") == [.ok])
    #expect(try levels(driver: "uring", release: "6.12.48+deb13-amd64") == [.ok])
    #expect(try levels(driver: "uring", release: "7.0.1") == [.ok])
    #expect(try levels(driver: "uring", release: "unknown") == [.notice])
  }

  @Test("Where io_uring works but is avoided for that error, the doctor says so, and how to use it")
  func avoidedForKnownError() throws {
    let diagnosis = try Diagnosis.of {
      $0.kernelRelease = "6.12.9+deb13-amd64"
      $0.eventLoop.driver = "epoll"
    }
    let finding = try #require(diagnosis.findings(about: .eventLoop).first { $0.subject == "driver" })
    #expect(finding.text.contains("CVE-2025-39698"))
    #expect(finding.advice.map(\.command) == ["export MESSAGEPORTS_DRIVER=uring"])
    #expect(finding.level == .ok)
  }

  @Test("Without a descriptor to try it out, nothing bad is said of io_uring") func noDescriptors() throws {
    let diagnosis = try Diagnosis.of {
      $0.eventLoop.uringFutexWaits = false
      $0.eventLoop.uringPolls = false
      $0.eventLoop.epoll = .failed(EMFILE)
      $0.eventLoop.driver = nil
    }
    let advice = Advice("raise the limit as far as you may", command: "ulimit -n 524288")
    #expect(
      diagnosis.complaints == [
        Finding(
          .eventLoop, .notice, "io_uring", "permitted, but no descriptor is left to try it out", advice: [advice]),
        Finding(
          .eventLoop, .problem, "epoll", "an event loop cannot be made: \(Outcome.failed(EMFILE))", advice: [advice]),
      ])
  }

  // MARK: MESSAGEPORTS_DRIVER

  @Test("The driver that the environment asks for is named as such") func driverOverrides() throws {
    func text(_ asked: String, _ got: String) throws -> String? {
      try Diagnosis.of {
        $0.overrides.driver = asked
        $0.eventLoop.driver = got
      }.text("driver")
    }
    #expect(try text("uring", "uring") == "io_uring, as MESSAGEPORTS_DRIVER says")
    #expect(try text("epoll", "epoll") == "epoll, as MESSAGEPORTS_DRIVER says; io_uring would work, too")
  }

  @Test("Asking for io_uring where it does not work is worth a notice") func uringAskedForInVain() throws {
    let diagnosis = try Diagnosis.of {
      $0.overrides.driver = "uring"
      $0.eventLoop.uring = .failed(ENOSYS)
      $0.eventLoop.driver = "epoll"
    }
    #expect(diagnosis.complaints.map(\.subject) == ["io_uring", "driver"])
    #expect(
      diagnosis.text("driver") == "epoll, because io_uring does not work, although MESSAGEPORTS_DRIVER asks for it")
  }

  @Test("An unknown driver in the environment is worth a notice") func unknownDriver() throws {
    let diagnosis = try Diagnosis.of { $0.overrides.driver = "kqueue" }
    #expect(
      diagnosis.complaints == [
        Finding(
          .eventLoop, .notice, "environment", "MESSAGEPORTS_DRIVER=kqueue is ignored: it is neither uring nor epoll",
          advice: [Advice("to leave the choice to the library", command: "unset MESSAGEPORTS_DRIVER")])
      ])
    #expect(diagnosis.text("driver") == "io_uring, because it works")
  }

  @Test("Without epoll there are no event loops, and so no message ports") func noEpoll() throws {
    let diagnosis = try Diagnosis.of {
      $0.eventLoop.epoll = .failed(ENOSYS)
      $0.eventLoop.driver = nil
    }
    #expect(
      diagnosis.complaints == [
        Finding(.eventLoop, .problem, "epoll", "an event loop cannot be made: \(Outcome.failed(ENOSYS))")
      ])
    #expect(!diagnosis.isUsable)
    #expect(diagnosis.text("driver") == nil)
  }
}

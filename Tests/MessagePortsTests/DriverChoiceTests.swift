import CSupport
import Glibc
import TestSupport
import Testing

@testable import MessagePorts

@Suite("What a loop sleeps on", .serialized, .timeLimit(.minutes(5)))
struct DriverChoiceTests {
  private static let all = CInt(CSUPPORT_URING_SETUP | CSUPPORT_URING_FUTEX_WAIT | CSUPPORT_URING_POLL)

  private func decide(
    _ requested: EventLoop.Driver? = nil, environment: EventLoop.Driver? = nil, probed: CInt = all,
    kernel: String? = "6.18.0"
  ) -> DriverChoice {
    DriverChoice.decide(
      requested: requested, environment: environment, probed: probed, kernel: kernel.flatMap(KernelRelease.init))
  }

  @Test(
    "A kernel whose futex waits are not known to be safe means epoll, unless io_uring is asked for",
    arguments: ["6.8.12", "6.12.43", "6.16.3", nil])
  func unsafeKernel(_ kernel: String?) throws {
    let choice = decide(kernel: kernel)
    #expect(choice.driver == .epoll)
    #expect(try #require(choice.problem).contains("CVE-2025-39698"))
    #expect(decide(.uring, kernel: kernel) == DriverChoice(driver: .uring))
    #expect(decide(environment: .uring, kernel: kernel) == DriverChoice(driver: .uring))
  }

  @Test("A kernel with the mend means io_uring, unless epoll is asked for", arguments: ["6.12.44", "6.16.4", "6.18.0"])
  func safeKernel(_ kernel: String) {
    #expect(decide(kernel: kernel) == DriverChoice(driver: .uring))
    #expect(decide(.epoll, kernel: kernel) == DriverChoice(driver: .epoll))
    #expect(decide(environment: .epoll, kernel: kernel) == DriverChoice(driver: .epoll))
    // The program's word is nearer than the environment's.
    #expect(decide(.uring, environment: .epoll, kernel: kernel) == DriverChoice(driver: .uring))
    #expect(decide(.epoll, environment: .uring, kernel: kernel) == DriverChoice(driver: .epoll))
  }

  @Test(
    "9.3 io_uring that does not work means epoll, whatever was asked for, and the reason is the true one",
    arguments: [EPERM, ENOSYS, EMFILE, ENFILE, ENOMEM], [nil, .uring] as [EventLoop.Driver?])
  func refused(_ error: CInt, _ requested: EventLoop.Driver?) throws {
    let choice = decide(requested, probed: -error)
    #expect(choice.driver == .epoll)
    #expect(try #require(choice.problem).contains(SystemError(call: "io_uring_setup", errno: error).description))
    #expect(decide(requested, probed: CInt(CSUPPORT_URING_SETUP | CSUPPORT_URING_POLL)).driver == .epoll)
  }

  @Test("13.6 A handler that is set while no descriptor is free is called when there are some, by the best driver")
  func noDescriptor() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let channel = try MessageChannel()
        let numbers = Collected<UInt64>()
        // 0, 1 and 2 are open.
        setLimit(RLIMIT_NOFILE, 3)
        channel.port2.onMessage = { numbers.append((try? $0.load(as: UInt64.self)) ?? .max) }
        try channel.port1.postMessage(bitwise: 1 as UInt64)
        #expect(EventLoop.default.driver == .epoll)
        // Several times in vain.
        usleep(50_000)
        #expect(numbers.count == 0)
        setLimit(RLIMIT_NOFILE, nil)
        // Nothing else is given to the loop.
        #expect(try await numbers.wait(for: 1) == [1])
        let expected = DriverChoice.decide(
          requested: nil, environment: Environment.driver, probed: csupport_uring_probe(), kernel: .running)
        #expect(EventLoop.default.driver == expected.driver)
      }
    }
  }

  @Test(
    "9.3 Where epoll_pwait2 is refused, a loop that waits for a timer still hears of descriptors",
    arguments: [EPERM, ENOSYS])
  func olderWait(_ error: CInt) async throws {
    await #expect(processExitsWith: .success) { [error] in
      await recordErrors {
        Refusal.everywhere([Refusal(.epoll_pwait2, error)])
        let loop = EventLoop(name: "older", driver: .epoll)
        loop.after(nanoseconds: 3_600_000_000_000) {}
        let isDue = Promise<Void>()
        try expectHears(loop)
        loop.after(nanoseconds: 1_500_000) { isDue.fulfil() }
        try isDue.wait()
      }
    }
  }
}

/// Checks that a loop hears what happens to a descriptor.
func expectHears(_ loop: EventLoop) throws {
  let counter = csupport_eventfd_create()
  defer { _ = csupport_close(counter) }
  let watcher = Watcher()
  let token = loop.watch(counter, watcher, events: UInt32(CSUPPORT_EVENT_IN) | UInt32(CSUPPORT_EVENT_EDGE))
  _ = csupport_eventfd_signal(counter)
  try watcher.heard.wait()
  loop.unwatch(token)
}

private final class Watcher: LoopWatcher {
  let heard = Promise<Void>()
  func ready(_ events: UInt32) { heard.fulfil() }
}

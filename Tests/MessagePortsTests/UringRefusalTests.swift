import Glibc
import MessagePorts
import TestSupport
import Testing

/// When io_uring is refused, at once or later. Each test has a process of its own, and refuses it to the whole process.
@Suite("io_uring refused", .serialized, .timeLimit(.minutes(5)))
struct UringRefusalTests {
  @Test(
    "9.3 Where a filter forbids io_uring and membarrier, loops work on epoll, whatever was asked for",
    arguments: [EPERM, ENOSYS])
  func fromTheStart(_ error: CInt) async throws {
    await #expect(processExitsWith: .success) { [error] in
      await recordErrors {
        unsafe setenv("MESSAGEPORTS_DRIVER", "uring", 1)
        Refusal.everywhere(
          [.io_uring_setup, .io_uring_enter, .io_uring_register, .membarrier].map { Refusal($0, error) })
        // The agent's process has the filter as well.
        let agent = try await settledAgent()
        #expect(EventLoop.default.driver == .epoll)
        try await expectConversation(agent)
      }
    }
  }

  @Test(
    "9.3 A loop to which io_uring is refused while it sleeps goes over to epoll, and nothing is lost",
    arguments: [EPERM, ENOSYS])
  func oneDay(_ error: CInt) async throws {
    await #expect(processExitsWith: .success) { [error] in
      await recordErrors {
        let agent = try await settledAgent()
        let ports = try await makeChannels(50, agent, firstKey: 100)
        let numbers = Collected<UInt64>()
        let closes = Collected<CloseReason>()
        for port in ports {
          port.onMessage = { numbers.append((try? $0.load(as: UInt64.self)) ?? .max) }
          port.onClose = { closes.append($0) }
        }
        // Time for the loop to arm all of them, and to sleep.
        try await Task.sleep(for: .milliseconds(50))
        Refusal.everywhere([.io_uring_setup, .io_uring_enter, .io_uring_register].map { Refusal($0, error) })
        for key in 0..<50 as Range<UInt64> { try await agent.call(.post, 100 + key, key, 1) }
        #expect(try await numbers.wait(for: 50).sorted() == Array(0..<50))
        #expect(EventLoop.default.driver == .epoll)
        try await expectConversation(agent)
        for key in 0..<50 as Range<UInt64> { try await agent.call(.release, 100 + key) }
        try await closes.wait(for: 50)
      }
    }
  }

  @Test("9.3 More waits than the queue holds, whose submission fails at first, are all there in the end")
  func submissionRefused() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        setLimit(RLIMIT_NOFILE, nil)
        let agent = try await settledAgent()
        let count: UInt64 = 360
        var ports: [MessagePort] = []
        for part in 0..<4 as Range<UInt64> {
          ports += try await makeChannels(Int(count / 4), agent, firstKey: part * count / 4)
        }
        let numbers = Collected<UInt64>()
        for port in ports { port.onMessage = { numbers.append((try? $0.load(as: UInt64.self)) ?? .max) } }
        // Without IORING_ENTER_GETEVENTS, a visit to the kernel is for submitting alone.
        Refusal.everywhere([Refusal(.io_uring_enter, EAGAIN, where: 3, mask: 1, is: 0)])
        for round in 0..<3 as Range<UInt64> {
          // All at once, so that all have to be armed at once.
          let isHeld = Flag(), mayGoOn = Flag()
          EventLoop.default.hold(isHeld, until: mayGoOn)
          try await eventually("the loop to be held") { isHeld.isSet }
          for key in 0..<count { try agent.begin(.post, key, round * count + key, 1) }
          for _ in 0..<count { try await agent.end() }
          mayGoOn.set()
          try await numbers.wait(for: Int((round + 1) * count))
          try await Task.sleep(for: .milliseconds(20))
        }
        #expect(numbers.all.sorted() == Array(0..<3 * count))
      }
    }
  }
}

/// Numbers to and fro, one at a time, so that both sides sleep in between; large messages, a transfer, an end.
private func expectConversation(_ agent: Agent) async throws {
  let port = try await makeChannels(1, agent, firstKey: 0)[0]
  try await agent.call(.echo, 0)
  let answers = Collected<UInt64>()
  let closes = Collected<CloseReason>()
  port.onClose = { closes.append($0) }
  port.onMessage = { answers.append((try? $0.load(as: UInt64.self)) ?? UInt64($0.byteCount)) }
  for number in 0..<50 as Range<UInt64> {
    try port.postMessage(bitwise: number)
    try await answers.wait(for: Int(number) + 1)
  }
  try port.postMessage(bytes: patternBytes(count: 2 << 20, seed: 1))
  #expect(try await answers.wait(for: 51) == Array(0..<50) + [2 << 20])

  let carried = try MessageChannel()
  try await agent.call(.keep, 1, transfer: [carried.port2])
  try await agent.call(.post, 1, 0, 10)
  try await onThread { for number in 0..<10 as Range<UInt64> { try carried.port1.expect(number) } }
  try await agent.call(.close, 0)
  #expect(try await closes.wait(for: 1) == [.closedByPeer])
}

extension EventLoop {
  /// Keeps the loop's thread busy.
  fileprivate func hold(_ isHeld: Flag, until mayGoOn: Flag) {
    Task(executorPreference: self) {
      isHeld.set()
      while !mayGoOn.isSet { usleepBriefly(1000) }
    }
  }
}

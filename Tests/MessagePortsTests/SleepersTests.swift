import CSupport
import CTestSupport
import Glibc
@testable import MessagePorts
import SharedRing
import Synchronization
import TestSupport
import Testing

/// Threads that sleep on a word that a peer can reach, and a peer that moves them to another one: what this process wants
/// of its own threads does not depend on it.
@Suite("Sleepers that a peer has moved away", .serialized, .timeLimit(.minutes(3)))
struct SleepersTests {
  /// How a thread sleeps: on both words at once, or, where that call is denied, by turns.
  static let refusals: [[Refusal]] = [[], [Refusal(.futex_waitv, EPERM)]]

  enum Half: String, CaseIterable, Sendable { case reader, writer }

  /// Moves those away who sleep on a doorbell of the channel, once there are so many.
  private func moveSleepers(_ count: Int = 1, _ kind: DoorbellKind = .message, of far: RawEnd) async throws {
    let lane = kind == .message ? far.ourLane : far.theirLane
    let (from, elsewhere) = unsafe (lane.doorbellWord(kind), far.memory.words(lane: far.end).doorbellWord(.space))
    var moved = 0
    try await eventually("a thread that sleeps") {
      let more = unsafe ctest_move_sleepers(from, elsewhere + 4)
      if more > 0 { moved += Int(more) }
      return moved >= count
    }
  }

  /// How a thread in a receive of the port ends.
  private func receiveInThread(_ port: MessagePort, _ refusals: [Refusal] = []) -> Promise<String> {
    let ended = Promise<String>()
    Task { ended.fulfil(try await Refusal.during(refusals) { portError { _ = try port.receive() } }) }
    return ended
  }

  @Test("9.5 `close()` ends a receive", arguments: refusals)
  func close(_ refusals: [Refusal]) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let ended = receiveInThread(port, refusals)
    try await moveSleepers(of: far)
    port.close()
    #expect(try await onThread { try ended.wait() } == "closed")
    try await scene.checkFriend()
  }

  @Test("9.5 A transfer of the port does not wait for them, and ends their receive", arguments: refusals)
  func transfer(_ refusals: [Refusal]) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let ended = [receiveInThread(port, refusals), receiveInThread(port, refusals)]
    try await moveSleepers(2, of: far)
    let posted = TestThread { try scene.friend.postMessage("echo", bitwise: UInt64(7), transfer: [port]) }
    try await onThread { try posted.join() }
    for end in ended { #expect(try await onThread { try end.wait() } == "detached") }
    // And nobody else's transfer is held up.
    let other = try MessageChannel(options: Scene.options)
    try scene.friend.postMessage("echo", bitwise: UInt64(8), transfer: [other.port1])
    try await scene.checkFriend()
  }

  @Test("9.5 `split()` does not wait for them, and ends their receive", arguments: refusals)
  func split(_ refusals: [Refusal]) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let ended = receiveInThread(port, refusals)
    try await moveSleepers(of: far)
    let halves = try await onThread { try TestThread { try port.split() }.join() }
    #expect(try await onThread { try ended.wait() } == "detached")
    far.post([1, 2, 3])
    let count = try await onThread {
      var reader = halves.takeReader()
      return try reader.readSoon { $0.byteCount }
    }
    #expect(count == 3)
    try await scene.checkFriend()
  }

  @Test("9.5 A transfer that is refused leaves them waiting, and what comes later is received")
  func refusedTransfer() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let (carrier, _) = try await scene.makePort()
    let received = Promise<Int>()
    Task { received.fulfil(try await onThread { try port.receive().byteCount }) }
    try await moveSleepers(of: far)
    let error = try await Refusal.during([Refusal(.sendmsg, ENOMEM)]) {
      portError { try carrier.postMessage(bytes: [], transfer: [port]) }
    }
    #expect(error == "system.\(ENOMEM)")
    // They have looked again, and sleep where they are woken.
    far.post([1, 2, 3])
    #expect(try await onThread { try received.wait() } == 3)
  }

  @Test("4.3 The peer's end ends a receive", arguments: refusals)
  func hangUp(_ refusals: [Refusal]) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let ended = receiveInThread(port, refusals)
    try await moveSleepers(of: far)
    far.hangUp()
    #expect(try await onThread { try ended.wait() } == "peerClosed.peer exited")
  }

  @Test("4.3 The peer's end ends a reader's wait and a writer's", arguments: Half.allCases, refusals)
  func halves(_ half: Half, _ refusals: [Refusal]) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let halves = try port.split()
    let ended = Promise<String>()
    Task {
      ended.fulfil(
        try await Refusal.during(refusals) {
          if half == .reader {
            var reader = halves.takeReader()
            return portError { try reader.read { _ in } }
          }
          var writer = halves.takeWriter()
          while try writer.tryWrite(bitwise: 1) {}
          return portError { try writer.waitForSpace(byteCount: 8) }
        })
    }
    try await moveSleepers(1, half == .reader ? .message : .space, of: far)
    far.hangUp()
    #expect(try await onThread { try ended.wait() } == "peerClosed.peer exited")
  }

  @Test("4.2 `close()` and the peer's end end a task's wait for space", arguments: [true, false])
  func waitForSpace(_ closes: Bool) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort(queueLimit: 64)
    while portError({ try port.postMessage(bitwise: 1) }) == "none" {}
    let ended = Promise<String>()
    Task {
      do throws(PortError) {
        try await port.waitForSpace(byteCount: 8)
        ended.fulfil("space")
      } catch {
        ended.fulfil(error.caseName)
      }
    }
    // On epoll nobody sleeps there.
    if scene.loop.driver == .uring { try await moveSleepers(1, .space, of: far) }
    if closes { port.close() } else { far.hangUp() }
    #expect(try await onThread { try ended.wait() } == (closes ? "closed" : "space"))
  }

  @Test(
    "4.3 A receive hears the peer's end although its loop was stopped meanwhile, or before", arguments: [true, false])
  func stoppedLoop(_ meanwhile: Bool) async throws {
    let puppet = try Puppet(.anotherProcess)
    let loop = EventLoop(name: "stopped")
    puppet.port.setEventLoop(loop)
    if !meanwhile { loop.stop() }
    let ended = receiveInThread(puppet.port)
    try await Task.sleep(for: .milliseconds(20))
    if meanwhile { loop.stop() }
    try await onThread { try puppet.close() }
    #expect(try await onThread { try ended.wait() } == "peerClosed.closed by peer")
  }

  @Test("4.3 A reader hears the peer's end although its loop was stopped meanwhile")
  func stoppedLoopOfReader() async throws {
    let puppet = try Puppet(.anotherProcess)
    let loop = EventLoop(name: "stopped")
    puppet.port.setEventLoop(loop)
    let halves = try puppet.port.split()
    let ended = Promise<String>()
    Task {
      ended.fulfil(
        try await onThread {
          var reader = halves.takeReader()
          return portError { try reader.read { _ in } }
        })
    }
    try await Task.sleep(for: .milliseconds(20))
    loop.stop()
    try await onThread { try puppet.close() }
    #expect(try await onThread { try ended.wait() } == "peerClosed.closed by peer")
  }

  @Test(
    "6.1 Threads that receive at several ports which leave in one message all hear of it", arguments: Place.allCases)
  func severalPorts(_ place: Place) async throws {
    let channels = try (0..<3).map { _ in try MessageChannel(options: ChannelOptions(spinPolicy: .never)) }
    let ended = channels.map { receiveInThread($0.port1) }
    try await Task.sleep(for: .milliseconds(20))
    let puppet = try Puppet(place)
    try puppet.port.postMessage(bytes: [], transfer: channels.map(\.port1))
    for end in ended { #expect(try await onThread { try end.wait() } == "detached") }
  }

  @Test("3.3 A thread that leaves takes no wake-up from others that sleep there, nor from the loop", arguments: [1, 2])
  func leaving(_ driver: Int) async throws {
    let loop = EventLoop(name: "leaving", driver: driver == 1 ? .epoll : nil)
    defer { loop.stop() }
    let channel = try await sharedChannel(ChannelOptions(spinPolicy: .never))
    let port = channel.port2
    port.setEventLoop(loop)
    let taken = Collected<Int>()
    let isOver = Flag()
    let threads = (0..<3).map { index in
      TestThread {
        while !isOver.isSet {
          do throws(PortError) {
            let timeout = index == 0 ? nil : Duration.microseconds(index * 150)
            taken.append(try port.receive(timeout: timeout).byteCount)
          } catch {
            if case .timedOut = error { continue }
            return
          }
        }
      }
    }
    for number in 1...600 {
      // The loop comes and goes as well.
      if number % 7 == 0 { port.onMessage = { taken.append($0.byteCount) } }
      if number % 7 == 4 { port.onMessage = nil }
      try channel.port1.postMessage(bitwise: number)
      // Each is taken by somebody before the next comes: a wake-up that is lost stays lost.
      try await taken.wait(for: number)
      usleepBriefly(UInt32.random(in: 0..<300))
    }
    isOver.set()
    port.close()
    for thread in threads { try await onThread { try thread.join() } }
  }

  // MARK: - Costs

  @Test("Threads are rung while there are any that have not been told, and not otherwise")
  func ringsOnlySleepers() {
    var threads = SleepingThreads()
    #expect(threads.ring() == nil)
    let first = threads.add()
    let second = threads.add()
    #expect(threads.ring() === first.word)
    #expect(threads.ring() == nil)
    threads.remove(first)
    #expect(threads.ring() == nil)
    let third = threads.add()
    threads.remove(second)
    #expect(threads.ring() === third.word)
    threads.remove(third)
    #expect(threads.ring() == nil)
    // One that has come back to another owner's place.
    var others = SleepingThreads()
    _ = others.add()
    others.remove(third)
    #expect(others.ring() != nil)
  }

  /// The processor time of the thread that calls, as a part of the time that passes.
  private static func use(_ body: () throws -> Void) rethrows -> Double {
    func now(_ clock: clockid_t) -> Double {
      var time = timespec()
      unsafe clock_gettime(clock, &time)
      return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
    let (began, used) = (now(CLOCK_MONOTONIC), now(CLOCK_THREAD_CPUTIME_ID))
    try body()
    return (now(CLOCK_THREAD_CPUTIME_ID) - used) / (now(CLOCK_MONOTONIC) - began)
  }

  @Test("5.4 A reader that has promised to poll, and is denied the barrier later, waits without using a processor")
  func deniedBarrier() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let halves = try port.split()
    let use = try await Refusal.during([Refusal(.membarrier, EPERM)]) {
      var reader = halves.takeReader()
      reader.spinPolicy = .never
      reader.startPolling()
      var outcome = ""
      let use = Self.use { outcome = portError { try reader.read(timeout: .milliseconds(300)) { _ in } } }
      #expect(outcome == "timedOut")
      far.put(word(.message, 8), words: [1])
      // Nobody rings one that polls.
      let count = try reader.readSoon { $0.byteCount }
      #expect(count == 8)
      return use
    }
    #expect(use < 0.3, "\(use) of a processor")
  }

  @Test(
    "5.4 A loop that serves such a port is not kept busy, either; the port cannot leave, and goes on",
    arguments: [0, 1])
  func deniedBarrierOfLoop(_ driver: Int) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let halves = try port.split()
    var reader = halves.takeReader()
    reader.startPolling()
    let joined = try MessagePort(joining: halves.takeWriter(), reader)
    let loop = EventLoop(name: "denied-\(UInt16.random(in: 0 ... .max))", driver: driver == 0 ? .epoll : nil)
    defer { loop.stop() }
    let messages = Collected<Int>()
    try await Refusal.during([Refusal(.membarrier, EPERM)]) {
      // A thread inherits the filter of the one that starts it.
      loop.run {}
      joined.setEventLoop(loop)
      joined.onMessage = { messages.append($0.byteCount) }
      let other = try MessageChannel()
      do throws(PortError) {
        try scene.friend.postMessage("echo", bitwise: UInt64(1), transfer: [joined])
        Issue.record("it has left")
      } catch {
        guard case .system(SystemError(call: "membarrier", errno: EPERM)) = error else {
          Issue.record("\(error)")
          return
        }
      }
      try scene.friend.postMessage("echo", bitwise: UInt64(1), transfer: [other.port1])
    }
    try await Task.sleep(for: .milliseconds(50))
    let (began, used) = (ContinuousClock.now, threadTime(loop.name))
    try await Task.sleep(for: .milliseconds(300))
    let use = (threadTime(loop.name) - used) / (ContinuousClock.now - began)
    #expect(use < 0.3, "\(use) of a processor")
    far.put(word(.message, 8), words: [1])
    #expect(try await messages.wait(for: 1) == [8])
    joined.close()
  }

  /// The processor time of the thread of that name so far.
  private func threadTime(_ name: String) -> Duration {
    for task in entries(of: "/proc/self/task")
    where text(of: "/proc/self/task/\(task)/comm").trimmed == String(name.prefix(15)) {
      let nanoseconds = text(of: "/proc/self/task/\(task)/schedstat").split(separator: " ").first.flatMap { Int64($0) }
      return .nanoseconds(nanoseconds ?? 0)
    }
    return .zero
  }

  // MARK: - Spinning

  @Test("A short wait doubles the time that the next one spins for, a long one halves it, within bounds")
  func adaptive() {
    var learned = Spin.first
    for expected: UInt64 in [40_000, 50_000, 50_000] {
      learned = Spin.learn(from: 100_000, learned)
      #expect(learned == expected)
    }
    for _ in 0..<8 { learned = Spin.learn(from: 100_001, learned) }
    #expect(learned == 1000)
    learned = Spin.learn(from: 0, learned)
    #expect(learned == 2000)
    for policy in [SpinPolicy.never, .always, .duration(.microseconds(5))] {
      #expect(Spin(policy, learned: learned).ended() == nil)
    }
    var never = Spin(.never, learned: learned), always = Spin(.always, learned: learned)
    let (goesOn, goesOnForEver) = (never.goesOn(), always.goesOn())
    #expect(!goesOn && goesOnForEver)
  }
}

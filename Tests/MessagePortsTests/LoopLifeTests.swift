import CSupport
import TestSupport
import Testing

@testable import MessagePorts

@Suite("A loop's life", .timeLimit(.minutes(5)))
struct LoopLifeTests {
  @Test(
    "13.7 A loop that always spins hears of timers, descriptors and hang-ups",
    .enabled(if: csupport_usable_processors() > 1, "a loop spins only where there are several processors"),
    arguments: EventLoop.Driver.allCases, [.always, .duration(.seconds(1_000_000_000))] as [SpinPolicy])
  func spinning(_ driver: EventLoop.Driver, _ policy: SpinPolicy) throws {
    let loop = EventLoop(name: "spins", driver: driver, spinPolicy: policy)
    defer { loop.stop() }
    let puppet = try Puppet(.anotherProcess)
    puppet.port.setEventLoop(loop)
    let received = Received(on: puppet.port)
    // With the message, the port is hot, and the loop spins on it.
    try puppet.post(0..<1)
    try received.wait(for: 1)
    let isDue = Promise<Void>()
    loop.after(nanoseconds: 20_000_000) { isDue.fulfil() }
    try isDue.wait()
    try expectHears(loop)
    try puppet.post(1..<2)
    #expect(try received.wait(for: 2) == [0, 1])
    try puppet.close()
    try received.waitForClose()
  }

  @Test("13.7 Tasks and actors of a loop that was stopped go on, one step after the other")
  func stoppedExecutor() async throws {
    let loop = EventLoop(name: "stopped")
    let tally = Tally(loop)
    let isHeld = Promise<Void>(), mayGoOn = Flag()
    Task(executorPreference: loop) {
      isHeld.fulfil()
      while !mayGoOn.isSet {}
    }
    try await onThread { try isHeld.wait() }
    // Some are waiting when the loop is stopped, some come while its thread still ends, some after.
    await withTaskGroup { group in
      for number in 0..<300 {
        if number == 100 { loop.stop() }
        if number == 200 { mayGoOn.set() }
        group.addTask { await tally.increment() }
        group.addTask(executorPreference: loop) { await Task.yield() }
      }
    }
    #expect(await tally.count == 300)
  }

  @Test("13.7 So do those of a loop that was stopped before it began")
  func stoppedBeforeItBegan() async {
    let loop = EventLoop(name: "stopped")
    loop.stop()
    let tally = Tally(loop)
    await tally.increment()
    #expect(await tally.count == 1)
    #expect(await Task(executorPreference: loop) { 5 }.value == 5)
  }

  @Test("13.7 Waiting until a loop is idle ends with the task", arguments: [false, true])
  func idleWaitCancelled(_ isCancelledBefore: Bool) async throws {
    let loop = EventLoop(name: "busy")
    defer { loop.stop() }
    let channel = try MessageChannel(loop: loop)
    channel.port1.onMessage = { _ in }
    let mayWait = Flag()
    let waiting = Task {
      while !mayWait.isSet { await Task.yield() }
      await loop.waitUntilIdle()
    }
    if isCancelledBefore {
      waiting.cancel()
      mayWait.set()
    } else {
      mayWait.set()
      try await eventually("the task to wait") { loop.state.withLock { !$0.idleWaiters.isEmpty } }
      waiting.cancel()
    }
    await waiting.value
    #expect(loop.state.withLock { $0.idleWaiters.isEmpty && !$0.kept.isEmpty })
    withExtendedLifetime(channel) {}
  }
}

private actor Tally {
  var count = 0
  private let loop: EventLoop
  init(_ loop: EventLoop) { self.loop = loop }
  nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }

  func increment() {
    preconditionIsolated()
    count += 1
  }
}

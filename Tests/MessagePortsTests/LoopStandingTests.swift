import Glibc
import TestSupport
import Testing

@testable import MessagePorts

@Suite("Who is served first", .timeLimit(.minutes(3)))
struct LoopStandingTests {
  @Test(
    "5.3 Whoever was greedy is fair again after two turns that were not",
    arguments: [TurnResult.wait, .more, .idle, .blocked])
  func table(_ cheap: TurnResult) {
    #expect(LoopStanding.fair.after(cheap) == .fair)
    #expect(LoopStanding.greedy.after(cheap) == .paroled)
    #expect(LoopStanding.paroled.after(cheap) == .fair)
    #expect(LoopStanding.waiting.after(cheap) == .fair)
    for standing in [LoopStanding.fair, .greedy, .paroled, .waiting] { #expect(standing.after(.spent) == .greedy) }
  }

  @Test("5.3 To another loop, a client is fair: it does not wait there")
  func notes() {
    let (one, other) = (LoopStanding.nextLoop(), LoopStanding.nextLoop())
    for standing in [LoopStanding.fair, .greedy, .paroled, .waiting] {
      let note = standing.note(of: one)
      #expect(LoopStanding(note: note, of: one) == standing)
      #expect(LoopStanding(note: note, of: other) == .fair)
    }
    #expect(LoopStanding(note: 0, of: one) == .fair)
  }

  @Test(
    "5.3 However many ports end at once, a message is delivered after a small part of them",
    arguments: EventLoop.Driver.allCases)
  func manyEnds(_ driver: EventLoop.Driver) async throws {
    let scene = try await Scene(driver: driver)
    let (honest, far) = try await scene.makePort()
    let log = Collected<String>()
    honest.setEventLoop(scene.loop)
    honest.onMessage = { _ in log.append("honest") }
    let others = try (0..<300).map { _ in try MessageChannel(loop: scene.loop) }
    for other in others {
      other.port2.onClose = { _ in
        let end = ContinuousClock.now + .microseconds(200)
        while ContinuousClock.now < end {}
        log.append("end")
      }
    }
    let gate = try MessageChannel(loop: scene.loop)
    let (isShut, isOpen) = (Flag(), Flag())
    gate.port2.onMessage = { _ in
      isShut.set()
      try? waitUntil("the gate to open") { isOpen.isSet }
    }
    try gate.port1.postMessage(bytes: [1])
    try await eventually("the loop to stand") { isShut.isSet }
    for other in others { other.port1.close() }
    far.post([1])
    isOpen.set()
    try await log.wait(for: others.count + 1)
    // Six or fewer have room in a share, and so in each of a few rounds.
    let before = try #require(log.all.firstIndex(of: "honest"))
    #expect(before <= 30, "\(before) ends came first")
    withExtendedLifetime((honest, others)) {}
  }

  @Test(
    "5.3 A port whose handler takes its time has a part of a turn, also if its messages are small and plain",
    arguments: EventLoop.Driver.allCases)
  func slowHandler(_ driver: EventLoop.Driver) async throws {
    let scene = try await Scene(driver: driver)
    let (busy, far) = try await scene.makePort()
    let (honest, honestFar) = try await scene.makePort()
    let log = Collected<String>()
    for port in [busy, honest] { port.setEventLoop(scene.loop) }
    busy.onMessage = { _ in
      let end = ContinuousClock.now + .milliseconds(1)
      while ContinuousClock.now < end {}
      log.append("busy")
    }
    honest.onMessage = { _ in log.append("honest") }
    let gate = try MessageChannel(loop: scene.loop)
    let (isShut, isOpen) = (Flag(), Flag())
    gate.port2.onMessage = { _ in
      isShut.set()
      try? waitUntil("the gate to open") { isOpen.isSet }
    }
    try gate.port1.postMessage(bytes: [1])
    try await eventually("the loop to stand") { isShut.isSet }
    let count = 64
    for _ in 0..<count { far.post([1]) }
    honestFar.post([1])
    isOpen.set()
    try await log.wait(for: count + 1)
    // The clock is looked at after 16 messages, and 16 later two milliseconds have passed.
    let before = try #require(log.all.firstIndex(of: "honest"))
    #expect(before <= 32, "\(before) messages came first")
    withExtendedLifetime((busy, honest)) {}
  }
}

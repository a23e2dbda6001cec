import CSupport
import Glibc
import MessagePorts
import SharedRing
import Synchronization
import TestSupport
import Testing

// Swift's Glibc module lacks these.
private let F_ADD_SEALS: CInt = 1033
private let F_SEAL_SHRINK: CInt = 2
private let F_SEAL_FUTURE_WRITE: CInt = 16

/// A peer whose single records are right: what it does with them is to cost the victim its time, or its memory.
@Suite("Hostile conduct", .serialized, .timeLimit(.minutes(3)))
struct HostileConductTests {
  // MARK: - Processor time

  @Test("A loop whose peers keep still uses no processor, whatever they left behind")
  func leftBehind() async throws {
    let scene = try await Scene()
    var ends: [RawEnd] = []
    for variant in 0..<6 {
      let (port, far) = try await scene.makePort()
      switch variant {
      case 0: far.put(word(.firstFragment, 16), words: [100, 0])  // a message that is never completed
      case 1: for _ in 0..<20 { far.put(word(.abort)) }
      case 2: far.ourLane.storeDoorbell(.message, Doorbell.polling)
      case 3: far.ourLane.storeDoorbell(.message, 0xdead_beef)
      case 4:
        far.theirLane.storeDoorbell(.space, Doorbell.asleepOnSocket)
        far.post([1])
      default: far.post([1])  // and nobody takes it
      }
      if variant != 5 { _ = try listen(port, .handler, on: scene.loop) } else { port.onClose = { _ in } }
      far.signal()
      ends.append(far)
      // The port lives with its handlers.
      if variant == 5 { ends.append(try await scene.makePort().far) }
    }
    try await Task.sleep(for: .milliseconds(100))
    let use = try await scene.loopUse()
    #expect(use < 0.1, "\(use) of a processor")
    try await scene.checkFriend()
    withExtendedLifetime(ends) {}
  }

  @Test(
    "A ring whose records lead back to its start is delivered twice at most, and costs nothing afterwards",
    arguments: Style.allCases, [RecordHeader.Kind.message, .middleFragment, .abort])
  func circle(_ style: Style, _ kind: RecordHeader.Kind) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let capacity = far.memory.laneCapacity
    var offset = 0
    if kind == .middleFragment {
      // A message of which empty parts come, round and round.
      far.store(100, at: 8)
      far.store(0, at: 16)
      far.store(word(.firstFragment, 16), at: 0)
      offset = 24
    }
    for offset in stride(from: offset, to: capacity - 8, by: 8) { far.store(word(kind), at: offset) }
    far.store(word(.pad), at: capacity - 8)
    let told = try listen(port, style, on: scene.loop)
    far.signal()
    try await Task.sleep(for: .milliseconds(200))
    var count = told.count
    try await eventually("that nothing comes any more") {
      defer { count = told.count }
      try await Task.sleep(for: .milliseconds(50))
      return told.count == count
    }
    #expect(count <= 2 * capacity / 8)
    let use = try await scene.loopUse(during: .milliseconds(100))
    #expect(use < 0.2, "\(use) of a processor")
    // The peer's end is noticed as ever, if the circle was no violation.
    if told.all.last?.isViolation != true {
      far.hangUp()
      #expect(try await told.wait(for: count + 1).last == .close("peer exited"))
    }
    try await scene.checkFriend()
  }

  @Test(
    "A peer that writes fragments and aborts as fast as it can does not keep the victim from others",
    arguments: Style.allCases)
  func busyWriter(_ style: Style) async throws {
    let scene = try await Scene()
    // A lap takes the victim longer than the attacker.
    let (port, far) = try await scene.makePort(laneCapacity: 512 << 10)
    let capacity = far.memory.laneCapacity
    let told = try listen(port, style, on: scene.loop)
    let isOver = Flag()
    defer { isOver.set() }
    for offset in stride(from: 0, to: capacity - 8, by: 8) { far.store(word(.abort), at: offset) }
    far.store(word(.pad), at: capacity - 8)
    // It only has to repair what the victim takes away.
    startThread { while !isOver.isSet { far.store(word(.abort), at: 0) } }
    far.signal()
    try await Task.sleep(for: .milliseconds(100))
    for _ in 0..<5 { try await scene.checkFriend() }
    isOver.set()
    far.hangUp()
    try await told.wait(for: 1)
  }

  @Test("Waiting ends when its time is over, though a peer keeps the ring busy with nothing", arguments: [false, true])
  func timeOut(_ isSplit: Bool) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let capacity = far.memory.laneCapacity
    let isOver = Flag()
    defer { isOver.set() }
    let halves = isSplit ? try port.split() : nil
    // Every few milliseconds, something that is no message.
    startThread {
      while !isOver.isSet {
        if far.offset == capacity - 16 {
          far.store(0, at: 0)
          far.store(word(.pad, 8), at: far.offset)
          far.offset = 0
        }
        far.put(word(.abort))
        far.signal()
        usleep(2000)
      }
    }
    let waited = try await onThread { () -> Duration in
      let began = ContinuousClock.now
      do {
        if let halves {
          var reader = halves.takeReader()
          _ = try reader.read(timeout: .milliseconds(200)) { $0.byteCount }
        } else {
          _ = try port.receive(timeout: .milliseconds(200))
        }
      } catch PortError.timedOut {}
      return ContinuousClock.now - began
    }
    #expect(waited >= .milliseconds(200) && waited < .seconds(2), "\(waited)")
  }

  @Test("A peer that keeps flipping the doorbell does not make the victim's loop spin", arguments: [0, 20, 200])
  func flippedDoorbell(_ pauseMicroseconds: UInt32) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    let isOver = Flag()
    defer { isOver.set() }
    startThread {
      let lane = far.ourLane
      var value: UInt32 = 0
      while !isOver.isSet {
        value = (value + 1) % 5
        lane.storeDoorbell(.message, value)
        _ = unsafe csupport_futex_wake_all(lane.doorbellWord(.message))
        if pauseMicroseconds > 0 { usleep(pauseMicroseconds) }
      }
    }
    let use = try await scene.loopUse(during: .milliseconds(400))
    print("doorbell flipped every \(pauseMicroseconds) µs: \(use) of a processor")
    // Each of the peer's system calls may be one wake-up, and a loop that was woken looks around for some 50 µs: with shorter
    // pauses than that, it has as much to do as the peer.
    if pauseMicroseconds > 100 { #expect(use < 0.5, "\(use) of a processor") }
    try await scene.checkFriend()
    // What it posts is still delivered, once it stops wiping out that somebody sleeps, and rings.
    isOver.set()
    try await Task.sleep(for: .milliseconds(20))
    far.post([7])
    far.send([1])
    #expect(try await told.wait(for: 1) == [.message([7], ports: 0)])
  }

  // MARK: - Lies about what was read

  @Test(
    "A peer that says it has read what was never written is found out at the next full ring", arguments: [false, true])
  func releasedLies(_ isSplit: Bool) async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    far.theirLane.storeReleased(1 << 40)
    if isSplit {
      let halves = try port.split()
      let error = try await onThread { () -> String in
        var writer = halves.takeWriter()
        do {
          for _ in 0..<1000 { _ = try writer.tryWrite(bitwise: 7 as UInt64) }
          return "nothing"
        } catch { return "\(error)" }
      }
      #expect(error.contains("protocol violation"), "\(error)")
    } else {
      let told = try listen(port, .handler, on: scene.loop)
      for _ in 0..<1000 { try port.postMessage(bytes: [1, 2, 3]) }
      let all = try await told.wait(for: 1)
      #expect(all[0].isViolation, "\(all)")
    }
    try await scene.checkFriend()
  }

  @Test("Whoever waits for room under a limit goes on when the peer lies about what it has read")
  func limitedAndLied() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort(queueLimit: 200)
    let told = try listen(port, .handler, on: scene.loop)
    while true { do { try port.postMessage(bytes: [1, 2, 3]) } catch { break } }
    async let wait: Void = port.waitForSpace(byteCount: 100)
    try await Task.sleep(for: .milliseconds(20))
    far.theirLane.storeReleased(.max)
    // As a correct reader does after it has released something.
    var consumer = RingConsumer(memory: far.memory, lane: 1 - far.end)
    consumer.wakeProducer()
    if consumer.takeOwedSignal() { far.send([1]) }
    try await wait
    try port.postMessage(bytes: [UInt8](repeating: 0, count: 100))
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
  }

  // MARK: - What is left of a liar

  @Test(
    "A port whose peer was found lying can be given to an honest process, which hears of the close and nothing worse")
  func transferAfterViolation() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let told = try listen(port, .handler, on: scene.loop)
    far.put(word(99))
    far.signal()
    try await told.wait(for: 1)
    // Still silent: the close handler is with the old object.
    let (silent, farSilent) = try await scene.makePort()
    farSilent.put(word(99))
    farSilent.signal()
    try await expectViolation(at: silent)

    let channel = try MessageChannel(options: Scene.options)
    let received = Collected<MessageEvent>()
    scene.friend.on("echo") { received.append($0.message) }
    try scene.friend.postMessage("echo", transfer: [channel.port2])
    let back = try #require(try await received.wait(for: 1)[0].ports.first)
    for victim in [silent, port] {
      // Over a channel that is shared, and so as to another process.
      try back.postMessage(bytes: [1], transfer: [victim])
      let event = try await onThread { try channel.port1.receiveSoon() }
      let arrived = try #require(event.ports.first)
      let heard = try listen(arrived, .handler)
      let all = try await heard.wait(for: 1)
      #expect(all[0].isViolation, "\(all)")
    }
    #expect(!channel.port1.isPeerClosed && !back.isPeerClosed)
    try back.postMessage(bytes: [2])
    #expect(try await onThread { try channel.port1.receiveSoon().bytes } == [2])
  }

  @Test("Halves whose reader has found the peer lying make a port that says so")
  func joinAfterViolation() async throws {
    let scene = try await Scene()
    let (port, far) = try await scene.makePort()
    let halves = try port.split()
    far.put(word(99))
    far.signal()
    let joined = try await onThread { () -> MessagePort in
      var reader = halves.takeReader()
      do {
        _ = try reader.readSoon { $0.byteCount }
        throw Scene.Failure("a forged record was read")
      } catch PortError.peerClosed {}
      return try MessagePort(joining: halves.takeWriter(), reader)
    }
    let told = try listen(joined, .handler, on: scene.loop)
    let all = try await told.wait(for: 1)
    #expect(all[0].isViolation, "\(all)")
    try await expectViolation(at: joined)
  }

  @Test("A reader that lost one message's ports reads the next large one")
  func largeWithBadPorts() async throws {
    let scene = try await Scene()
    for style in Style.allCases {
      let (port, far) = try await scene.makePort()
      let told = try listen(port, style, on: scene.loop)
      for _ in 0..<2 {
        far.put(word(.firstFragment, 16), words: [16, 5])
        far.put(word(.lastFragment, 8, ports: 1), words: [6])
        try HostileRecordsTests.Packet.partialTooSmall.send(over: far)
        far.signal()
      }
      far.put(word(.firstFragment, 16), words: [16, 7])
      far.put(word(.lastFragment, 8), words: [8])
      far.signal()
      let all = try await told.wait(for: 3)
      // A blocking receive leaves errors to the loop, which may tell of them later.
      let message = Told.message([7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0], ports: 0)
      #expect(all.filter(\.isError).count == 2 && all.contains(message), "\(style): \(all)")
    }
  }
}

/// A receive finds that the peer was caught lying.
private func expectViolation(at port: MessagePort, sourceLocation: SourceLocation = #_sourceLocation) async throws {
  let error = try await onThread { portError { _ = try port.receiveSoon() } }
  #expect(error.hasPrefix("peerClosed.protocol violation"), "\(error)", sourceLocation: sourceLocation)
}

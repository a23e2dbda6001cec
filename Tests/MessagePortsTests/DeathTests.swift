import Glibc
import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("4.7, 4.8 Processes that stop and die", .ownThread, .timeLimit(.minutes(10)))
struct DeathTests {
  @Test("4.7 A process that is merely stopped is not dead, and goes on where it was")
  func stoppedIsNotDead() throws {
    let process = FarProcess()
    let puppet = try Puppet(in: process)
    let received = Received(on: puppet.port)
    try puppet.post(0..<10)
    try received.wait(for: 10)
    try process.suspend()
    #expect(!puppet.port.isPeerClosed)
    try settle(.anotherProcess)  // another process comes and goes meanwhile
    #expect(received.closeCount == 0 && !puppet.port.isPeerClosed)
    process.resume()
    try puppet.post(10..<20)
    #expect(try received.wait(for: 20) == Array(0..<20))
    #expect(received.closeCount == 0)
  }

  @Test("4.7 The death of a stopped process is noticed all the same")
  func stoppedAndKilled() throws {
    let process = FarProcess()
    let received = Received(on: try process.open(.hold))
    try process.suspend()
    try process.kill()
    try received.waitForClose()
  }

  @Test("4.7 Death is noticed without any traffic, at any number of ports, started or not")
  func noticedWithoutTraffic() throws {
    let process = FarProcess()
    let closed = Collected<Int>()
    let ports = try (0..<50).map { index in
      let port = try process.open(index % 2 == 0 ? .hold : .sink)
      port.onClose = { _ in closed.append(index) }
      if index % 3 == 0 { port.onMessage = { _ in } }
      return port
    }
    try process.kill()
    #expect(try closed.wait(for: 50).sorted() == Array(0..<50))
    #expect(ports.allSatisfy { $0.isPeerClosed })
  }

  @Test("4.7 Children that the process has started hide its death from nobody", arguments: ["kill", "exit"])
  func grandchild(_ how: String) throws {
    let process = FarProcess()
    let puppet = try Puppet(in: process)
    let received = Received(on: puppet.port)
    let sleeper = try puppet.spawnSleeper()
    defer { kill(sleeper, SIGKILL) }
    if how == "kill" { try process.kill() } else { try puppet.exit(0) }
    try received.waitForClose()
    #expect(kill(sleeper, 0) == 0, "the grandchild should still run")
  }

  @Test(
    "4.8 Of a process killed while posting, every completed post arrives, and never part of a message",
    arguments: [FarRole.pourForEver, .pourSizesForEver])
  func killedWhilePosting(_ role: FarRole) throws {
    let seed = testSeed()
    print("seed \(seed)")
    var random = SeededGenerator(seed: seed)
    for _ in 0..<8 {
      let process = FarProcess()
      let confirmations = try MessageChannel()
      let received = Collected<Int>(), confirmed = Collected<Int>()
      let ends = Collected<String>()
      let port = try process.open(role, extra: [confirmations.port2])
      port.onClose = { _ in ends.append("messages") }
      confirmations.port1.onClose = { _ in ends.append("confirmations") }
      confirmations.port1.onMessage = { event in confirmed.append((try? event.load(as: Int.self)) ?? -1) }
      port.onMessage = { event in
        received.append(Self.number(of: event, role))
        if received.count % 64 == 0 { try? confirmations.port1.postMessage(bitwise: received.count) }
      }
      try received.wait(for: Int.random(in: 1...(role == .pourForEver ? 3000 : 60), using: &random))
      try process.kill()
      try ends.wait(for: 2)
      let numbers = received.all
      #expect(numbers == Array(0..<numbers.count), "a message is missing, came twice, or is not what was posted")
      #expect(confirmed.all == Array(0..<confirmed.count))
      // A post is confirmed after it has returned.
      #expect(numbers.count >= confirmed.count)
      #expect(ends.count == 2)
    }
  }

  /// The message's number if all of it is right.
  private static func number(of event: MessageEvent, _ role: FarRole) -> Int {
    let bytes = event.bytes
    guard bytes.count >= 8 else { return -1 }
    let number = unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: Int.self) }
    let size = role == .pourForEver ? 8 : FarRole.killSize(number)
    guard number >= 0, bytes.count == size else { return -2 }
    return bytes == FarRole.killMessage(number, byteCount: size) ? number : -3
  }

  @Test("4.8 The same for a receiver that has not been reading: everything is there, then the end")
  func killedBeforeReading() throws {
    let process = FarProcess()
    let confirmations = try MessageChannel()
    let port = try process.open(.pourSizesForEver, extra: [confirmations.port2])
    var confirmed = -1
    for _ in 0..<100 { confirmed = try confirmations.port1.receiveNumber() }
    try process.kill()
    while case .message(let event) = try confirmations.port1.tryReceive() { confirmed = try event.load(as: Int.self) }
    var count = 0
    do {
      while true {
        let event = try port.receiveSoon()
        #expect(Self.number(of: event, .pourSizesForEver) == count)
        count += 1
      }
    } catch PortError.peerClosed(.peerExited) {}
    #expect(count > confirmed)
  }
}

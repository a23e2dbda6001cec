import CTestSupport
import Glibc
import MessagePorts
import Synchronization
import TestSupport
import Testing

/// When the system refuses a single call. A filter refuses for ever; so most tests refuse a call to one thread, and
/// find out on another that nothing is broken.
@Suite("Exhaustion", .serialized, .timeLimit(.minutes(5)))
struct ExhaustionTests {
  // MARK: Sharing and transfer

  @Test(
    "9.3 A transfer that the system refuses at any step is a typed error that changed nothing",
    arguments: [
      Refusal(.memfd_create, ENOMEM), Refusal(.memfd_create, ENFILE), Refusal(.ftruncate, ENOMEM),
      .sharedMapping(ENOMEM), Refusal(.socketpair, ENFILE), Refusal(.sendmsg, ENOMEM), Refusal(.sendmsg, ETOOMANYREFS),
      Refusal(.sendmsg, ENOBUFS),
    ])
  func transferRefused(_ refusal: Refusal) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try await makeChannels(1, agent, firstKey: 0)[0]
    let channel = try MessageChannel(options: ChannelOptions(backing: .memfd))
    try channel.port1.postMessage(bitwise: 1 as UInt64)
    // Large enough for the carrying ring to grow before it is refused: that, too, is taken back.
    let error = try await Refusal.during([refusal]) {
      portError { try link.postMessage(bytes: patternBytes(count: 1000, seed: 1), transfer: [channel.port2]) }
    }
    let isQueue = [ETOOMANYREFS, ENOBUFS].contains(refusal.error)
    #expect(error == (isQueue ? "transferQueueFull" : "system.\(refusal.error)"))
    #expect(!channel.port2.isDetached)
    try await onThread {
      try channel.port2.expect(1)
      try channel.port2.postMessage(bitwise: 2 as UInt64)
      try channel.port1.expect(2)
    }
    // The refused message has left no trace, and the same goes through now.
    try channel.port1.postMessage(bitwise: 3 as UInt64)
    try link.postMessage(bitwise: 8 as UInt64, transfer: [channel.port2])
    try await agent.call(.take, 0, 1, 8)
    try await agent.call(.expect, 1, 3, 1)
  }

  @Test(
    "2.2, 9.3 A large message whose ports are refused when it is sent is taken back, and the next ones arrive",
    arguments: [1000, 100_000, 1 << 20, 3 << 20], [nil, 8 << 20] as [Int?])
  func largeTransferRefused(_ byteCount: Int, _ queueLimit: Int?) async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel(options: ChannelOptions(queueLimitBytes: queueLimit))
    try await agent.call(.keep, 0, transfer: [link.port2])
    let channel = try MessageChannel(options: ChannelOptions(backing: .memfd))
    for round in 0..<5 as Range<UInt64> {
      let error = try await Refusal.during([Refusal(.sendmsg, ETOOMANYREFS)]) {
        portError {
          try link.port1.postMessage(bytes: patternBytes(count: byteCount, seed: 1), transfer: [channel.port2])
        }
      }
      #expect(error == "transferQueueFull")
      // Small, and as large; from this end, which has gone on behind what was taken back.
      try link.port1.postMessage(bitwise: round)
      try link.port1.postMessage(bytes: patternBytes(count: byteCount, seed: 2 + round))
      try await agent.call(.expect, 0, round, 1)
      try await agent.call(.expectBytes, 0, UInt64(byteCount), 2 + round)
    }
    let bytes = patternBytes(count: byteCount, seed: UInt64(byteCount))
    try link.port1.postMessage(bytes: bytes, transfer: [channel.port2])
    try await agent.call(.takeBytes, 0, 1, UInt64(byteCount))
  }

  @Test(
    "9.3 Ports that the system does not hand over now stay with their message, which comes whole when it does",
    arguments: [ENOMEM, ENOBUFS], [8, 1 << 20])
  func receivingRefused(_ error: CInt, _ byteCount: Int) async throws {
    let (port, end) = try sharedChannelHere()
    let carried = try MessageChannel()
    try port.postMessage(bytes: patternBytes(count: byteCount, seed: 1), transfer: [carried.port2])
    try port.postMessage(bytes: [2])
    let refusal = Refusal(.recvmsg, error)

    // Whoever asks is told, each time.
    try await Refusal.during([refusal]) {
      for _ in 0..<3 { #expect(portError { _ = try end.receiveSoon() } == "system.\(error)") }
    }
    // A loop that has the same trouble keeps trying, and another one has what is left.
    let events = Collected<String>()
    let arrived = Collected<MessagePort>()
    end.onClose = { events.append("\($0)") }
    end.onMessageError = { events.append("\($0)") }
    let refused = EventLoop(name: "refused")
    try await Refusal.during([refusal]) {
      refused.enqueueNothing()
      end.setEventLoop(refused)
      end.onMessage = { event in
        for port in event.ports { arrived.append(port) }
        events.append(event.bytes == patternBytes(count: byteCount, seed: 1) ? "whole" : "\(event.bytes)")
      }
    }
    try await Task.sleep(for: .milliseconds(100))
    #expect(events.all == [])
    #expect(!end.isPeerClosed)
    end.setEventLoop(.default)
    #expect(try await events.wait(for: 2) == ["whole", "[2]"])
    refused.stop()

    let received = try #require(arrived.all.first)
    try await onThread {
      try carried.port1.postMessage(bitwise: 1 as UInt64)
      try received.expect(1)
    }
    port.close()
    #expect(try await events.wait(for: 3).last == "\(CloseReason.closedByPeer)")
  }

  @Test(
    "9.3 A reader whose ports the system does not hand over now has them and the whole message when it does",
    arguments: [8, 1 << 20])
  func readingRefused(_ byteCount: Int) async throws {
    let (port, end) = try sharedChannelHere()
    let carried = try MessageChannel()
    try port.postMessage(bytes: patternBytes(count: byteCount, seed: 1), transfer: [carried.port2])
    let halves = try end.split()
    let reader = Mutex(halves.takeReader())
    try await Refusal.during([Refusal(.recvmsg, ENOMEM)]) {
      for _ in 0..<3 {
        let error = reader.withLock { reader in portError { _ = try reader.tryRead { $0.byteCount } } }
        #expect(error == "system.\(ENOMEM)")
      }
    }
    let (bytes, ports) = try reader.withLock { reader in
      (try reader.readSoon { unsafe $0.withUnsafeBytes { unsafe Array($0) } }, reader.takePorts())
    }
    #expect(bytes == patternBytes(count: byteCount, seed: 1))
    try carried.port1.postMessage(bitwise: 1 as UInt64)
    try await onThread { try #require(ports.first).expect(1) }
  }

  @Test(
    "4.5 A close does not overtake a message that lack of memory keeps from being looked at, and that nobody takes yet")
  func closeWaitsForMemory() async throws {
    let (port, end) = try sharedChannelHere()
    let closes = Collected<CloseReason>()
    let refused = EventLoop(name: "refused")
    try await Refusal.during([.sharedMapping(ENOMEM)]) {
      refused.enqueueNothing()
      end.setEventLoop(refused)
      end.onClose = { closes.append($0) }
    }
    // So large that the lane grows for it: first comes the link to the rest.
    try port.postMessage(bytes: patternBytes(count: 1 << 20, seed: 1))
    port.close()
    try await eventually("the end is noticed") { end.isPeerClosed }
    try await Task.sleep(for: .milliseconds(100))
    #expect(closes.count == 0)
    let bytes = try await onThread { try end.receiveSoon().bytes }
    #expect(bytes == patternBytes(count: 1 << 20, seed: 1))
    #expect(try await closes.wait(for: 1) == [.closedByPeer])
    refused.stop()
  }

  @Test("6.2 When a socket takes no more packets, the transfer is a typed error that changed nothing; later, more go")
  func socketFull() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        setLimit(RLIMIT_NOFILE, nil)
        let agent = try await settledAgent()
        let link = try await makeChannels(1, agent, firstKey: 0)[0]
        // As for a process without privileges.
        let forced = Refusal(.setsockopt, EPERM, where: 2, is: UInt32(SO_SNDBUFFORCE))
        let (posted, last) = try await Refusal.during([forced]) { try fillSocket(of: link) }
        #expect(posted > 50)
        try await onThread { try last.port2.expect(posted) }
        try link.postMessage(bitwise: posted)
        for number in 0..<posted { try await agent.call(.take, 0, 1, number) }
        try await agent.call(.expect, 0, posted, 1)
        try link.postMessage(bitwise: 0 as UInt64, transfer: [last.port2])
        try await agent.call(.take, 0, 1, 0)
        try last.port1.postMessage(bitwise: 9 as UInt64)
        try await agent.call(.expect, 1, 9, 1)
      }
    }
  }

  // MARK: Memory

  @Test(
    "2.2 A lane that may not grow refuses what does not fit; what it has accepted arrives, and then more",
    arguments: [Refusal(.fallocate, ENOSPC), Refusal(.fallocate, ENOMEM), .sharedMapping(ENOMEM)])
  func growthRefused(_ refusal: Refusal) async throws {
    let agent = try Agent(.anotherProcess)
    let port = try await makeChannels(1, agent, firstKey: 0)[0]
    let carried = try MessageChannel()
    let posted = try await Refusal.during([refusal]) {
      let posted = try fill(port, until: refusal.error)
      #expect(
        portError { try port.postMessage(bytes: patternBytes(count: 1 << 20, seed: 1)) } == "system.\(refusal.error)")
      return posted
    }
    let error = try await Refusal.during([refusal]) {
      portError { try port.postMessage(bytes: patternBytes(count: 5000, seed: 1), transfer: [carried.port2]) }
    }
    #expect(error == "system.\(refusal.error)")
    #expect(!carried.port2.isDetached)
    try await expectUsable([carried])
    // Grown before everything is read, and not.
    try port.postMessage(bytes: patternBytes(count: 1 << 20, seed: 2))
    try await agent.call(.expect, 0, 0, posted)
    try await agent.call(.expectBytes, 0, 1 << 20, 2)
    try port.postMessage(bitwise: posted, transfer: [carried.port2])
    try await agent.call(.take, 0, 1, posted)
  }

  @Test(
    "9.3 When /dev/shm is full, sharing and growing are typed errors that changed nothing, and what was accepted arrives",
    .enabled("namespaces may not be made here") { await canConfine() })
  func sharedMemoryFull() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        unsafe setenv("MESSAGEPORTS_BACKING", "posixSharedMemory", 1)
        // All on one thread: the others see the system's own /dev/shm.
        try await onThread {
          try #require(ctest_make_small_shm(256 << 10) == 0)
          try fillSharedMemory()
        }
      }
    }
  }

  @Test("3.7 A message for which the receiver has no memory is a message error, and the next ones are intact")
  func noMemoryForAMessage() async throws {
    let agent = try Agent(.anotherProcess)
    // Mapped from the start: only the message's own memory is missing.
    let channel = try MessageChannel(options: ChannelOptions(laneCapacityBytes: 128 << 20))
    try await agent.call(.keep, 0, transfer: [channel.port2])
    let big = [UInt8](repeating: 1, count: 64 << 20)
    try channel.port1.postMessage(bytes: big)
    try channel.port1.postMessage(bitwise: 7 as UInt64)
    try await agent.call(.limitAddresses, 48 << 20)
    try await agent.call(.record, 0)
    try await expectRecorded("outOfMemory, 7", agent)
    try await agent.call(.limitAddresses, 0)
    try channel.port1.postMessage(bytes: big)
    try channel.port1.postMessage(bitwise: 8 as UInt64)
    // A message that is no number is written down as the largest one.
    try await expectRecorded("outOfMemory, 7, \(UInt64.max), 8", agent)
  }

  private func expectRecorded(_ expected: String, _ agent: Agent) async throws {
    let deadline = ContinuousClock.now + patience
    var text = try await agent.call(.recorded).text
    while text.count < expected.count, ContinuousClock.now < deadline {
      try await Task.sleep(for: .milliseconds(5))
      text = try await agent.call(.recorded).text
    }
    #expect(text == expected)
  }

  // MARK: Processes, names, threads

  @Test("9.3 Starting a worker that the system refuses at any step is a typed error, and leaves nothing")
  func spawnRefused() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let settled = try await PeerProcess.spawn("exit").exitStatus
        #expect(settled == .exited(0))
        let before = Resources.now()
        for refusals in [
          [Refusal(.socketpair, ENFILE)], [.sharedMapping(ENOMEM)], [Refusal(.sendmsg, ENOBUFS)],
          [Refusal(.clone, EAGAIN), Refusal(.clone3, EAGAIN)],
        ] {
          #expect(try await Refusal.during(refusals, errnoOfSpawning) == refusals[0].error, "\(refusals)")
          #expect(waitpid(-1, nil, WNOHANG) == -1, "no child is left: \(refusals)")
        }
        try await expectBack(before)
        #expect(try await PeerProcess.spawn("exit").exitStatus == .exited(0))
      }
    }
  }

  @Test(
    "9.3 Listening that the system refuses at any step is a typed error, and leaves no name",
    arguments: [Refusal(.socket, ENFILE), Refusal(.chmod, EPERM), Refusal(.chmod, EIO)])
  func listeningRefused(_ refusal: Refusal) async throws {
    let path = freshPath()
    await #expect {
      try await Refusal.during([refusal]) { _ = try Listener(path: path, access: .anyone) }
    } throws: {
      switch $0 as? ConnectionError {
      case .system(let error): error.errno == refusal.error
      case .notPermitted(path): refusal.error == EPERM
      default: false
      }
    }
    #expect(unsafe access(path, F_OK) == -1)
    try await expectServing(Listener(path: path, access: .anyone))
  }

  @Test("9.3 A loop for which there is no thread yet starts with the next thing that it is given, and loses nothing")
  func noThread() async throws {
    let loop = EventLoop(name: "late")
    let channel = try MessageChannel(loop: loop)
    let numbers = Collected<UInt64>()
    try await Refusal.during([Refusal(.clone, EAGAIN), Refusal(.clone3, EAGAIN)]) {
      channel.port2.onMessage = { numbers.append((try? $0.load(as: UInt64.self)) ?? .max) }
      for number in 0..<10 as Range<UInt64> { try channel.port1.postMessage(bitwise: number) }
    }
    #expect(numbers.count == 0)
    loop.enqueueNothing()
    #expect(try await numbers.wait(for: 10) == Array(0..<10))
    loop.stop()
  }

  @Test(
    "9.3 A socket that the system does not let be watched at first is watched later: the end is heard of",
    arguments: [ENOSPC, ENOMEM])
  func watchRefused(_ error: CInt) async throws {
    let agent = try Agent(.anotherProcess)
    let ports = try await makeChannels(2, agent, firstKey: 0)
    let events = Collected<String>()
    try await Refusal.during([Refusal(.epoll_ctl, error)]) {
      for port in ports {
        port.onClose = { _ in events.append("close") }
        port.onMessage = { events.append("\((try? $0.load(as: UInt64.self)) ?? .max)") }
      }
    }
    try await agent.call(.post, 0, 5, 1)
    #expect(try await events.wait(for: 1) == ["5"])
    try await agent.call(.release, 0)
    try await agent.call(.close, 1)
    #expect(try await events.wait(for: 3) == ["5", "close", "close"])
  }
}

/// Posts numbers from 0 on until the system refuses with this error, and returns how many.
private func fill(_ port: MessagePort, until expected: CInt) throws -> UInt64 {
  for number in 0..<1_000_000 as Range<UInt64> {
    let error = portError { try port.postMessage(bitwise: number) }
    guard error != "none" else { continue }
    try #require(error == "system.\(expected)")
    return number
  }
  throw Agent.Failure(description: "never refused")
}

@Sendable private func errnoOfSpawning() throws -> CInt {
  do {
    _ = try PeerProcess.spawn("silent")
    return 0
  } catch ConnectionError.system(let error) {
    return error.errno
  }
}

/// Posts ports, each with its number waiting in it, until the socket is full. Returns how many were taken, and the channel
/// of the one that was not.
private func fillSocket(of link: MessagePort) throws -> (UInt64, MessageChannel) {
  for number in 0..<100_000 as Range<UInt64> {
    let channel = try MessageChannel()
    try channel.port1.postMessage(bitwise: number)
    do {
      try link.postMessage(bitwise: number, transfer: [channel.port2])
    } catch PortError.transferQueueFull(let error) {
      #expect(error.errno == EAGAIN)
      return (number, channel)
    }
  }
  throw Agent.Failure(description: "never full")
}

/// Shares and posts on a small /dev/shm until nothing more goes, and goes on when there is room.
private func fillSharedMemory() throws {
  let agent = try Agent(.anotherProcess)
  let channel = try MessageChannel()
  let port = channel.port1
  try agent.callBlocking(.keep, 0, transfer: [channel.port2])
  let linkChannel = try MessageChannel()
  let link = linkChannel.port1
  try agent.callBlocking(.keep, 1, transfer: [linkChannel.port2])
  let posted = try fill(port, until: ENOSPC)
  #expect(posted > 1000)
  var shared: [MessagePort] = []
  var refused: MessageChannel?
  for number in 0..<100 as Range<UInt64> where refused == nil {
    let channel = try MessageChannel()
    try channel.port1.postMessage(bitwise: 4 as UInt64)
    let error = portError { try link.postMessage(bitwise: number, transfer: [channel.port2]) }
    guard error != "none" else {
      shared.append(channel.port1)
      continue
    }
    #expect(error == "system.\(ENOSPC)")
    refused = channel
  }
  let left = try #require(refused)
  try left.port2.expect(4)
  // Those that are there work, and what was accepted is there.
  for number in 0..<UInt64(shared.count) { try agent.callBlocking(.take, 1, 10 + number, number) }
  try agent.callBlocking(.expect, 0, 0, posted)
  // With what was read, there is room again.
  try link.postMessage(bitwise: 7 as UInt64, transfer: [left.port2])
  try agent.callBlocking(.take, 1, 2, 7)
  try left.port1.postMessage(bitwise: 5 as UInt64)
  try agent.callBlocking(.expect, 2, 5, 1)
  try port.postMessage(bytes: patternBytes(count: 30_000, seed: 3))
  try agent.callBlocking(.expectBytes, 0, 30_000, 3)
  withExtendedLifetime(shared) {}
}

extension EventLoop {
  /// Gives the loop an occasion to look around.
  fileprivate func enqueueNothing() { Task(executorPreference: self) {} }
}

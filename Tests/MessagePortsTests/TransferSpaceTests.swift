import Glibc
import TestSupport
import Testing

@testable import MessagePorts

/// Waiting until what travels with messages can be sent again.
@Suite("Waiting for room for transfers", .serialized, .timeLimit(.minutes(5)))
struct TransferSpaceTests {
  /// Posts the reading ends of pipes until the kernel takes no more. Returns how many it took.
  private func fill(_ port: MessagePort) async throws -> Int {
    // The socket's buffer stays as it is: a few hundred packets, whoever runs this.
    try await Refusal.during([Refusal(.setsockopt, EPERM)]) {
      let pipe = try TestPipe()
      for count in 0..<100_000 {
        let file = try pipe.reader.duplicate()
        let error = portError { try port.postMessage(bitwise: count, descriptors: [file]) }
        if error == "none" { continue }
        try #require(error == "transferQueueFull" && file.isOpen)
        return count
      }
      throw Agent.Failure(description: "never full")
    }
  }

  private func wait(on port: MessagePort) async -> String {
    do throws(PortError) {
      try await port.waitForTransferSpace()
      return "none"
    } catch { return error.caseName }
  }

  /// A full channel, and how its far end takes one message.
  private func full(_ place: Place) async throws -> (port: MessagePort, take: @Sendable () async throws -> Void) {
    switch place {
    case .thisProcess:
      let (near, far) = try sharedChannelHere()
      #expect(try await fill(near) > 20)
      return (near, { _ = try far.tryReceive() })
    case .anotherProcess:
      let agent = try Agent(.anotherProcess)
      let link = try MessageChannel()
      try await agent.call(.keep, 0, transfer: [link.port2])
      #expect(try await fill(link.port1) > 20)
      return (link.port1, { try await agent.call(.describeDescriptors, 0) })
    }
  }

  @Test(
    "6.9 The wait ends when the receiver takes what came along with a message, and then there is room for another",
    arguments: Place.allCases)
  func ends(_ place: Place) async throws {
    let (port, take) = try await full(place)
    for _ in 0..<3 {
      let resumed = Promise<String>()
      Task { resumed.fulfil(await wait(on: port)) }
      try await eventually("the wait") { port.core.outgoing.state.withLock { !$0.sending.spaceWaiters.isEmpty } }
      try settle()
      #expect(resumed.value == nil)
      try await take()
      #expect(try await onThread { try resumed.wait() } == "none")
      // Until it is full again.
      let pipe = try TestPipe()
      try port.postMessage(bitwise: 1, descriptors: [pipe.reader])
      try await Refusal.during([Refusal(.setsockopt, EPERM)]) {
        while portError({ try port.postMessage(bitwise: 1, descriptors: [pipe.writer.duplicate()]) }) == "none" {}
      }
    }
    withExtendedLifetime(take) {}
  }

  @Test("6.9 What the receiver took before the wait began counts", arguments: Place.allCases)
  func tookBefore(_ place: Place) async throws {
    let (port, take) = try await full(place)
    try await take()
    #expect(await wait(on: port) == "none")
    try port.postMessage(bitwise: 1, descriptors: [TestPipe().reader])
    #expect(await wait(on: port) == "none")
    withExtendedLifetime(take) {}
  }

  @Test("6.9 Without a transfer that was refused, nobody waits", arguments: Place.allCases)
  func atOnce(_ place: Place) async throws {
    let port = try place.open(.hold)
    #expect(await wait(on: port) == "none")
    try port.postMessage(bitwise: 1, descriptors: [TestPipe().reader])
    #expect(await wait(on: port) == "none")
    let carried = try MessageChannel().port2
    carried.close()
    #expect(portError { try port.postMessage(transfer: [carried]) } == "invalidTransfer.isClosed")
    #expect(await wait(on: port) == "none")
  }

  enum Ending: String, CaseIterable, Sendable { case ownClose, transfer, peerClose, cancellation }

  @Test(
    "6.9, 13.7 The wait ends with the port, with the other end, and with the task, and says with which",
    arguments: Ending.allCases)
  func otherEnds(_ ending: Ending) async throws {
    let (port, far) = try sharedChannelHere()
    #expect(try await fill(port) > 20)
    let resumed = Promise<String>()
    let task = Task { resumed.fulfil(await wait(on: port)) }
    try await eventually("the wait") { port.core.outgoing.state.withLock { !$0.sending.spaceWaiters.isEmpty } }
    switch ending {
    case .ownClose: port.close()
    case .transfer: try MessageChannel().port1.postMessage(transfer: [port])
    case .peerClose: far.close()
    case .cancellation: task.cancel()
    }
    let expected =
      switch ending {
      case .ownClose: "closed"
      case .transfer: "detached"
      case .peerClose: "none"
      case .cancellation: "cancelled"
      }
    #expect(try await onThread { try resumed.wait() } == expected)
    if ending != .peerClose, ending != .cancellation { #expect(await wait(on: port) == expected) }
    withExtendedLifetime(far) {}
  }

  @Test(
    "6.9 If others' are in the way, of which nobody tells, the wait is over after a moment; it can be cancelled, too")
  func untold() async throws {
    let (port, far) = try sharedChannelHere()
    let pipe = try TestPipe()
    let error = try await Refusal.during([Refusal(.sendmsg, ETOOMANYREFS)]) {
      portError { try port.postMessage(bitwise: 1, descriptors: [pipe.reader]) }
    }
    #expect(error == "transferQueueFull" && pipe.reader.isOpen)
    #expect(await wait(on: port) == "none")
    let task = Task { await wait(on: port) }
    task.cancel()
    #expect(await task.value == "cancelled")
    try port.postMessage(bitwise: 2, descriptors: [pipe.reader])
    #expect(try await onThread { try far.receiveSoon() }.descriptors.count == 1)
    #expect(await wait(on: port) == "none")
  }

  @Test("2.4, 6.9 Those that wait for room and those that wait to transfer do not hold up each other")
  func bothKinds() async throws {
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 1 << 20))
    let halves = try channel.port2.split()
    let far = try MessagePort(joining: halves.takeWriter(), halves.takeReader())
    let port = channel.port1
    #expect(try await fill(port) > 20)
    let unread = [UInt8](repeating: 1, count: 1000)
    while portError({ try port.postMessage(bytes: unread) }) == "none" {}
    while portError({ try port.postMessage(bytes: [1]) }) == "none" {}
    let ended = Collected<String>()
    let tasks = ["large", "transfer", "larger"].map { name in
      Task {
        switch name {
        case "transfer": try await port.waitForTransferSpace()
        case "large": try await port.waitForSpace(byteCount: 500_000)
        default: try await port.waitForSpace(byteCount: 600_000)
        }
        ended.append(name)
      }
    }
    try await eventually("the waits") {
      port.core.outgoing.state.withLock { $0.sending.spaceWaiters.inOrder.count == 3 }
    }
    _ = try far.tryReceive()
    // One descriptor has gone, and next to no bytes.
    #expect(try await ended.wait(for: 1) == ["transfer"])
    while case .message = try far.tryReceive() {}
    #expect(try await ended.wait(for: 3).sorted() == ["large", "larger", "transfer"])
    for task in tasks { try await task.value }
  }

  @Test(
    "6.9, 11.1 Any number of descriptors flow through, by a handler or by hand, none lost", arguments: [true, false])
  func flow(_ byHandler: Bool) async throws {
    let (port, far) = try sharedChannelHere()
    let total = 3000
    let numbers = Collected<Int>()
    let take: @Sendable (MessageEvent) -> Void = { event in
      numbers.append(event.descriptors.count == 1 ? (try? event.load(as: Int.self)) ?? -1 : -2)
    }
    if byHandler {
      far.onMessage = take
    } else {
      startThread { while numbers.count < total, let event = try? far.receiveSoon() { take(event) } }
    }
    let pipe = try TestPipe()
    for number in 0..<total {
      let file = try pipe.reader.duplicate()
      while true {
        do throws(PortError) {
          try port.postMessage(bitwise: number, descriptors: [file])
          break
        } catch {
          guard case .transferQueueFull = error else { throw error }
        }
        try await port.waitForTransferSpace()
      }
    }
    #expect(try await numbers.wait(for: total) == Array(0..<total))
  }
}

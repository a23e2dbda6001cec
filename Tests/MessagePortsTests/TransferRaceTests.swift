import MessagePorts
import TestSupport
import Testing

/// Transfers while other threads use the same ports.
@Suite("Transfer races", .serialized, .timeLimit(.minutes(5)))
struct TransferRaceTests {
  @Test(
    "6.4 Transfers and posts of several threads on one port all arrive, each thread's in its order",
    arguments: Place.allCases)
  func transfersUnderPosts(_ place: Place) async throws {
    struct Parcel: PlainValue {
      var thread: UInt64, number: UInt64
      static let layout = PlainLayout<Parcel>(\.thread, \.number)
    }
    let agent = try Agent(place)
    let carrier = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [carrier.port2])
    try await agent.call(.echo, 0)
    let (threads, each) = (4, 250)
    let channels = try (0..<threads * each).map { _ in try MessageChannel() }
    try await withThrowingTaskGroup { group in
      for thread in 0..<threads {
        group.addTask {
          try await onThread {
            for number in 0..<each {
              let parcel = Parcel(thread: UInt64(thread), number: UInt64(number))
              // Two threads post plain messages, two post ports.
              if thread < 2 {
                try carrier.port1.postMessage(bitwise: parcel)
              } else {
                try carrier.port1.postMessage(bitwise: parcel, transfer: [channels[thread * each + number].port2])
              }
            }
          }
        }
      }
      try await group.waitForAll()
    }
    try await onThread {
      var next = [UInt64](repeating: 0, count: threads)
      for _ in 0..<threads * each {
        let event = try carrier.port1.receiveSoon()
        let parcel = try event.load(as: Parcel.self)
        let thread = Int(parcel.thread)
        guard parcel.number == next[thread], event.ports.count == (thread < 2 ? 0 : 1) else {
          throw Agent.Failure(description: "\(parcel) with \(event.ports.count) ports, not \(next[thread])")
        }
        next[thread] += 1
        if let port = event.ports.first {
          try port.postMessage(bitwise: parcel.number)
          try channels[thread * each + Int(parcel.number)].port1.expect(parcel.number)
        }
      }
    }
  }

  @Test("6.2 Of two threads that transfer the same port at once, one succeeds", arguments: Place.allCases)
  func twoTransfersOfOnePort(_ place: Place) async throws {
    let agents = [try Agent(place), try Agent(place)]
    for agent in agents { try await agent.call(.processIdentifier) }
    for round in 0..<100 as Range<UInt64> {
      let channel = try MessageChannel()
      let winners = Collected<Int>()
      try await withThrowingTaskGroup { group in
        for (index, agent) in agents.enumerated() {
          group.addTask {
            try await onThread {
              do {
                try agent.begin(.keep, 1, transfer: [channel.port2])
                winners.append(index)
              } catch PortError.invalidTransfer(index: 0, .isDetached) {}
            }
          }
        }
        try await group.waitForAll()
      }
      try #require(winners.count == 1)
      let winner = agents[winners.all[0]]
      try await winner.end()
      try channel.port1.postMessage(bitwise: round)
      try await winner.call(.expect, 1, round, 1)
    }
  }

  @Test(
    "6.1 A thread that posts on a port while it is transferred loses nothing that was accepted",
    arguments: Place.allCases)
  func postingWhileTransferred(_ place: Place) async throws {
    let agent = try Agent(place)
    for _ in 0..<50 {
      let channel = try MessageChannel()
      let isOver = Flag()
      defer { isOver.set() }
      async let accepted: UInt64 = onThread {
        var number: UInt64 = 0
        while !isOver.isSet {
          do { try channel.port2.postMessage(bitwise: number) } catch PortError.detached { return number }
          number += 1
        }
        return number
      }
      try await Task.sleep(for: .microseconds(UInt64.random(in: 0..<500)))
      try await agent.call(.keep, 1, transfer: [channel.port2])
      let count = try await accepted
      try await agent.call(.post, 1, count, 5)
      try await onThread { for number in 0..<count + 5 { try channel.port1.expect(number) } }
      try await agent.call(.close, 1)
      try await onThread { try channel.port1.expectEnd() }
    }
  }

  @Test(
    "6.4 A thread that receives from a port while it is transferred takes no message from the new owner twice",
    arguments: Place.allCases)
  func receivingWhileTransferred(_ place: Place) async throws {
    let agent = try Agent(place)
    for _ in 0..<30 {
      let channel = try MessageChannel()
      let count: UInt64 = 2000
      async let posting: Void = onThread {
        for number in 0..<count { try channel.port1.postMessage(bitwise: number) }
      }
      async let taken: UInt64 = onThread {
        var number: UInt64 = 0
        while true {
          do { try channel.port2.expect(number) } catch PortError.detached { return number }
          number += 1
        }
      }
      try await Task.sleep(for: .microseconds(UInt64.random(in: 0..<2000)))
      try await agent.call(.keep, 1, transfer: [channel.port2])
      try await posting
      let first = try await taken
      try await agent.call(.expect, 1, first, count - first)
      try await agent.call(.expectNothing, 1)
    }
  }

  @Test("6.2 Closing and transferring a port at once does one of the two", arguments: Place.allCases)
  func closeAgainstTransfer(_ place: Place) async throws {
    let agent = try Agent(place)
    try await agent.call(.processIdentifier)
    for round in 0..<100 as Range<UInt64> {
      let channel = try MessageChannel()
      async let closing: Void = onThread { channel.port2.close() }
      async let isTransferred: Bool = onThread {
        do {
          try agent.begin(.keep, 1, transfer: [channel.port2])
          return true
        } catch PortError.invalidTransfer(index: 0, .isClosed) {
          return false
        }
      }
      try await closing
      if try await isTransferred {
        try await agent.end()
        #expect(channel.port2.isDetached)
        try channel.port1.postMessage(bitwise: round)
        try await agent.call(.expect, 1, round, 1)
      } else {
        #expect(channel.port2.isClosed)
        try await onThread { try channel.port1.expectEnd() }
      }
    }
  }

  @Test(
    "2.2 A port whose transfers are refused again and again misses no message and not its end",
    arguments: Place.allCases)
  func refusedAgainAndAgain(_ place: Place) async throws {
    let agent = try Agent(place)
    let carrier = try MessageChannel(options: ChannelOptions(queueLimitBytes: 16))
    try await agent.call(.keep, 0, transfer: [carrier.port2])
    try carrier.port1.postMessage(bytes: [])
    try carrier.port1.postMessage(bytes: [])
    for _ in 0..<20 {
      let channel = try MessageChannel()
      let received = Collected<UInt64>()
      let closes = Collected<CloseReason>()
      let isOver = Collected<Void>()
      channel.port2.onMessage = { received.append((try? $0.load(as: UInt64.self)) ?? .max) }
      channel.port2.onClose = { closes.append($0) }
      async let refusals: Int = onThread {
        var count = 0
        while isOver.count == 0 {
          do {
            try carrier.port1.postMessage(bytes: [], transfer: [channel.port2])
            throw Agent.Failure(description: "not refused")
          } catch PortError.queueFull {
            count += 1
            // The others must have a chance on a machine with one processor.
            usleepBriefly(20)
          }
        }
        return count
      }
      for number in 0..<200 as Range<UInt64> { try channel.port1.postMessage(bitwise: number) }
      channel.port1.close()
      do { try await closes.wait(for: 1) } catch { Issue.record("\(received.count) messages, no close") }
      isOver.append(())
      #expect(received.all == Array(0..<200))
      _ = try await refusals
    }
  }

  @Test("6.3 A port that is handed on within the process while somebody waits for it still hears of its end")
  func handedOnWhileWatched() async throws {
    let agent = try Agent(.anotherProcess)
    let count: UInt64 = 300
    let handOver = try MessageChannel()
    let closes = Collected<Int>()
    let kept = Collected<MessagePort>()
    async let receiving: Void = onThread {
      for index in 0..<Int(count) {
        let port = try handOver.port2.receiveSoon().ports[0]
        port.onClose = { _ in closes.append(index) }
        kept.append(port)
      }
    }
    for first in stride(from: 0, to: count, by: 100) {
      for port in try await agent.call(.makeChannels, first, 100).ports {
        // The loop watches a port that has a handler.
        port.onClose = { _ in Issue.record("the old object hears nothing") }
        try await onThread { try handOver.port1.postMessage(bytes: [], transfer: [port]) }
      }
    }
    try await receiving
    try await agent.kill()
    do { try await closes.wait(for: Int(count)) } catch {
      Issue.record("\(Int(count) - closes.count) of \(count) ports have not heard of their end")
    }
    kept.removeAll()
  }

  // MARK: Whoever waits at the other end

  @Test(
    "6.5 A poster that waits for space goes on once the transferred peer's new owner has read",
    arguments: Place.allCases)
  func waitForSpaceSurvives(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 64))
    for number in 0..<4 { try channel.port1.postMessage(bitwise: UInt64(number)) }
    let hasSpace = Collected<Void>()
    let waiting = Task {
      try await channel.port1.waitForSpace(byteCount: 8)
      hasSpace.append(())
    }
    try await Task.sleep(for: .milliseconds(30))
    try await agent.call(.keep, 0, transfer: [channel.port2])
    try await Task.sleep(for: .milliseconds(30))
    #expect(hasSpace.count == 0)
    try await agent.call(.expect, 0, 0, 2)
    try await hasSpace.wait(for: 1)
    try await waiting.value
    try channel.port1.postMessage(bitwise: 4 as UInt64)

    // The same with a channel that lies in shared memory already, and with a second transfer.
    try channel.port1.postMessage(bitwise: 5 as UInt64)
    let again = Task {
      try await channel.port1.waitForSpace(byteCount: 8)
      hasSpace.append(())
    }
    try await Task.sleep(for: .milliseconds(30))
    let back = try #require(try await agent.call(.give, 0).ports.first)
    #expect(hasSpace.count == 1)
    try await onThread { for number in 2..<6 { try back.expect(UInt64(number)) } }
    try await hasSpace.wait(for: 2)
    try await again.value
  }

  @Test("6.5 A poster that waits for space is let go when the transferred peer closes", arguments: Place.allCases)
  func waitForSpaceEnds(_ place: Place) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel(options: ChannelOptions(queueLimitBytes: 16))
    try channel.port1.postMessage(bitwise: 1)
    let hasSpace = Collected<Void>()
    let waiting = Task {
      try await channel.port1.waitForSpace(byteCount: 8)
      hasSpace.append(())
    }
    try await Task.sleep(for: .milliseconds(30))
    try await agent.call(.keep, 0, transfer: [channel.port2])
    #expect(hasSpace.count == 0)
    try await agent.call(.close, 0)
    try await hasSpace.wait(for: 1)
    try await waiting.value
  }

  enum Waiting: String, CaseIterable, CustomStringConvertible {
    case blocked, suspended, handler
    var description: String { rawValue }
  }

  @Test(
    "6.5 Whoever waits for a message is not disturbed when the peer is transferred",
    arguments: Place.allCases, Waiting.allCases)
  func receiverSurvives(_ place: Place, _ waiting: Waiting) async throws {
    let agent = try Agent(place)
    let channel = try MessageChannel()
    let near = channel.port1
    let received = Collected<UInt64>()
    let closes = Collected<CloseReason>()
    near.onClose = { closes.append($0) }
    @Sendable func note(_ event: MessageEvent) { received.append((try? event.load(as: UInt64.self)) ?? .max) }
    let task: Task<Void, any Error>?
    switch waiting {
    case .blocked: task = Task { try await onThread { for _ in 0..<3 { note(try near.receiveSoon()) } } }
    case .suspended: task = Task { for try await event in near.messages { note(event) } }
    case .handler:
      near.onMessage = { note($0) }
      task = nil
    }
    try await Task.sleep(for: .milliseconds(20))
    try await agent.call(.keep, 0, transfer: [channel.port2])
    try await agent.call(.post, 0, 0, 1)
    try await received.wait(for: 1)
    // And again, from shared memory to here.
    let back = try #require(try await agent.call(.give, 0).ports.first)
    try back.postMessage(bitwise: 1 as UInt64)
    try await received.wait(for: 2)
    try await agent.call(.keep, 0, transfer: [back])
    try await agent.call(.post, 0, 2, 1)
    #expect(try await received.wait(for: 3) == [0, 1, 2])
    #expect(closes.all.isEmpty)
    try await agent.call(.close, 0)
    try await closes.wait(for: 1)
    try await task?.value
  }
}

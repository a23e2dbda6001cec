import Glibc
import MessagePorts
import TestSupport
import Testing

extension Tag {
  /// Takes seconds, not milliseconds.
  @Tag static var soak: Self
}

/// Large numbers. Each test has a process of its own, because what it counts belongs to the whole process.
@Suite("Large numbers", .serialized, .tags(.soak), .timeLimit(.minutes(5)))
struct ResourceSoakTests {
  @Test("9.1 Channels are made, used and closed 100,000 times with 256 descriptors")
  func hundredThousandChannels() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        setLimit(RLIMIT_NOFILE, 256)
        func use(_ count: Int) async throws {
          try await onThread {
            for number in 0..<UInt64(count) {
              let channel = try MessageChannel()
              try channel.port1.postMessage(bitwise: number)
              try channel.port2.expect(number)
              channel.port1.close()
              if number % 2 == 0 { channel.port2.close() }
            }
          }
        }
        try await use(1000)
        let (before, resident) = (Resources.now(), Resources.residentKilobytes)
        try await use(100_000)
        try await expectBack(before)
        #expect(Resources.residentKilobytes < resident + (16 << 10))
      }
    }
  }

  @Test("9.1 Ports are transferred between two processes 100,000 times, and nothing is left in either")
  func hundredThousandTransfers() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let channels = try (0..<100).map { _ in try MessageChannel() }
        let link = try MessageChannel()
        try await agent.call(.keep, 0, transfer: [link.port2])
        try await agent.call(.echo, 0)
        /// Ports go there and back: that is two transfers for each.
        @Sendable func rounds(_ count: Int, _ ports: [MessagePort]) async throws -> [MessagePort] {
          try await onThread {
            var ports = ports
            for _ in 0..<count {
              try link.port1.postMessage(bytes: [], transfer: ports)
              ports = try link.port1.receiveSoon().ports
            }
            return ports
          }
        }
        var ports = try await rounds(10, channels.map(\.port2))
        let (before, resident) = (Resources.now(), Resources.residentKilobytes)
        let (far, farResident) = (
          try await agent.call(.descriptors).value, try await agent.call(.residentKilobytes).value
        )
        ports = try await rounds(450, ports)  // 90,000, a hundred at a time
        ports[0] = try await rounds(5000, [ports[0]])[0]  // 10,000, one by one
        try await expectBack(before)
        try await expectBack(far, of: agent)
        #expect(Resources.residentKilobytes < resident + (16 << 10))
        #expect(try await agent.call(.residentKilobytes).value < farResident + (16 << 10))
        // And each is still itself.
        let last = ports
        try await onThread {
          for (index, port) in last.enumerated() {
            try port.postMessage(bitwise: UInt64(index))
            try channels[index].port1.expect(UInt64(index))
          }
        }
      }
    }
  }

  @Test("5.4 Ten thousand ports with handlers in one process work, and cost nothing while nothing comes")
  func tenThousandPorts() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let channel = try MessageChannel()
        channel.port1.onMessage = { _ in }
        let before = Resources.now()
        let heard = Collected<UInt64>()
        let closes = Collected<CloseReason>()
        func listen(_ ports: [MessagePort]) {
          for port in ports {
            port.onMessage = { heard.append((try? $0.load(as: UInt64.self)) ?? .max) }
            port.onClose = { closes.append($0) }
          }
        }
        // As many of them as the descriptors allow lead to another process, the others stay within this one.
        setLimit(RLIMIT_NOFILE, nil)
        var limit = rlimit()
        unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let shared = min(2500, (Int(limit.rlim_cur) - 500) / 3)
        let local = (10_000 - shared) / 2
        let channels = try (0..<local).map { _ in try MessageChannel() }
        listen(channels.flatMap { [$0.port1, $0.port2] })
        var ports: [MessagePort] = []
        for first in stride(from: 0, to: shared, by: 100) {
          ports += try await makeChannels(min(100, shared - first), agent, firstKey: UInt64(first))
        }
        try await agent.call(.echoMany, 0, UInt64(shared))
        listen(ports)

        for channel in channels {
          try channel.port1.postMessage(bitwise: 1 as UInt64)
          try channel.port2.postMessage(bitwise: 1 as UInt64)
        }
        for port in ports { try port.postMessage(bitwise: 1 as UInt64) }
        try await heard.wait(for: 2 * local + shared)
        #expect(Set(heard.all) == [1])
        #expect(Resources.now().threads <= before.threads + 3)

        try await Task.sleep(for: .milliseconds(200))
        let (here, there) = (Resources.processorTime, try await agent.call(.processorMilliseconds).value)
        try await Task.sleep(for: .seconds(1))
        #expect(Resources.processorTime - here < .milliseconds(30))
        #expect(try await agent.call(.processorMilliseconds).value <= there + 30)

        for channel in channels { channel.port1.close() }
        for key in 0..<UInt64(shared) { try agent.begin(.close, key) }
        for _ in 0..<shared { try await agent.end() }
        try await closes.wait(for: local + shared)
        for port in ports { port.close() }
        ports = []
        try await expectBack(before)
      }
    }
  }

  @Test(
    "2.4 One message of 256 MiB, and 256 MiB of small ones, wait for a port that is not started, whole and in order")
  func muchData() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let resident = Resources.residentKilobytes
        let farResident = try await agent.call(.residentKilobytes).value
        do {
          let channel = try MessageChannel()
          let descriptor = try await memory(sharedBy: { try await agent.call(.keep, 0, transfer: [channel.port2]) })
          try await onThread { try channel.port1.postMessage(bytes: blocks(4096)) }
          try await onThread {
            var bytes = [UInt8](repeating: 1, count: 1024)
            for number in 0..<(256 << 10) as Range<UInt64> {
              unsafe bytes.withUnsafeMutableBytes { unsafe $0.storeBytes(of: number, as: UInt64.self) }
              try channel.port1.postMessage(bytes: bytes)
            }
          }
          #expect(allocatedBytes(descriptor) >= 512 << 20, "\(allocatedBytes(descriptor)) bytes")
          try await agent.call(.expectBlocks, 0, 4096)
          try await agent.call(.expectKilobytes, 0, 0, 256 << 10)
          try await agent.call(.expectNothing, 0)
          for number in 0..<3 as Range<UInt64> {
            try channel.port1.postMessage(bitwise: number)
            try await agent.call(.expect, 0, number, 1)
            try await agent.call(.expectNothing, 0)
          }
          #expect(allocatedBytes(descriptor) <= 4 << 20, "\(allocatedBytes(descriptor)) bytes")
          try await agent.call(.release, 0)
        }
        try await eventually("the memory's return") { Resources.residentKilobytes < resident + (32 << 10) }
        #expect(try await agent.call(.residentKilobytes).value < farResident + (32 << 10))
      }
    }
  }

  @Test("9.1 256 MiB that wait for a port give their memory back when it is closed unread")
  func muchDataUnread() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let (before, resident) = (Resources.now(), Resources.residentKilobytes)
        for isLocal in [true, false] {
          let channel = try MessageChannel()
          if !isLocal { try await agent.call(.keep, 0, transfer: [channel.port2]) }
          try await onThread { for _ in 0..<4 { try channel.port1.postMessage(bytes: blocks(1024)) } }
          if isLocal { channel.port2.close() } else { try await agent.call(.close, 0) }
          channel.port1.close()
        }
        try await expectBack(before)
        try await eventually("the memory's return") { Resources.residentKilobytes < resident + (32 << 10) }
      }
    }
  }

  @Test("9.1 What waits for a receiver that is killed gives its memory back with the close, not with the port")
  func muchDataForTheDead() async throws {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try Agent(.anotherProcess)
        let channel = try MessageChannel()
        let closes = Collected<CloseReason>()
        channel.port1.onClose = { closes.append($0) }
        let descriptor = try await memory(sharedBy: { try await agent.call(.keep, 0, transfer: [channel.port2]) })
        try await onThread { for _ in 0..<3 { try channel.port1.postMessage(bytes: blocks(256)) } }
        #expect(allocatedBytes(descriptor) >= 48 << 20, "\(allocatedBytes(descriptor)) bytes")
        try await agent.kill()
        try await closes.wait(for: 1)
        try await eventually("the memory's return") { allocatedBytes(descriptor) < 1 << 20 }
        // Posting goes on, and takes nothing.
        try await onThread { for _ in 0..<3 { try channel.port1.postMessage(bytes: blocks(256)) } }
        for number in 0..<1000 as Range<UInt64> { try channel.port1.postMessage(bitwise: number) }
        #expect(allocatedBytes(descriptor) < 1 << 20, "\(allocatedBytes(descriptor)) bytes")
      }
    }
  }
}

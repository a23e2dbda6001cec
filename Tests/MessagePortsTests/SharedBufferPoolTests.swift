import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// Buffers that are lent again.
@Suite("Pools of buffers", .serialized, .timeLimit(.minutes(3)))
struct SharedBufferPoolTests {
  private func error(_ body: () throws -> Void) -> BufferError? {
    do {
      try body()
      return nil
    } catch { return error as? BufferError }
  }

  private func lent(_ pool: SharedBufferPool) throws -> UntrustedBuffer {
    guard let buffer = try pool.tryTake() else { throw Agent.Failure(description: "nothing to lend") }
    return buffer
  }

  private func shared(_ event: MessageEvent) throws -> UntrustedBuffer {
    guard case .shared(let buffer)? = event.buffers.first else { throw Agent.Failure(description: "no shared buffer") }
    return buffer
  }

  @Test("11.8 A buffer that comes back is lent again, and no memory is made for it", arguments: Place.allCases)
  func roundTrips(_ place: Place) async throws {
    let near = try place.open(.echo)
    // Of a size that no other test has.
    let pool = try SharedBufferPool(byteCount: 70_001, capacity: 2)
    #expect(pool.byteCount == 70_001 && pool.capacity == 2 && pool.lentCount == 0)
    var inodes: Set<UInt64> = []
    for round in 0..<20 as Range<UInt64> {
      let buffer = try lent(pool)
      #expect(buffer.byteCount == 70_001)
      for number in OpenMemory.descriptors(byteCount: 70_001) {
        var facts = csupport_file_facts()
        if unsafe csupport_file_facts(number, &facts) == 0 { inodes.insert(facts.inode) }
      }
      if round > 0 { #expect(try buffer.load(as: UInt64.self, at: 8) == round - 1) }
      try buffer.store(round, at: 8)
      try near.postMessage(bitwise: round, buffers: [.shared(buffer)])
      #expect(!buffer.isOpen && pool.lentCount == 1)
      let event = try await onThread { try near.receiveSoon() }
      #expect(try shared(event).load(as: UInt64.self, at: 8) == round)
      try pool.giveBack(event.buffers[0])
      #expect(pool.lentCount == 0)
    }
    #expect(inodes.count == 1)
  }

  @Test(
    "11.8 There are never more than the capacity, and what is not given back is missing, also when its holder has died")
  func bounded() async throws {
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try await agent.call(.keep, 0, transfer: [link.port2])
    let pool = try SharedBufferPool(byteCount: 70_003, capacity: 3)
    for _ in 0..<3 {
      try link.port1.postMessage(bitwise: 1, buffers: [.shared(lent(pool))])
      try await agent.call(.holdBuffers, 0)
    }
    #expect(try pool.tryTake() == nil && pool.lentCount == 3)
    #expect(OpenMemory.descriptors(byteCount: 70_003).count == 3)
    try await agent.call(.dropBuffers)
    #expect(try pool.tryTake() == nil)
    try await agent.kill()
    try await onThread { try link.port1.expectEnd() }
    #expect(try pool.tryTake() == nil && pool.lentCount == 3)
    pool.close()
    try await eventually("the memory's end") { OpenMemory.descriptors(byteCount: 70_003).isEmpty }
  }

  @Test("11.8 What is no buffer of the pool's, or not out, is refused, and stays the caller's")
  func notLent() async throws {
    let (near, far) = try sharedChannelHere()
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 1),
      other = try SharedBufferPool(byteCount: 4096, capacity: 1)
    var own = try SharedBuffer(byteCount: 4096)
    let foreign = MessageBuffer.shared(try own.share())
    let frozen = MessageBuffer.frozen(try FrozenBuffer(copying: [1]))
    let others = MessageBuffer.shared(try lent(other))
    for buffer in [foreign, frozen, others] {
      #expect(error { try pool.giveBack(buffer) } == .notLent)
      #expect(buffer.byteCount > 0 && buffer.isOpenForTest)
    }
    // The peer keeps a copy, and says twice that it gives the buffer back.
    try near.postMessage(bitwise: 1, buffers: [.shared(lent(pool))])
    let received = try await onThread { try far.receiveSoon() }
    let copies = try (0..<3).map { _ in MessageBuffer.shared(try shared(received).copy()) }
    for copy in copies { try far.postMessage(bitwise: 1, buffers: [copy]) }
    let events = try await onThread { try (0..<3).map { _ in try near.receiveSoon() } }
    try pool.giveBack(events[0].buffers[0])
    #expect(error { try pool.giveBack(events[0].buffers[0]) } == .closed)
    #expect(error { try pool.giveBack(events[1].buffers[0]) } == .notLent)
    // Lent again, and still here: nobody else has it to give back.
    let again = try lent(pool)
    #expect(error { try pool.giveBack(events[2].buffers[0]) } == .notLent)
    #expect(try pool.tryTake() == nil && again.isOpen && events[2].buffers[0].isOpenForTest)
    try pool.giveBack(.shared(again))
    #expect(pool.lentCount == 0)
    #expect(error { try pool.giveBack(.shared(again)) } == .closed)
  }

  @Test("11.8 A buffer is back when every copy that was sent was given back, and none is left here")
  func copies() async throws {
    let (near, far) = try sharedChannelHere()
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 1)
    let buffer = try lent(pool), kept = try buffer.copy()
    for copy in [try buffer.copy(), buffer] { try near.postMessage(bitwise: 1, buffers: [.shared(copy)]) }
    for _ in 0..<2 {
      let event = try await onThread { try far.receiveSoon() }
      try far.postMessage(bitwise: 1, buffers: event.buffers)
    }
    let events = try await onThread { try (0..<2).map { _ in try near.receiveSoon() } }
    for event in events {
      #expect(try pool.tryTake() == nil)
      try pool.giveBack(event.buffers[0])
    }
    #expect(try pool.tryTake() == nil && pool.lentCount == 1)
    kept.close()
    #expect(pool.lentCount == 0)
    #expect(try pool.tryTake() != nil)
  }

  @Test("2.2, 11.8 A buffer whose post is refused, or whose message is discarded, has not left")
  func refused() async throws {
    let (near, far) = try sharedChannelHere()
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 1)
    let buffer = try lent(pool)
    for call in [Refusal(.sendmsg, ETOOMANYREFS), Refusal(.sendmsg, ENOMEM)] {
      let outcome = try await Refusal.during([call]) {
        portError { try near.postMessage(bitwise: 1, buffers: [.shared(buffer)]) }
      }
      #expect(outcome != "none" && buffer.isOpen)
    }
    buffer.close()
    #expect(pool.lentCount == 0)
    far.close()
    try near.postMessage(bitwise: 1, buffers: [.shared(lent(pool))])
    #expect(pool.lentCount == 0)
  }

  @Test("11.7, 11.8 In messages that never leave the process, a buffer is back with the last holder")
  func local() async throws {
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 1)
    do {
      let channel = try MessageChannel()
      try channel.port1.postMessage(bitwise: 1, buffers: [.shared(lent(pool))])
      #expect(try pool.tryTake() == nil)
    }
    #expect(pool.lentCount == 0)
    // One that waits when its channel becomes shared leaves, and has to be given back.
    let agent = try Agent(.anotherProcess)
    let link = try MessageChannel()
    try link.port1.postMessage(bitwise: 1, buffers: [.shared(lent(pool))])
    try await agent.call(.keep, 0, transfer: [link.port2])
    #expect(pool.lentCount == 1)
    try await agent.call(.echo, 0)
    let event = try await onThread { try link.port1.receiveSoon() }
    try pool.giveBack(event.buffers[0])
    #expect(pool.lentCount == 0)
  }

  @Test("11.8 Whoever has had a buffer can read and write what it is lent for next: nothing is promised of that")
  func notPromised() async throws {
    let (near, far) = try sharedChannelHere()
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 1)
    try near.postMessage(bitwise: 1, buffers: [.shared(lent(pool))])
    let received = try await onThread { try far.receiveSoon() }
    let kept = try shared(received).copy()
    try far.postMessage(bitwise: 1, buffers: received.buffers)
    try pool.giveBack(try await onThread { try near.receiveSoon() }.buffers[0])
    let again = try lent(pool)
    try again.store(7 as UInt64, at: 0)
    #expect(try kept.load(as: UInt64.self, at: 0) == 7)
    try kept.store(8 as UInt64, at: 0)
    #expect(try again.load(as: UInt64.self, at: 0) == 8)
  }

  // MARK: - Waiting

  @Test("2.4, 11.8 Tasks wait for a buffer, in turn")
  func waiting() async throws {
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 2)
    let first = try await pool.take(), second = try await pool.take()
    let (order, mayGo) = (Collected<Int>(), Flag())
    for number in 0..<4 {
      let waits = Flag()
      Task(executorPreference: EventLoop.default) {
        waits.set()
        let buffer = try await pool.take()
        order.append(number)
        while !mayGo.isSet { try await Task.sleep(for: .milliseconds(1)) }
        buffer.close()
      }
      try await eventually("the wait") { waits.isSet }
      try settle()
    }
    #expect(order.all.isEmpty && pool.lentCount == 2)
    first.close()
    #expect(try await order.wait(for: 1) == [0])
    try pool.giveBack(.shared(second))
    #expect(try await order.wait(for: 2) == [0, 1])
    #expect(pool.lentCount == 2)
    mayGo.set()
    #expect(try await order.wait(for: 4).count == 4)
    try await eventually("all to be back") { pool.lentCount == 0 }
  }

  @Test("11.8, 13.7 A task that waits hears that the pool was closed, or that it was cancelled, and no buffer is lost")
  func waitingEnds() async throws {
    let pool = try SharedBufferPool(byteCount: 4096, capacity: 1)
    let buffer = try lent(pool)
    for closes in [false, true] {
      let (began, outcome) = (Flag(), Promise<BufferError?>())
      let task = Task(executorPreference: EventLoop.default) {
        began.set()
        do throws(BufferError) {
          _ = try await pool.take()
          outcome.fulfil(nil)
        } catch { outcome.fulfil(error) }
      }
      try await eventually("the wait") { began.isSet }
      try settle()
      if closes { pool.close() } else { task.cancel() }
      #expect(try await onThread { try outcome.wait() } == (closes ? .closed : .cancelled))
    }
    // What was lent is its holder's for good.
    try buffer.store(5 as UInt64, at: 0)
    #expect(try buffer.load(as: UInt64.self, at: 0) == 5)
    #expect(error { _ = try pool.tryTake() } == .closed)
    try pool.giveBack(.shared(buffer))
    #expect(!buffer.isOpen && pool.lentCount == 0)
  }

  // MARK: - Limits

  @Test("2.3, 9.3 Sizes and numbers that no pool has are refused, and so is what the system cannot give, each time")
  func limits() async throws {
    for byteCount in [0, -1] {
      #expect(
        error { _ = try SharedBufferPool(byteCount: byteCount, capacity: 1) } == .invalidByteCount(byteCount))
    }
    for capacity in [0, -1] {
      #expect(error { _ = try SharedBufferPool(byteCount: 1, capacity: capacity) } == .invalidCapacity(capacity))
    }
    let pool = try SharedBufferPool(byteCount: 1 << 60, capacity: 1)
    for _ in 0..<3 {
      #expect { _ = try pool.tryTake() } throws: { if case .system? = $0 as? BufferError { true } else { false } }
    }
    await #expect { _ = try await pool.take() } throws: {
      if case .system? = $0 as? BufferError { true } else { false }
    }
    #expect(pool.lentCount == 0)
  }

  @Test("11.7 A pool that nobody has keeps nothing, but for what is lent")
  func released() async throws {
    var buffer: UntrustedBuffer?
    do {
      let pool = try SharedBufferPool(byteCount: 70_009, capacity: 4)
      let lentOnes = try (0..<3).map { _ in try lent(pool) }
      #expect(OpenMemory.descriptors(byteCount: 70_009).count == 3)
      buffer = lentOnes[1]
    }
    try await eventually("the others' end") { OpenMemory.descriptors(byteCount: 70_009).count == 1 }
    try buffer?.store(1 as UInt8, at: 70_008)
    buffer = nil
    try await eventually("its end") { OpenMemory.descriptors(byteCount: 70_009).isEmpty }
  }
}

extension MessageBuffer {
  fileprivate var isOpenForTest: Bool {
    switch self {
    case .frozen(let buffer): buffer.isOpen
    case .shared(let buffer): buffer.isOpen
    }
  }
}

import MessagePorts
import TestSupport
import Testing

@Suite("Batches of a writer", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct PortBatchTests {
  @Test("A batch is published at its end, also by an error, and if the ring fills up, what fitted is")
  func batch() throws {
    var split = try Split()
    let port = split.port
    func count() throws -> Int {
      var count = 0
      while case .message = try port.tryReceive() { count += 1 }
      return count
    }
    for round in 0..<50 {
      try split.writer.batch { (batch) throws(PortError) in
        for number in 0..<round % 12 {
          let wrote = try batch.tryWrite(bitwise: number)
          #expect(wrote)
        }
        let early = (try? count()) ?? -1
        #expect(early == 0)
      }
      #expect(try count() == round % 12)
    }
    var failed = false
    do {
      try split.writer.batch { (batch) throws(PortError) in
        _ = try batch.tryWrite(bitwise: 1)
        throw .cancelled
      }
    } catch { failed = true }
    #expect(failed)
    #expect(try count() == 1)
    let written = try split.writer.batch { (batch) throws(PortError) in
      var written = 0
      while try batch.tryWrite(bitwise: written) { written += 1 }
      return written
    }
    #expect(written > 50)
    #expect(try count() == written)
    // A sleeper is woken by a batch, too.
    let receiver = TestThread { try port.receiveSoon().load(as: Int.self) }
    usleepBriefly(20_000)
    try split.writer.batch { (batch) throws(PortError) in _ = try batch.tryWrite(bitwise: 77) }
    #expect(try receiver.join() == 77)
  }

  @Test("Whatever way a message is written, the batch withholds it, and keeps the order")
  func everyWay() throws {
    var split = try Split()
    let port = split.port
    let bytes: [UInt8] = [1, 2, 3]
    let words: [UInt64] = [6, 7, 8]
    let odd: [InlineArray<3, Int32>] = [[9, 0, 0], [10, 0, 0]]
    let writtenEarly = try split.writer.batch { (batch) throws(PortError) -> Int in
      #expect(batch.maximumMessageBytes > 0)
      var written = try unsafe batch.tryWrite(bytes.span.bytes) ? 1 : 0
      written += try batch.tryWrite(bitwise: 4) ? 1 : 0
      written += try unsafe batch.tryWrite(unsafeBitwise: 5) ? 1 : 0
      written += try batch.tryReserve(byteCount: 100) { $0.append(11) } ? 1 : 0
      written += try batch.tryWrite(contentsOf: words.span)
      written += try unsafe batch.tryWrite(unsafeContentsOf: odd.span)
      #expect(throws: PortError.self) { try batch.tryReserve(byteCount: .max) { _ in } }
      guard case .empty? = try? port.tryReceive() else {
        Issue.record("the reader sees a part of the batch")
        return written
      }
      return written
    }
    #expect(writtenEarly == 9)
    var sizes: [Int] = []
    while case .message(let event) = try port.tryReceive() { sizes.append(event.byteCount) }
    #expect(sizes == [3, 8, 8, 1, 8, 8, 8, 12, 12])
  }

  @Test("3.3 Batches that are swapped lose no message, and leave both writers good")
  func swapped() throws {
    let (one, two) = (try MessageChannel(), try MessageChannel())
    let (first, second) = (try one.port2.split(), try two.port2.split())
    var writer = first.takeWriter()
    var other = second.takeWriter()
    try writer.batch { (batch) throws(PortError) in
      try other.batch { (otherBatch) throws(PortError) in
        _ = try (batch.tryWrite(bitwise: 1), otherBatch.tryWrite(bitwise: 11))
        swap(&batch, &otherBatch)
        _ = try (batch.tryWrite(bitwise: 12), otherBatch.tryWrite(bitwise: 2))
      }
    }
    for number in [1, 2] { #expect(try takeNumber(one.port1) == number) }
    for number in [11, 12] { #expect(try takeNumber(two.port1) == number) }
    // What was swapped is the writers. They write at once, and as ports they have to grow.
    let wrote = try (writer.tryWrite(bitwise: 13), other.tryWrite(bitwise: 3))
    #expect(wrote == (true, true))
    #expect(try takeNumber(one.port1) == 3)
    #expect(try takeNumber(two.port1) == 13)
    let joined = try MessagePort(joining: other, first.takeReader())
    let otherJoined = try MessagePort(joining: writer, second.takeReader())
    for (from, to) in [(joined, one.port1), (otherJoined, two.port1)] {
      try from.postMessage(bytes: patternBytes(count: 100_000, seed: 1))
      #expect(try to.receiveSoon().byteCount == 100_000)
    }
  }

  @Test("A batch returns what its closure returns, also what cannot be copied")
  func noncopyableResult() throws {
    struct Ticket: ~Copyable { let number: Int }
    var split = try Split()
    let ticket = try split.writer.batch { (batch) throws(PortError) in
      Ticket(number: try batch.tryWrite(bitwise: 1) ? 1 : 0)
    }
    #expect(ticket.number == 1)
    #expect(try takeNumber(split.port) == 1)
  }
}

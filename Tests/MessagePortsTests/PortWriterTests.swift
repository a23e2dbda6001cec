import MessagePorts
import TestSupport
import Testing

@Suite("Writing halves", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct PortWriterTests {
  @Test("A full ring is a value; what was read makes room for as much", arguments: [0, 8, 100, 376])
  func full(_ size: Int) throws {
    var split = try Split()
    let bytes = [UInt8](repeating: 7, count: size)
    var (written, read) = (0, 0)
    for _ in 0..<200 {
      while try unsafe split.writer.tryWrite(bytes.span.bytes) { written += 1 }
      #expect(written > read)
      let room = try split.writer.tryWrite(bitwise: 1 as UInt8)
      if room { written += 1 }
      while case .message(let event) = try split.port.tryReceive() {
        #expect(event.byteCount == size || event.byteCount == 1)
        read += 1
      }
      #expect(read == written)
    }
    #expect(split.writer.capacityBytes == 1536)
  }

  @Test("A message that never fits is an error with the limit, whatever its size, and changes nothing")
  func tooLarge() throws {
    var split = try Split()
    let limit = split.writer.maximumMessageBytes
    func expectTooLarge(_ size: Int, _ body: (inout PortWriter) throws -> Void, line: Int = #line) {
      do {
        try body(&split.writer)
        Issue.record("\(size) bytes, line \(line)")
      } catch PortError.messageTooLarge(let found, let reported) {
        #expect(found == size && reported == limit)
      } catch {
        Issue.record("\(error)")
      }
    }
    // When the ring is full, nothing but the size decides.
    while try split.writer.tryWrite(bitwise: 0 as UInt64) {}
    for size in [limit + 1, 1536, 1 << 20] {
      let bytes = [UInt8](repeating: 0, count: size)
      expectTooLarge(size) { _ = try unsafe $0.tryWrite(bytes.span.bytes) }
    }
    while case .message = try split.port.tryReceive() {}
    for size in [-1, .min, limit + 1, 1536, 1 << 40, .max - 16, .max - 8, .max - 7, .max] {
      expectTooLarge(size) { writer in
        _ = try writer.tryReserve(byteCount: size) { _ in Issue.record("filled") }
      }
      expectTooLarge(size) { try $0.waitForSpace(byteCount: size, timeout: .zero) }
    }
    let wrote = try split.writer.tryWrite(bitwise: 9)
    #expect(wrote)
    #expect(try takeNumber(split.port) == 9)
  }

  @Test("A reserved message is as long as what was written, and none if writing it failed")
  func reserve() throws {
    var split = try Split()
    let limit = split.writer.maximumMessageBytes
    for (reserved, written) in [(0, 0), (1, 1), (100, 0), (100, 1), (100, 99), (limit, limit), (limit, 3)] {
      let wrote = try split.writer.tryReserve(byteCount: reserved) { output in
        for index in 0..<written { output.append(UInt8(truncatingIfNeeded: index)) }
      }
      #expect(wrote)
      #expect(try split.port.receiveSoon().bytes == (0..<written).map { UInt8(truncatingIfNeeded: $0) })
    }
    var failure: String?
    do {
      _ = try split.writer.tryReserve(byteCount: 100) { (output) throws(PortError) in
        output.append(1)
        throw .cancelled
      }
    } catch { failure = "\(error)" }
    #expect(failure == "cancelled")
    let wrote = try split.writer.tryWrite(bitwise: 5)
    #expect(wrote)
    #expect(try takeNumber(split.port) == 5)
  }

  @Test(
    "Waiting for room ends with room, with its time, and with the other end", arguments: [SpinPolicy.never, .adaptive])
  func waitForSpace(_ policy: SpinPolicy) throws {
    var split = try Split(ChannelOptions(spinPolicy: policy))
    let port = split.port
    try split.writer.waitForSpace(byteCount: 100)
    while try split.writer.tryWrite(bitwise: 1) {}
    let began = ContinuousClock.now
    var outcome = ""
    do { try split.writer.waitForSpace(byteCount: 8, timeout: .milliseconds(50)) } catch { outcome = "\(error)" }
    #expect(outcome == "timedOut" && ContinuousClock.now - began >= .milliseconds(50))
    for size in [8, 200, 376] {
      let reader = TestThread {
        usleepBriefly(30_000)
        for _ in 0..<60 { _ = try port.tryReceive() }
      }
      try split.writer.waitForSpaceSoon(byteCount: size)
      try reader.join()
      while try split.writer.tryWrite(bitwise: 1) {}
    }
    let closer = TestThread {
      usleepBriefly(30_000)
      port.close()
    }
    outcome = ""
    do { try split.writer.waitForSpaceSoon(byteCount: 376) } catch { outcome = "\(error)" }
    #expect(outcome == "peerClosed(closed by peer)")
    try closer.join()
  }
}

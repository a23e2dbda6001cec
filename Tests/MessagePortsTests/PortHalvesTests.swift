import MessagePorts
import TestSupport
import Testing

@Suite("Halves as an object", .serialized, .ownThread, .timeLimit(.minutes(3)))
struct PortHalvesTests {
  enum Taken: CaseIterable { case neither, writer, reader, both }

  @Test(
    "7.2 Halves that nobody has taken close with their object, and those taken with their owners",
    arguments: Taken.allCases)
  func untaken(_ taken: Taken) throws {
    let channel = try MessageChannel()
    var halves: PortHalves? = try channel.port2.split()
    var writer: PortWriter?
    var reader: PortReader?
    if taken == .writer || taken == .both { writer = halves?.takeWriter() }
    if taken == .reader || taken == .both { reader = halves?.takeReader() }
    halves = nil
    if taken != .neither {
      #expect(!channel.port1.isPeerClosed)
      if case .empty = try channel.port1.tryReceive() {} else { Issue.record("closed while a half is taken") }
    }
    _ = consume writer
    _ = consume reader
    #expect { _ = try channel.port1.receiveSoon() } throws: {
      if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
    }
  }

  @Test("The object keeps what nobody has taken open, and what is in it can be taken on any thread")
  func threads() throws {
    let channel = try MessageChannel()
    let halves = try channel.port2.split()
    try channel.port1.postMessage(bitwise: 1)
    let reading = TestThread {
      var reader = halves.takeReader()
      return try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    }
    #expect(try reading.join() == 1)
    let writing = TestThread {
      var writer = halves.takeWriter()
      return try writer.tryWrite(bitwise: 2)
    }
    #expect(try writing.join())
    #expect(try takeNumber(channel.port1) == 2)
  }

  @Test("Halves can be put in an object again, of one port or of two, and close singly")
  func putTogether() async throws {
    let (one, two) = (try MessageChannel(), try MessageChannel())
    let mixed = try mix(one.port2.split(), two.port2.split())
    try await Task.sleep(for: .milliseconds(1))
    try one.port1.postMessage(bitwise: 1)
    try two.port1.postMessage(bitwise: 2)
    var reader = mixed.takeReader()
    let number = try reader.readSoon { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
    #expect(number == 2)
    _ = consume reader
    #expect { _ = try two.port1.receiveSoon() } throws: {
      if case PortError.peerClosed(.closedByPeer) = $0 { true } else { false }
    }
    #expect(!one.port1.isPeerClosed)
    var writer = mixed.takeWriter()
    let wrote = try writer.tryWrite(bitwise: 3)
    #expect(wrote)
    #expect(try takeNumber(one.port1) == 3)
  }

  /// The writer of one, and the reader of the other.
  private func mix(_ one: PortHalves, _ two: PortHalves) -> PortHalves {
    PortHalves(one.takeWriter(), two.takeReader())
  }

  @Test("Halves that wait for each other in an asynchronous function are as good as on a thread")
  func asynchronous() async throws {
    let channel = try MessageChannel()
    let (near, far) = (try channel.port1.split(), try channel.port2.split())
    var writer = near.takeWriter()
    var received = 0
    var reader = far.takeReader()
    while received < 100 {
      let wrote = try writer.tryWrite(bitwise: received)
      try #require(wrote)
      await Task.yield()
      do throws(PortError) {
        let number = try reader.read(timeout: patience) { unsafe $0.unsafeLoadUnaligned(as: Int.self) }
        received = number + 1
      } catch {
        guard case .timedOut = error else { throw error }
      }
    }
  }

  @Test("Taking a half twice ends the program, and says which it was")
  func takenTwice() async throws {
    let writer = try #require(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        await recordErrors {
          let halves = try MessageChannel().port1.split()
          _ = halves.takeReader()
          _ = halves.takeWriter()
          _ = halves.takeWriter()
        }
      })
    #expect(String(decoding: writer.standardErrorContent, as: UTF8.self).contains("the writer of these halves"))
    let reader = try #require(
      await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
        await recordErrors {
          let halves = try MessageChannel().port1.split()
          _ = halves.takeWriter()
          _ = halves.takeReader()
          _ = halves.takeReader()
        }
      })
    #expect(String(decoding: reader.standardErrorContent, as: UTF8.self).contains("the reader of these halves"))
  }
}

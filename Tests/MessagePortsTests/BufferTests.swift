import CSupport
import CTestSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// What is done with a buffer that does not travel.
@Suite("Buffers at home", .serialized, .timeLimit(.minutes(3)))
struct BufferTests {
  @Test(
    "11.5 What was written into a buffer is there when it is frozen, of whatever size",
    arguments: [1, 7, 4095, 4096, 4097, 300_001])
  func freeze(_ byteCount: Int) throws {
    var buffer = try SharedBuffer(byteCount: byteCount)
    #expect(buffer.byteCount == byteCount)
    let zeros = try buffer.withMutableBytes { unsafe $0.withUnsafeMutableBytes { unsafe $0.allSatisfy { $0 == 0 } } }
    #expect(zeros)
    let pattern = patternBytes(count: byteCount, seed: 3)
    try buffer.write(pattern)
    let frozen = try buffer.freeze()
    #expect(frozen.byteCount == byteCount && frozen.isOpen)
    let bytes = try frozen.bytes()
    #expect(bytes.count == byteCount && bytes.elementsEqual(pattern))
    #expect(bytes[byteCount - 1] == pattern[byteCount - 1])
    #expect(Array(bytes) == pattern)
    #expect(bytes.withBytes { $0.byteCount } == byteCount)
  }

  @Test("11.6 A frozen buffer can be written in no way that the kernel offers, not even by its maker")
  func sealed() throws {
    var buffer = try SharedBuffer(byteCount: 8193)
    try buffer.store(7 as UInt64, at: 0)
    let frozen = try buffer.freeze()
    let bytes = try frozen.bytes()
    // The descriptor, as anybody has it to whom the buffer is sent.
    let fd = try #require(OpenMemory.descriptors(byteCount: 8193).first)
    let byte: [UInt8] = [1]
    #expect(unsafe write(fd, byte, 1) == -1 && errno == EPERM)
    #expect(unsafe pwrite(fd, byte, 1, 100) == -1 && errno == EPERM)
    #expect(ftruncate(fd, 4096) == -1 && errno == EPERM)
    #expect(ftruncate(fd, 16384) == -1 && errno == EPERM)
    #expect(csupport_memory_discard(fd, 0, 4096) == -EPERM)
    #expect(csupport_memory_reserve(fd, 8192, 4096) == -EPERM)
    #expect(unsafe mmap(nil, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED && errno == EPERM)
    #expect(csupport_buffer_share(fd) == -EPERM)
    #expect(try bytes.load(as: UInt64.self, at: 0) == 7)
  }

  @Test("11.6 The buffer that was frozen or shared stands for nothing afterwards; a frozen one can be read meanwhile")
  func gone() throws {
    for shares in [false, true] {
      var buffer = try SharedBuffer(byteCount: 100)
      if shares { _ = try buffer.share() } else { _ = try buffer.freeze() }
      #expect(throws: BufferError.gone) { try buffer.write([1]) }
      #expect(throws: BufferError.gone) { try buffer.store(1 as UInt8, at: 0) }
      #expect(throws: BufferError.gone) { try buffer.withMutableBytes { $0.byteCount } }
      #expect(throws: BufferError.gone) { _ = try buffer.freeze() }
      #expect(throws: BufferError.gone) { _ = try buffer.share() }
    }
  }

  @Test(
    "2.3 A size that no buffer has is refused, and so is one for which there is no memory", arguments: [0, -1, .min])
  func size(_ byteCount: Int) throws {
    #expect(throws: BufferError.invalidByteCount(byteCount)) { _ = try SharedBuffer(byteCount: byteCount) }
    #expect {
      _ = try SharedBuffer(byteCount: 1 << 60)
    } throws: { error in
      if case .system? = error as? BufferError { true } else { false }
    }
    #expect(throws: BufferError.invalidByteCount(0)) { _ = try FrozenBuffer(copying: []) }
  }

  @Test("9.3, 13.6 A system that lacks what a buffer takes says so, and once it is there again, a buffer can be made")
  func exhaustion() async throws {
    let agent = try await settledAgent()
    let before = try await agent.call(.descriptors).value
    try await agent.call(.takeDescriptors, 0)
    #expect(try await agent.call(.tryBuffer, 4096).value == UInt64(EMFILE))
    try await agent.call(.giveDescriptors)
    #expect(try await agent.call(.tryBuffer, 4096).value == 0)
    try await agent.call(.limitAddresses, 64 << 20)
    #expect(try await agent.call(.tryBuffer, 128 << 20).value == UInt64(ENOMEM))
    #expect(try await agent.call(.tryBuffer, 4096).value == 0)
    try await agent.call(.limitAddresses, 0)
    #expect(try await agent.call(.tryBuffer, 128 << 20).value == 0)
    // Large ones are let go on a thread for what may take long.
    try await eventually("the buffers to be gone") { try await agent.call(.descriptors).value <= before }
  }

  @Test("11.6 A buffer that something writes into cannot be frozen, and is as it was")
  func beingWritten() throws {
    var buffer = try SharedBuffer(byteCount: 8191)
    try buffer.store(5 as UInt64, at: 8)
    let fd = try #require(OpenMemory.descriptors(byteCount: 8191).first)
    // Somebody in this process has mapped it behind our back.
    let mapped = unsafe mmap(nil, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
    try #require(unsafe mapped != MAP_FAILED)
    #expect(throws: BufferError.isBeingWritten) { _ = try buffer.freeze() }
    try buffer.store(6 as UInt64, at: 16)
    unsafe munmap(mapped, 8192)
    let bytes = try buffer.freeze().bytes()
    #expect(try bytes.load(as: UInt64.self, at: 8) == 5)
    #expect(try bytes.load(as: UInt64.self, at: 16) == 6)
  }

  @Test("11.6 A fork at the wrong moment does not keep a buffer from being frozen")
  func frozenWhileForking() async {
    await #expect(processExitsWith: .success) {
      var buffer = try SharedBuffer(byteCount: 4096)
      // One that does nothing of what `fork` has it do in the child, and lives on.
      let child = ctest_fork_unnoticed()
      precondition(child > 0)
      // Before anything is thrown: it has what the test is waited for by.
      let outcome = Result { try buffer.freeze() }
      kill(child, SIGKILL)
      _ = try outcome.get()
    }
  }

  @Test("Bytes beyond a buffer are refused, whichever way they are meant", arguments: [0, 1] as [Int])
  func bounds(_ shares: Int) throws {
    var buffer = try SharedBuffer(byteCount: 100)
    let ranges = [(-1, 1), (100, 1), (93, 8), (.max, 8), (.min, 8), (0, 101)]
    for (offset, count) in ranges {
      let error = BufferError.outOfBounds(offset: offset, byteCount: count, bufferByteCount: 100)
      #expect(throws: error) { try buffer.write([UInt8](repeating: 1, count: count), at: offset) }
    }
    if shares == 0 {
      let bytes = try buffer.freeze().bytes()
      for offset in [-1, 93, .max, .min] {
        #expect(throws: BufferError.outOfBounds(offset: offset, byteCount: 8, bufferByteCount: 100)) {
          try bytes.load(as: UInt64.self, at: offset)
        }
      }
      return
    }
    let shared = try buffer.share()
    for (offset, count) in ranges {
      let error = BufferError.outOfBounds(offset: offset, byteCount: count, bufferByteCount: 100)
      #expect(throws: error) { try shared.write([UInt8](repeating: 1, count: count), at: offset) }
      if count == 8 { #expect(throws: error) { try shared.load(as: UInt64.self, at: offset) } }
      if count == 8 { #expect(throws: error) { try shared.store(1 as UInt64, at: offset) } }
    }
    #expect(throws: BufferError.self) { try shared.read(.min..<(.max)) }
    #expect(throws: BufferError.self) { try shared.read(-5..<5) }
    #expect(throws: BufferError.self) { try shared.read(99..<101) }
    #expect(try shared.read(100..<100) == [])
  }

  @Test("11.5 A shared buffer is read and written by copies, by everybody who has one")
  func shared() throws {
    var buffer = try SharedBuffer(byteCount: 64)
    try buffer.store(3 as UInt32, at: 60)
    let shared = try buffer.share(), other = try shared.copy()
    try other.store(1.5, at: 1)
    try other.write([1, 2, 3], at: 20)
    #expect(try shared.load(as: Double.self, at: 1) == 1.5)
    #expect(try shared.load(as: UInt32.self, at: 60) == 3)
    #expect(try shared.read(19..<24) == [0, 1, 2, 3, 0])
    var copy: [UInt8] = [9, 9, 9]
    try unsafe copy.withUnsafeMutableBytes { bytes in
      var span = unsafe bytes.mutableBytes
      try shared.read(into: &span, at: 21)
    }
    #expect(copy == [2, 3, 0])
  }

  @Test("A buffer larger than the caller wants is not mapped")
  func limit() throws {
    let frozen = try FrozenBuffer(copying: [1, 2, 3])
    #expect(throws: BufferError.tooLarge(byteCount: 3, limit: 2)) { _ = try frozen.bytes(upTo: 2) }
    #expect(throws: BufferError.tooLarge(byteCount: 3, limit: 2)) { _ = try frozen.decode(Int.self, upTo: 2) }
    var buffer = try SharedBuffer(byteCount: 3)
    let shared = try buffer.share()
    #expect(throws: BufferError.tooLarge(byteCount: 3, limit: 2)) { try shared.map(upTo: 2) }
    #expect(try Array(frozen.bytes(upTo: 3)) == [1, 2, 3])
    try shared.map(upTo: 3)
  }

  @Test("11.6 A value is decoded where it lies; one that is none is a decoding error")
  func decode() throws {
    let value = ["a": [1, 2, 3], "b": []]
    let frozen = try FrozenBuffer(copying: MessageCoders.current.encode(value))
    #expect(try frozen.decode([String: [Int]].self) == value)
    #expect {
      try frozen.decode(String.self)
    } throws: { error in
      if case .decodingFailed? = error as? PortError { true } else { false }
    }
  }

  @Test("11.5 A buffer that wishes for huge pages is one like any other, whether the system has them or not")
  func hugePages() throws {
    var buffer = try SharedBuffer(byteCount: 5 << 20, prefersHugePages: true)
    try buffer.store(5 as UInt64, at: (5 << 20) - 8)
    let bytes = try buffer.freeze().bytes()
    #expect(try bytes.load(as: UInt64.self, at: (5 << 20) - 8) == 5)
    #expect(try bytes.load(as: UInt64.self, at: 0) == 0)
  }

  @Test("11.7 A buffer's memory is freed with the last of its copies and of those who have its bytes")
  func lastHolder() throws {
    let content = [UInt8](repeating: 9, count: 6007)
    var frozen: FrozenBuffer? = try FrozenBuffer(copying: content)
    #expect(OpenMemory.descriptors(byteCount: 6007).count == 1)
    let copy = try #require(try frozen?.copy())
    var bytes: FrozenBytes? = try frozen?.bytes()
    frozen = nil
    #expect(try Array(copy.bytes()) == content)
    copy.close()
    copy.close()
    #expect(!copy.isOpen)
    #expect(throws: BufferError.closed) { _ = try copy.bytes() }
    #expect(throws: BufferError.closed) { _ = try copy.copy() }
    #expect(bytes.map(Array.init) == content)
    bytes = nil
    #expect(OpenMemory.descriptors(byteCount: 6007).isEmpty)
  }

  @Test("13.2 In a forked child, buffers are closed and their descriptors gone; what was mapped frozen can be read on")
  func forked() async {
    await #expect(processExitsWith: .success) {
      var open = try SharedBuffer(byteCount: 4096), other = try SharedBuffer(byteCount: 4096)
      let frozen = try FrozenBuffer(copying: [1, 2, 3]), bytes = try frozen.bytes()
      let shared = try other.share()
      try shared.map()
      let child = try ForkedChild { checks in
        func expectClosed(_ name: String, _ body: () throws -> Void) {
          do {
            try body()
            checks.expect(false, "\(name) throws")
          } catch {
            checks.expect(error as? BufferError == .closed, name)
          }
        }
        expectClosed("bytes") { _ = try frozen.bytes() }
        expectClosed("copy") { _ = try frozen.copy() }
        expectClosed("read") { _ = try shared.read(0..<1) }
        expectClosed("write") { try shared.write([1], at: 0) }
        checks.expect(!frozen.isOpen && !shared.isOpen, "not open")
        checks.expect(Array(bytes) == [1, 2, 3], "bytes")
        checks.expect(OpenMemory.descriptors(byteCount: 3).isEmpty, "no descriptor")
        frozen.close()
        let fresh = try FrozenBuffer(copying: [4])
        checks.expect(try Array(fresh.bytes()) == [4], "a new one works")
      }
      child.expectSuccess()
      try open.store(1 as UInt8, at: 0)
      _ = try open.freeze()
      #expect(try shared.read(0..<1) == [0])
    }
  }
}

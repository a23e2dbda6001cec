import CTestSupport
import Glibc
import MessagePorts
import Synchronization
import TestSupport
import Testing

/// What is done with a descriptor that does not travel.
@Suite("Descriptors at home", .serialized, .timeLimit(.minutes(3)))
struct DescriptorTests {
  private func error(_ body: () throws -> Void) -> DescriptorError? {
    do {
      try body()
      return nil
    } catch {
      return error as? DescriptorError
    }
  }

  @Test("11.1 A descriptor that was taken over is close-on-exec under its own number, and closed with its owner")
  func owning() async throws {
    var ends: (CInt, CInt) = (-1, -1)
    try #require(unsafe ctest_pipe(&ends.0, &ends.1) == 0)
    let writer = try Descriptor(owning: ends.1)
    _ = fcntl(ends.0, F_SETFD, 0)
    var owner: Descriptor? = try Descriptor(owning: ends.0)
    #expect(try owner?.withDescriptor { $0 } == ends.0)
    #expect(fcntl(ends.0, F_GETFD) & FD_CLOEXEC != 0)
    #expect(owner?.isOpen == true)
    owner = nil
    // The number may be another test's by now.
    try await eventually("the close") { try TestPipe.isHungUp(writer) }
  }

  @Test("11.1 What is not open cannot be taken over, nor duplicated")
  func notOpen() {
    for number in [-1, 1 << 20, 99_999] as [CInt] {
      #expect(error { _ = try Descriptor(owning: number) } == .system(SystemError(call: "fcntl", errno: EBADF)))
      #expect(error { _ = try Descriptor(duplicating: number) } == .system(SystemError(call: "fcntl", errno: EBADF)))
    }
  }

  @Test("11.1 A duplicate has a number of its own, and the original stays the program's")
  func duplicating() async throws {
    let pipe = try TestPipe()
    let number = try pipe.reader.withDescriptor { $0 }
    var copy: Descriptor? = try Descriptor(duplicating: number)
    #expect(try copy?.target() == pipe.name)
    #expect(try copy?.withDescriptor { $0 } != number)
    let another = try pipe.reader.duplicate()
    copy = nil
    another.close()
    #expect(try !TestPipe.isHungUp(pipe.writer))
    pipe.reader.close()
    try await pipe.expectReadersClosed()
  }

  @Test("11.1 A descriptor that was taken is the taker's: nothing closes it, and it can be taken once")
  func taking() async throws {
    let pipe = try TestPipe()
    var owner: Descriptor? = try pipe.reader.duplicate()
    let number = try #require(try owner?.take())
    #expect(owner?.isOpen == false)
    #expect(error { _ = try owner?.take() } == .taken)
    #expect(error { try owner?.withDescriptor { _ in } } == .taken)
    owner?.close()
    owner = nil
    #expect(fcntl(number, F_GETFD) & FD_CLOEXEC != 0)
    close(number)
  }

  @Test("11.1 While a descriptor is in use, it is not taken or posted, and its close waits for the user")
  func inUse() async throws {
    let pipe = try TestPipe(), channel = try MessageChannel()
    try pipe.reader.withDescriptor { number in
      #expect(error { _ = try pipe.reader.take() } == .inUse)
      #expect(portError { try channel.port1.postMessage(descriptors: [pipe.reader]) } == "invalidDescriptor.isInUse")
      try pipe.reader.withDescriptor { #expect($0 == number) }
      pipe.reader.close()
      #expect(!pipe.reader.isOpen)
      #expect(error { _ = try pipe.reader.take() } == .closed)
      #expect(fcntl(number, F_GETFD) >= 0)
      #expect(try !TestPipe.isHungUp(pipe.writer))
    }
    try await pipe.expectReadersClosed()
    #expect(error { try pipe.reader.withDescriptor { _ in } } == .closed)
  }

  @Test("11.1 Of threads that take, post, close and use one descriptor at once, one gets it, and it is closed once")
  func contended() async throws {
    for _ in 0..<200 {
      let pipe = try TestPipe(), channel = try MessageChannel()
      let taken = Collected<CInt>(), posts = Collected<Void>()
      try onThreads(4) { thread in
        switch thread {
        case 0: if let number = try? pipe.reader.take() { taken.append(number) }
        case 1: if (try? channel.port1.postMessage(descriptors: [pipe.reader])) != nil { posts.append(()) }
        case 2: pipe.reader.close()
        default: _ = try? pipe.reader.withDescriptor { _ in }
        }
      }
      #expect(taken.count + posts.count <= 1)
      #expect(!pipe.reader.isOpen)
      for number in taken.all { close(number) }
      channel.port2.close()
      try await pipe.expectReadersClosed()
    }
  }

  @Test("13.1 A standard descriptor that is taken over gets a number above them, and its own is free")
  func standard() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let pipe = try TestPipe()
        try pipe.reader.withDescriptor { _ = dup2($0, STDIN_FILENO) }
        let input = try Descriptor(owning: STDIN_FILENO)
        #expect(try input.described() == pipe.name)
        #expect(fcntl(STDIN_FILENO, F_GETFD) < 0)
      }
    }
  }

  @Test("13.1 A descriptor that arrives while the standard ones are closed gets a number above them")
  func arrivesAboveStandard() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        let agent = try await settledAgent()
        let link = try MessageChannel()
        try await agent.call(.keep, 0, transfer: [link.port2])
        try await agent.call(.postDescriptors, 0, 5)
        for number in [STDIN_FILENO, STDOUT_FILENO] { close(number) }
        let event = try await onThread { try link.port1.receiveSoon() }
        #expect(event.descriptors.count == 5)
        for (index, descriptor) in event.descriptors.enumerated() {
          #expect(try descriptor.described() == descriptor.target())
          #expect(try descriptor.readNumber() == UInt64(index))
        }
      }
    }
  }
}

import Glibc
import TestSupport
import Testing

@testable import MessagePorts

/// A set among the descriptors of somebody else's loop.
@Suite("The descriptor of a set", .timeLimit(.minutes(3)))
struct PortSetDescriptorTests: PortSetWaiting {
  @Test("14.5 The descriptor is readable as long as there is something, and not afterwards", arguments: Place.allCases)
  func descriptor(_ place: Place) async throws {
    let port = try place.open(.echo)
    let set = try PortSet([port])
    #expect(try !isReadable(set))
    for _ in 0..<3 {
      try port.postMessage(bitwise: 1)
      try await onThread { try waitUntilReadable(try set.descriptor, patience) }
      for _ in 0..<3 {
        #expect(try isReadable(set))
        #expect(self.port(try set.nextReady()) === port)
      }
      #expect(try port.receiveNumber() == 1)
      // The port's loop may be about to tell of the message that was taken.
      try await eventually("nothing to tell") { try set.nextReady() == nil && !isReadable(set) }
    }
    try port.postMessage(bitwise: 1)
    try await onThread { try waitUntilReadable(try set.descriptor, patience) }
    set.remove(port)
    #expect(try !isReadable(set))
  }

  @Test(
    "14.5 A descriptor that is asked for late says what there is; a loop may read it, if it takes all there is then")
  func lateDescriptor() throws {
    let channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    try channel.port2.postMessage(bitwise: 0)
    #expect(try isReadable(set))
    for number in 0..<3 {
      var count: UInt64 = 0
      #expect(unsafe read(try set.descriptor, &count, 8) == 8)
      #expect(self.port(try set.nextReady()) === channel.port1)
      #expect(try channel.port1.receiveNumber() == number)
      #expect(try set.nextReady() == nil)
      try channel.port2.postMessage(bitwise: number + 1)
      #expect(try isReadable(set))
    }
  }

  @Test("14.5, 9.3 Without a descriptor to be had, that is the error, and the set goes on")
  func noDescriptor() async throws {
    let channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    let error = try await Refusal.during([Refusal(.eventfd2, EMFILE)]) { portError { _ = try set.descriptor } }
    #expect(error == "system.\(EMFILE)")
    try channel.port2.postMessage(bitwise: 1)
    #expect(self.port(try set.nextReady()) === channel.port1)
    #expect(try isReadable(set))
  }

  @Test("14.5, 9.1 The descriptor closes with the set")
  func descriptorCloses() async {
    // Where nobody else takes the number at once.
    await #expect(processExitsWith: .success) {
      await recordErrors {
        var set: PortSet? = PortSet()
        let descriptor = try set!.descriptor
        #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0 && descriptor > 2)
        weak let gone = try set!.readiness()
        set = nil
        #expect(gone == nil && fcntl(descriptor, F_GETFD) < 0)
      }
    }
  }
}

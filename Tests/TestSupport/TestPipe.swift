import CTestSupport
import Glibc
import MessagePorts

/// A pipe, to see what becomes of its ends.
public struct TestPipe: Sendable {
  public let reader: Descriptor
  public let writer: Descriptor
  /// By this, its ends are known in whatever process.
  public let name: String

  public init() throws {
    var ends: (CInt, CInt) = (-1, -1)
    let result = unsafe ctest_pipe(&ends.0, &ends.1)
    guard result == 0 else { throw SystemError(call: "pipe2", errno: -result) }
    reader = try Descriptor(owning: ends.0)
    writer = try Descriptor(owning: ends.1)
    name = try reader.target()
  }

  /// The reading end of a pipe in which there are the bytes of a number, and nothing follows.
  public static func readable(containing number: UInt64) throws -> Descriptor {
    let pipe = try TestPipe()
    try pipe.writer.write(number)
    pipe.writer.close()
    return pipe.reader
  }

  /// Nobody has the other end of `end` any more, in whatever process or message.
  public static func isHungUp(_ end: Descriptor) throws -> Bool {
    try end.withDescriptor { number in
      var poller = pollfd(fd: number, events: 0, revents: 0)
      guard unsafe poll(&poller, 1, 0) >= 0 else { throw SystemError(call: "poll", errno: errno) }
      return poller.revents & Int16(POLLHUP | POLLERR) != 0
    }
  }

  /// Waits until the writing ends are closed everywhere.
  public func expectWritersClosed() async throws {
    try await eventually("the close of \(name)") { try TestPipe.isHungUp(reader) }
  }

  /// Waits until the reading ends are closed everywhere.
  public func expectReadersClosed() async throws {
    try await eventually("the close of \(name)") { try TestPipe.isHungUp(writer) }
  }
}

extension Descriptor {
  /// What `/proc` says that it is.
  public func target() throws -> String {
    try withDescriptor { number in
      guard let target = linkTarget("/proc/self/fd/\(number)") else {
        throw SystemError(call: "readlink", errno: errno)
      }
      return target
    }
  }

  /// The same, and what is wrong with its number, if anything is.
  public func described() throws -> String {
    let flags = try withDescriptor { number in
      (number < 3 ? " is number \(number)" : "") + (fcntl(number, F_GETFD) & FD_CLOEXEC == 0 ? " is inherited" : "")
    }
    return try target() + flags
  }

  public func write(_ number: UInt64) throws {
    try withDescriptor { descriptor in
      var number = number
      guard unsafe Glibc.write(descriptor, &number, 8) == 8 else { throw SystemError(call: "write", errno: errno) }
    }
  }

  public func readNumber() throws -> UInt64 {
    try withDescriptor { descriptor in
      var number: UInt64 = 0
      guard unsafe Glibc.read(descriptor, &number, 8) == 8 else { throw SystemError(call: "read", errno: errno) }
      return number
    }
  }
}

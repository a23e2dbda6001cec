import CSupport
import Glibc
import MessagePorts
import TestSupport
import Testing

/// What peers have sent, and nobody wants, is closed by some threads, which they can hold up.
@Suite("Descriptors that wait to be closed", .timeLimit(.minutes(3)))
struct ClosingBehindTests {
  /// Keeps those threads from closing anything until it is let go.
  private final class HeldClosers {
    private var sockets: [LingeringSocket] = []
    private let null = unsafe open("/dev/null", O_RDONLY | O_CLOEXEC)

    init() throws {
      for _ in 0..<4 {
        let socket = LingeringSocket()
        sockets.append(socket)
        let number = "/proc/self/fd/\(socket.descriptor)"
        let target = linkTarget(number)
        csupport_close_sent_elsewhere(socket.descriptor)
        // It has no number any more once a thread is closing it; somebody else may have that at once.
        try waitUntil("a thread to be held up") { linkTarget(number) != target }
      }
    }

    func leave(_ count: Int) { for _ in 0..<count { csupport_close_elsewhere(csupport_duplicate(null)) } }

    func letGo() { sockets = [] }
  }

  /// Posts a message with a descriptor.
  private static func post(on port: MessagePort) throws {
    try port.postMessage(bytes: [1], descriptors: [try Descriptor(duplicating: STDIN_FILENO)])
  }

  @Test("9.5 While hundreds wait, a new channel brings no more of them, and an old one that has done no harm does")
  func manyWait() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        try await letDispatchOpenItsOwn()
        let (near, far) = try sharedChannelHere()
        let closers = try HeldClosers()
        closers.leave(600)
        let (later, laterFar) = try sharedChannelHere()
        try ClosingBehindTests.post(on: far)
        #expect(try near.receiveSoon().descriptors.count == 1)
        try ClosingBehindTests.post(on: laterFar)
        if case .empty = try later.tryReceive() {} else { Issue.record("it brought more") }
        closers.letGo()
        #expect(try later.receiveSoon().descriptors.count == 1)
      }
    }
  }

  @Test("9.5 While thousands wait, no channel brings more of them, and what else it brings comes as ever")
  func tooManyWait() async {
    await #expect(processExitsWith: .success) {
      await recordErrors {
        try await letDispatchOpenItsOwn()
        setLimit(RLIMIT_NOFILE, nil)
        let (near, far) = try sharedChannelHere()
        let (other, otherFar) = try sharedChannelHere()
        let closers = try HeldClosers()
        closers.leave(2100)
        try ClosingBehindTests.post(on: far)
        if case .empty = try near.tryReceive() {} else { Issue.record("it brought more") }
        try otherFar.postMessage(bytes: [2])
        #expect(try other.receiveSoon().bytes == [2])
        closers.letGo()
        #expect(try near.receiveSoon().descriptors.count == 1)
      }
    }
  }
}

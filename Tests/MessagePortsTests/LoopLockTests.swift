@testable import MessagePorts
import TestSupport
import Testing

/// A loop does not wait while a thread of the program has one of its ports for long.
@Suite("Loops and locks", .serialized, .timeLimit(.minutes(3)))
struct LoopLockTests {
  @Test("5.3 While something large is posted on a port, its loop serves that port's messages, and others")
  func longPost() async throws {
    let loop = EventLoop(name: "large")
    defer { loop.stop() }
    let (near, far) = try sharedChannelHere()
    let other = try MessageChannel()
    let told = Collected<String>()
    for (port, name) in [(near, "near"), (other.port2, "other")] {
      port.setEventLoop(loop)
      port.onMessage = { _ in told.append(name) }
    }
    try far.postMessage(bytes: [1])
    try await told.wait(for: 1)
    let (isPosting, isOver) = (Flag(), Flag())
    let post = TestThread {
      // As a post holds it that copies for a second.
      near.core.outgoing.state.withLock { _ in
        isPosting.set()
        try? waitUntil("the others to be served") { isOver.isSet }
      }
    }
    try await eventually("the post to begin") { isPosting.isSet }
    for number in 0..<3 {
      try far.postMessage(bytes: [2])
      try await told.wait(for: 2 + 2 * number)
      try other.port1.postMessage(bytes: [3])
      try await told.wait(for: 3 + 2 * number)
    }
    isOver.set()
    try await onThread { try post.join(within: patience) }
    #expect(told.all == ["near"] + (0..<3).flatMap { _ in ["near", "other"] })
  }
}

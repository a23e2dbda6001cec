import TestSupport
import Testing

@testable import MessagePorts

/// Waiting for a set where its ports are listened for, or on somebody else's executor.
@Suite("Waiting for a set on a loop", .timeLimit(.minutes(3)))
struct PortSetLoopTests: PortSetWaiting {
  @Test("14.9 On the thread of a loop that listens for one of the ports, a wait is an error")
  func onItsLoop() async throws {
    let port = try Place.anotherProcess.open(.echo), local = try MessageChannel()
    let loop = EventLoop(name: "own")
    port.setEventLoop(loop)
    let set = try PortSet([port, local.port1])
    let error = Promise<String>()
    loop.run { error.fulfil(portError { _ = try set.firstReady(timeout: patience) }) }
    #expect(try await onThread { try error.wait() } == "notWaitable.isOnItsLoop")
    // What there is already is told of there, too; and others may wait there.
    try local.port2.postMessage(bitwise: 1)
    let told = Promise<String>()
    loop.run { told.fulfil(portError { _ = try set.firstReady(timeout: patience) }) }
    #expect(try await onThread { try told.wait() } == "none")
    let task = Task(executorPreference: loop) { try await set.firstReady() }
    #expect(self.port(try await task.value) === local.port1)
    loop.stop()
  }

  @Test("14.9 A wait that has begun on such a thread ends with the error once the loop has to listen")
  func becomesItsLoop() async throws {
    for isMoved in [false, true] {
      let channel = try MessageChannel(), loop = EventLoop(name: "own")
      if !isMoved { channel.port1.setEventLoop(loop) }
      let set = try PortSet([channel.port1])
      if isMoved { try Place.anotherProcess.place(channel.port2, .echo) }
      let begins = Promise<Void>(), error = Promise<String>()
      loop.run {
        begins.fulfil()
        error.fulfil(portError { _ = try set.firstReady(timeout: patience) })
      }
      try await onThread { try begins.wait() }
      try await Task.sleep(for: .milliseconds(20))
      if isMoved { channel.port1.setEventLoop(loop) } else { try Place.anotherProcess.place(channel.port2, .echo) }
      #expect(try await onThread { try error.wait() } == "notWaitable.isOnItsLoop")
      loop.stop()
    }
  }

  /// An executor that uses ports itself when it is given something to do.
  private final class Intruder: TaskExecutor {
    private let thread = OwnThreadExecutor()
    private let carrier: MessagePort

    init(_ carrier: MessagePort) { self.carrier = carrier }
    deinit { thread.stop() }

    func enqueue(_ job: consuming ExecutorJob) {
      if let channel = try? MessageChannel() { try? carrier.postMessage(transfer: [channel.port1]) }
      thread.enqueue(job)
    }
  }

  @Test(
    "5.1 A task that waits for a set goes on without a lock, whatever its executor does then", arguments: Place.allCases
  )
  func foreignExecutor(_ place: Place) async throws {
    let carrier = try MessageChannel(), channel = try MessageChannel()
    let set = try PortSet([channel.port1])
    let told = Task(executorPreference: Intruder(carrier.port1)) { try await set.firstReady() }
    try await Task.sleep(for: .milliseconds(20))
    try await onThread {
      try place.place(channel.port2, .echo)
      try channel.port1.postMessage(bitwise: 1)
    }
    #expect(self.port(try await told.value) === channel.port1)
  }
}

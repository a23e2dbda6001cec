import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("3.5, 3.6 How handlers are called", .ownThread, .timeLimit(.minutes(10)))
struct HandlerCallTests {
  @Test(
    "3.5 A handler is never called on the stack of a post, of `start()`, or of setting it", arguments: Place.allCases)
  func neverOnCallersStack(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<10)
    try puppet.close()
    // On the loop itself, where it would be easiest to call it at once.
    let violations = Collected<String>()
    let isInCall = Mutex<String?>(nil)
    let done = Promise<Void>()
    let count = Mutex(0)
    @Sendable func calling(_ what: String, _ body: () -> Void) {
      isInCall.withLock { $0 = what }
      body()
      isInCall.withLock { $0 = nil }
    }
    @Sendable func called() {
      if let what = isInCall.withLock({ $0 }) { violations.append(what) }
      if count.withLock({
        $0 += 1; return $0
      }) == 11 {
        done.fulfil()
      }
    }
    Task(executorPreference: puppet.port.eventLoop) {
      calling("onClose") { puppet.port.onClose = { _ in called() } }
      calling("onMessageError") { puppet.port.onMessageError = { _ in called() } }
      calling("start") { puppet.port.start() }
      calling("onMessage") { puppet.port.onMessage = { _ in called() } }
      calling("start") { puppet.port.start() }
    }
    try done.wait()
    #expect(violations.all == [])
  }

  @Test("3.5 Nor is the receiver's handler called on the stack of a post in the same process")
  func neverOnPostersStack() throws {
    let channel = try MessageChannel()
    let isPosting = Mutex(false)
    let violations = Mutex(0)
    let received = Received()
    channel.port2.onMessage = { event in
      if isPosting.withLock({ $0 }) { violations.withLock { $0 += 1 } }
      received.messageHandler(event)
    }
    Task(executorPreference: channel.port2.eventLoop) {
      isPosting.withLock { $0 = true }
      try channel.port1.post(0..<1000)
      isPosting.withLock { $0 = false }
    }
    #expect(try received.wait(for: 1000) == Array(0..<1000))
    #expect(violations.withLock { $0 } == 0)
  }

  @Test(
    "3.5 Calls for one port never overlap or nest, whatever they are for and however many threads post",
    arguments: Place.allCases)
  func neverOverlap(_ place: Place) throws {
    let overlap = OverlapDetector()
    let port = try place.open(.pourFromThreads, [4, 500])
    let closed = Promise<Void>(), count = Mutex(0)
    port.onMessageError = { _ in overlap.during {} }
    port.onClose = { _ in
      overlap.during {}
      closed.fulfil()
    }
    port.onMessage = { [weak port] event in
      overlap.during {
        count.withLock { $0 += 1 }
        // Setting things and posting from within must not call anything either.
        port?.onMessageError = { _ in overlap.during {} }
        try? port?.postMessage(bitwise: 1)
      }
    }
    try closed.wait()
    #expect(count.withLock { $0 } == 2000)
    #expect(overlap.violations == 0)
  }

  @Test("3.5 They do not overlap while the port is moved from loop to loop", arguments: Place.allCases)
  func neverOverlapAcrossLoops(_ place: Place) async throws {
    let loops = (0..<3).map { EventLoop(name: "overlap \($0)") }
    defer { loops.forEach { $0.stop() } }
    let overlap = OverlapDetector()
    let port = try place.open(.echo, options: ChannelOptions(queueLimitBytes: 64 << 10))
    let received = Received()
    port.onMessage = { event in overlap.during { received.messageHandler(event) } }
    let total = 2000
    let isMoving = Promise<Void>(), isOver = Flag()
    defer { isOver.set() }
    let mover = TestThread {
      var moves = 0
      while received.events.count < total, !isOver.isSet {
        port.setEventLoop(loops[moves % 3])
        moves += 1
        isMoving.fulfil()
      }
      return moves
    }
    try isMoving.wait()
    // What waits for space gives the port turns as well.
    let waiter = Task {
      while received.events.count < total, !isOver.isSet { try await port.waitForSpace(byteCount: 8) }
    }
    for number in 0..<total {
      while portError({ try port.postMessage(bitwise: number) }) == "queueFull" {
        try await port.waitForSpace(byteCount: 8)
      }
    }
    #expect(try received.wait(for: total) == Array(0..<total))
    #expect(try mover.join() > 0)
    try await waiter.value
    #expect(overlap.violations == 0)
  }

  @Test(
    "3.6 Replacing the handler under traffic loses nothing, repeats nothing and keeps the order",
    arguments: Place.allCases)
  func replacement(_ place: Place) throws {
    let port = try place.open(.pour, [20_000])
    let received = Received()
    let handlers = Mutex([0, 0])
    port.onClose = received.closeHandler
    var replacements = 0
    while received.closeCount == 0 {
      let which = replacements % 2
      port.onMessage = { event in
        handlers.withLock { $0[which] += 1 }
        received.messageHandler(event)
      }
      replacements += 1
    }
    #expect(received.numbers == Array(0..<20_000))
    #expect(handlers.withLock { $0[0] + $0[1] } == 20_000)
    #expect(received.closeCount == 1)
  }

  @Test(
    "3.6 So does removing it and setting it again, while messages are taken by hand meanwhile",
    arguments: Place.allCases)
  func removalUnderTraffic(_ place: Place) throws {
    let port = try place.open(.pour, [10_000])
    let received = Received()
    port.onClose = received.closeHandler
    var taken: [Int] = []
    while received.closeCount == 0 {
      port.onMessage = received.messageHandler
      port.onMessage = nil
      if case .message(let event) = try port.tryReceive() { taken.append(try event.load(as: Int.self)) }
    }
    #expect(taken == taken.sorted() && received.numbers == received.numbers.sorted())
    #expect((taken + received.numbers).sorted() == Array(0..<10_000))
  }

  @Test("3.6 A handler that replaces itself has the message; the new one has the next", arguments: Place.allCases)
  func replacementFromWithin(_ place: Place) throws {
    let port = try place.open(.pour, [1000])
    let calls = Collected<[Int]>()
    let closed = Promise<CloseReason>()
    port.onClose = closed.fulfil
    @Sendable func install(_ generation: Int) {
      port.onMessage = { event in
        install(generation + 1)
        calls.append([generation, (try? event.load(as: Int.self)) ?? -1])
      }
    }
    install(0)
    _ = try closed.wait()
    #expect(calls.all == (0..<1000).map { [$0, $0] })
    port.onMessage = nil
  }
}

/// Notices calls that overlap or nest.
final class OverlapDetector: Sendable {
  private let state = Mutex((inside: 0, violations: 0))

  var violations: Int { state.withLock { $0.violations } }

  func during(_ body: () -> Void) {
    state.withLock { state in
      state.inside += 1
      if state.inside > 1 { state.violations += 1 }
    }
    body()
    state.withLock { $0.inside -= 1 }
  }
}

import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("3.8 Synchronous receive", .ownThread, .timeLimit(.minutes(10)))
struct SynchronousReceiveTests {
  @Test("3.8 It takes from the port's queue, without starting it", arguments: Place.allCases)
  func takesFromQueue(_ place: Place) throws {
    let puppet = try Puppet(place)
    try puppet.post(0..<20)
    #expect(try puppet.port.receiveNumbers(10) == Array(0..<10))
    for number in 10..<15 {
      guard case .message(let event) = try puppet.port.tryReceive() else { Issue.record("nothing there"); return }
      #expect(try event.load(as: Int.self) == number)
    }
    #expect(!puppet.port.isStarted)
    let received = Received(on: puppet.port)
    #expect(try received.wait(for: 5) == Array(15..<20))
  }

  @Test(
    "3.8 `tryReceive` tells empty from closed, and gives what waits before it says closed", arguments: Place.allCases)
  func tryReceiveOutcomes(_ place: Place) throws {
    let puppet = try Puppet(place)
    guard case .empty = try puppet.port.tryReceive() else { Issue.record("not empty"); return }
    try puppet.post(0..<2)
    try puppet.close()
    for number in 0..<2 {
      guard case .message(let event) = try puppet.port.tryReceive() else { Issue.record("message lost"); return }
      #expect(try event.load(as: Int.self) == number)
    }
    // It may take a moment to be known here that the other end is gone; nothing but `tryReceive` is called.
    var outcome = try puppet.port.tryReceive()
    try waitUntil("tryReceive to say closed") {
      outcome = try puppet.port.tryReceive()
      if case .closed = outcome { return true }
      return false
    }
    guard case .closed(.closedByPeer) = outcome else { Issue.record("\(outcome)"); return }
    // And it says so each time.
    guard case .closed = try puppet.port.tryReceive() else { Issue.record("closed no more"); return }
  }

  @Test("3.8 `tryReceive` says closed as soon as `isPeerClosed` does")
  func tryReceiveAfterPeerClosed() throws {
    for _ in 0..<50 {
      let puppet = try Puppet(.anotherProcess)
      try puppet.close()
      try waitUntil("the peer to be closed") { puppet.port.isPeerClosed }
      guard case .closed(.closedByPeer) = try puppet.port.tryReceive() else { Issue.record("not closed"); return }
    }
  }

  @Test("3.8 `receive` tells timed out from closed", arguments: Place.allCases)
  func receiveOutcomes(_ place: Place) throws {
    let puppet = try Puppet(place)
    #expect(portError { _ = try puppet.port.receive(timeout: .zero) } == "timedOut")
    let started = ContinuousClock.now
    #expect(portError { _ = try puppet.port.receive(timeout: .milliseconds(30)) } == "timedOut")
    #expect(ContinuousClock.now - started >= .milliseconds(30))
    try puppet.post(0..<2)
    try puppet.close()
    #expect(try puppet.port.receiveNumbers(2) == [0, 1])
    for _ in 0..<2 { #expect(portError { _ = try puppet.port.receiveSoon() } == "peerClosed.closed by peer") }
  }

  @Test(
    "3.8 A waiting `receive` ends when a message comes, or the peer closes", arguments: Place.allCases,
    [SpinPolicy.never, .adaptive, .duration(.milliseconds(1)), .always])
  func waitingReceive(_ place: Place, _ spinPolicy: SpinPolicy) throws {
    let puppet = try Puppet(place, options: ChannelOptions(spinPolicy: spinPolicy))
    let port = puppet.port
    for number in 0..<20 {
      let receiver = TestThread { try port.receiveNumber() }
      try puppet.post(number..<number + 1)
      #expect(try receiver.join() == number)
    }
    let receiver = TestThread { portError { _ = try port.receive() } }
    try puppet.close()
    #expect(try receiver.join() == "peerClosed.closed by peer")
  }

  @Test(
    "3.8 A waiting `receive` ends when its own port is closed or moved by another thread", arguments: Place.allCases,
    ["closed", "detached"])
  func receiveOnClosed(_ place: Place, _ expected: String) throws {
    for round in 0..<10 {
      let port = try place.open(.hold, options: ChannelOptions(spinPolicy: .never))
      let isWaiting = Promise<Void>()
      let receiver = TestThread {
        isWaiting.fulfil()
        return portError { _ = try port.receiveSoon() }
      }
      try isWaiting.wait()
      // Before it sleeps, or after: either must do.
      if round % 2 == 0 { try settle(place) }
      if expected == "closed" { port.close() } else { try place.place(port, .hold) }
      #expect(try receiver.join() == expected)
    }
  }

  @Test("3.8 A waiting `receive` ends when the peer's process is killed, with what it had posted before")
  func receiveFromKilled() throws {
    let process = FarProcess()
    let puppet = try Puppet(in: process)
    try puppet.post(0..<3)
    let receiver = TestThread {
      (try puppet.port.receiveNumbers(3), portError { _ = try puppet.port.receiveSoon() })
    }
    try process.kill()
    let (numbers, error) = try receiver.join()
    #expect(numbers == [0, 1, 2])
    #expect(error == "peerClosed.peer exited")
  }

  @Test("3.8 Several threads may wait at once; each message goes to one of them", arguments: Place.allCases)
  func severalThreads(_ place: Place) throws {
    let port = try place.open(.pour, [5000])
    let taken = Mutex<[Int]>([])
    try onThreads(3) { _ in
      var previous = -1
      while true {
        do {
          let number = try port.receiveSoon().load(as: Int.self)
          if number < previous { taken.withLock { $0.append(-1) } }
          previous = number
          taken.withLock { $0.append(number) }
        } catch PortError.peerClosed {
          return
        }
      }
    }
    #expect(taken.withLock { $0.sorted() } == Array(0..<5000))
  }

  @Test("3.8 A message taken by hand is not given to the handler, nor the other way round", arguments: Place.allCases)
  func handlerAndHand(_ place: Place) throws {
    let port = try place.open(.pour, [5000])
    let received = Received(on: port)
    var taken: [Int] = []
    do {
      while true { taken.append(try port.receiveNumber()) }
    } catch PortError.peerClosed {}
    try received.waitForClose()
    #expect(Set(taken).isDisjoint(with: received.numbers))
    #expect((taken + received.numbers).sorted() == Array(0..<5000))
    #expect(taken == taken.sorted() && received.numbers == received.numbers.sorted())
    #expect(received.closeCount == 1)
  }

  @Test("3.8 A handler may receive by hand as well, and gets what comes next", arguments: Place.allCases)
  func receiveInHandler(_ place: Place) throws {
    let loop = EventLoop(name: "receives")
    defer { loop.stop() }
    let puppet = try Puppet(place)
    let port = puppet.port
    port.setEventLoop(loop)
    let numbers = Collected<Int>()
    port.onMessage = { event in
      numbers.append((try? event.load(as: Int.self)) ?? -1)
      numbers.append(100 + ((try? port.receiveNumber()) ?? -1000))
    }
    try puppet.post(0..<1)
    try numbers.wait(for: 1)
    try puppet.post(1..<4)
    #expect(try numbers.wait(for: 4) == [0, 101, 2, 103])
    // On its own loop nobody else hears of the peer's end; the call has to find out itself.
    let ended = Promise<String>()
    port.onMessage = { _ in ended.fulfil(portError { _ = try port.receiveSoon() }) }
    try puppet.post(0..<1)
    try puppet.close()
    #expect(try ended.wait() == "peerClosed.closed by peer")
  }

  // MARK: Several ways to receive at once

  @Test(
    "3.8 A `receive` that has timed out leaves the handler to its messages", arguments: Place.allCases,
    EventLoop.Driver.allCases)
  func timedOutBesideHandler(_ place: Place, _ driver: EventLoop.Driver) throws {
    let loop = EventLoop(name: "beside", driver: driver)
    defer { loop.stop() }
    let port = try place.open(.echo, options: ChannelOptions(spinPolicy: .never))
    port.setEventLoop(loop)
    let received = Received(on: port)
    for number in 0..<50 {
      #expect(portError { _ = try port.receive(timeout: .milliseconds(1)) } == "timedOut")
      try port.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
  }

  @Test(
    "3.8 So does one that has timed out before it slept at all", arguments: Place.allCases, EventLoop.Driver.allCases)
  func timedOutAtOnceBesideHandler(_ place: Place, _ driver: EventLoop.Driver) throws {
    let loop = EventLoop(name: "beside", driver: driver)
    defer { loop.stop() }
    let port = try place.open(.echo, options: ChannelOptions(spinPolicy: .never))
    port.setEventLoop(loop)
    let received = Received(on: port)
    for number in 0..<20 {
      // The loop is asleep by then.
      usleepBriefly(5000)
      #expect(portError { _ = try port.receive(timeout: .zero) } == "timedOut")
      try port.postMessage(bitwise: number)
      try received.wait(for: number + 1)
    }
  }

  @Test(
    "3.8 A waiting `receive` gets what comes once the handler is removed", arguments: Place.allCases,
    EventLoop.Driver.allCases)
  func waitingBesideHandler(_ place: Place, _ driver: EventLoop.Driver) throws {
    let loop = EventLoop(name: "beside", driver: driver)
    defer { loop.stop() }
    let port = try place.open(.echo, options: ChannelOptions(spinPolicy: .never))
    port.setEventLoop(loop)
    for number in 0..<20 {
      let taken = Collected<Int>()
      let receiver = TestThread { try port.receiveNumber() }
      // One of the two takes it. Either may be asleep already, and either may have been the last to announce it.
      if number % 4 == 0 { usleepBriefly(2000) }
      port.onMessage = { event in taken.append((try? event.load(as: Int.self)) ?? -1) }
      if number % 2 == 0 { try settle(place) }
      try port.postMessage(bitwise: number)
      try waitUntil("somebody to take the message") { taken.count == 1 || receiver.isFinished }
      port.onMessage = nil
      if taken.count == 0 {
        #expect(try receiver.join() == number)
      } else {
        try settle(loop)
        try port.postMessage(bitwise: 100)
        #expect(try receiver.join() == 100)
      }
    }
  }

  @Test(
    "3.8 A thread that sleeps in a receive gets what comes after a handler that removed itself",
    arguments: EventLoop.Driver.allCases)
  func handlerThatRemovesItself(_ driver: EventLoop.Driver) throws {
    let loop = EventLoop(name: "self", driver: driver)
    defer { loop.stop() }
    let puppet = try Puppet(.anotherProcess, options: ChannelOptions(spinPolicy: .never))
    let port = puppet.port
    port.setEventLoop(loop)
    for round in 0..<20 {
      let receiver = TestThread { try port.receiveNumber() }
      usleepBriefly(2000)
      // The loop announces itself in the place of the thread.
      let taken = Promise<Int>()
      port.onMessage = { [weak port] event in
        port?.onMessage = nil
        taken.fulfil((try? event.load(as: Int.self)) ?? -1)
      }
      usleepBriefly(2000)
      try puppet.post(round..<round + 1)
      try waitUntil("somebody to take the message") { taken.value != nil || receiver.isFinished }
      if taken.value != nil { try puppet.post(100..<101) } else { port.onMessage = nil }
      #expect(try receiver.join() == (taken.value == nil ? round : 100))
    }
  }

  @Test(
    "3.8, 4.1 A thread that sleeps in a receive hears the end of the other side",
    arguments: EventLoop.Driver.allCases, [true, false])
  func endWhileAsleep(_ driver: EventLoop.Driver, _ isKilled: Bool) throws {
    let loop = EventLoop(name: "end", driver: driver)
    defer { loop.stop() }
    let process = FarProcess()
    let puppet = try Puppet(in: process, options: ChannelOptions(spinPolicy: .never))
    puppet.port.setEventLoop(loop)
    let receivers = (0..<2).map { _ in TestThread { portError { _ = try puppet.port.receiveSoon() } } }
    // Long enough for both to sleep; if they do not, the test is easier.
    usleepBriefly(50_000)
    if isKilled { try process.kill() } else { try puppet.close() }
    for receiver in receivers {
      #expect(try receiver.join() == (isKilled ? "peerClosed.peer exited" : "peerClosed.closed by peer"))
    }
  }

  @Test(
    "3.8 Of two threads that wait, the one that stays gets what comes after the other has left",
    arguments: Place.allCases)
  func oneThreadLeaves(_ place: Place) throws {
    let port = try place.open(.echo, options: ChannelOptions(spinPolicy: .never))
    let rounds = 2000
    let taken = Collected<Int>()
    let stayer = TestThread {
      while true {
        let number = try port.receiveNumber()
        if number < 0 { return }
        taken.append(number)
      }
    }
    for number in 0..<rounds {
      if number % 2 == 0 {
        let guest = TestThread {
          if let event = try? port.receive(timeout: .milliseconds(1)) { taken.append(try event.load(as: Int.self)) }
        }
        try port.postMessage(bitwise: number)
        try guest.join()
      } else {
        try port.postMessage(bitwise: number)
      }
      try taken.wait(for: number + 1)
    }
    #expect(taken.all == Array(0..<rounds))
    try port.postMessage(bitwise: -1)
    try stayer.join()
  }

  @Test(
    "3.8 A task that iterates, a handler and a thread that receives share the messages of one port",
    arguments: Place.allCases)
  func allWays(_ place: Place) async throws {
    let port = try place.open(.echo)
    let total = 3000
    let taken = Collected<Int>(), isOver = Flag()
    defer { isOver.set() }
    let thread = TestThread {
      while taken.count < total, !isOver.isSet {
        if let event = try? port.receive(timeout: .milliseconds(2)) { taken.append(try event.load(as: Int.self)) }
      }
    }
    let task = Task {
      for try await event in port.messages { taken.append(try event.load(as: Int.self)) }
    }
    for number in 0..<total {
      if number % 100 == 0 { port.onMessage = { event in taken.append((try? event.load(as: Int.self)) ?? -1) } }
      if number % 100 == 50 { port.onMessage = nil }
      try port.postMessage(bitwise: number)
      if number % 7 == 0 { try await taken.wait(for: number + 1) }
    }
    #expect(try await taken.wait(for: total).sorted() == Array(0..<total))
    task.cancel()
    _ = try? await task.value
    try thread.join()
  }

  @Test("3.8, 4.2 A message error that a call by hand has come upon is not reported after `close()`")
  func errorAfterClose() throws {
    let report = try LoneProcess.run("errorAfterClose")
    #expect(report["empty"] == 1)
    #expect(report["errors"] == 0)
  }
}

import MessagePorts
import Synchronization
import TestSupport
import Testing

@Suite("3 Messages as an asynchronous sequence", .ownThread, .timeLimit(.minutes(10)))
struct AsyncSequenceTests {
  @Test(
    "3.1 Iterating starts the port and gives all messages in order; the sequence ends after the peer's close",
    arguments: Place.allCases)
  func allMessages(_ place: Place) async throws {
    let port = try place.open(.pour, [3000])
    var numbers: [Int] = []
    for try await event in port.messages { numbers.append(try event.load(as: Int.self)) }
    #expect(numbers == Array(0..<3000))
    #expect(port.isStarted && port.isPeerClosed)
    // It stays ended.
    var iterator = port.messages.makeAsyncIterator()
    #expect(try await iterator.next() == nil)
  }

  @Test(
    "3.3 Batches hold all messages in order, none empty or larger than promised, and end", arguments: Place.allCases)
  func batches(_ place: Place) async throws {
    let port = try place.open(.pour, [3000])
    var numbers: [Int] = []
    for try await batch in port.messageBatches {
      #expect(1...64 ~= batch.count)
      for event in batch { numbers.append(try event.load(as: Int.self)) }
    }
    #expect(numbers == Array(0..<3000))
    var iterator = port.messageBatches.makeAsyncIterator()
    #expect(try await iterator.next() == nil)
  }

  @Test(
    "3.2 A batch has what is there when it is asked for, up to its limits; the rest stays queued",
    arguments: Place.allCases)
  func batchLimits(_ place: Place) async throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    try puppet.post(0..<100)
    try waitUntil("100 messages") { port.queuedByteCount >= 100 * 16 }
    let batches = port.messageBatches
    var iterator = batches.makeAsyncIterator()
    #expect(try await iterator.next()?.map { try $0.load(as: Int.self) } == Array(0..<64))
    #expect(try port.receive().load(as: Int.self) == 64)
    #expect(try await iterator.next()?.map { try $0.load(as: Int.self) } == Array(65..<100))
  }

  @Test("3.2 A batch ends with the message that makes it large")
  func largeBatch() async throws {
    let channel = try MessageChannel()
    for _ in 0..<4 { try channel.port1.postMessage(bytes: [UInt8](repeating: 1, count: 200_000)) }
    var iterator = channel.port2.messageBatches.makeAsyncIterator()
    #expect(try await iterator.next()?.count == 2)
    #expect(try await iterator.next()?.count == 2)
  }

  @Test("13.7 A task that waits for a batch ends when it is cancelled, and nothing is lost", arguments: Place.allCases)
  func cancelledBatch(_ place: Place) async throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    let task = Task {
      var iterator = port.messageBatches.makeAsyncIterator()
      return try await iterator.next()?.count
    }
    task.cancel()
    #expect(try await task.value == nil)
    try puppet.post(0..<1)
    #expect(try port.receive(timeout: patience).load(as: Int.self) == 0)
  }

  @Test("3.2 A task that waits is resumed by the next message, and by the end", arguments: Place.allCases)
  func waits(_ place: Place) async throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    let numbers = Collected<Int>()
    let ended = Promise<Void>()
    Task {
      for try await event in port.messages { numbers.append(try event.load(as: Int.self)) }
      ended.fulfil()
    }
    for number in 0..<50 {
      try puppet.post(number..<number + 1)
      try await numbers.wait(for: number + 1)
    }
    #expect(numbers.all == Array(0..<50))
    try puppet.close()
    try ended.wait()
  }

  @Test("3.2 Iterating a port that is closed, or closed meanwhile by its owner, ends", arguments: Place.allCases)
  func ownClose(_ place: Place) async throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    try puppet.post(0..<1)
    let first = Promise<Void>(), ended = Promise<Int>()
    Task {
      var count = 0
      for try await _ in port.messages {
        count += 1
        first.fulfil()
      }
      ended.fulfil(count)
    }
    try first.wait()
    port.close()
    #expect(try ended.wait() == 1)
    for try await _ in port.messages { Issue.record("a message from a closed port") }
  }

  @Test(
    "3.2 Iterating ends when the port is transferred; the messages go on at its new owner", arguments: Place.allCases)
  func transferred(_ place: Place) async throws {
    let channel = try MessageChannel()
    let ended = Promise<Int>()
    let port = channel.port1
    Task {
      var count = 0
      for try await _ in port.messages { count += 1 }
      ended.fulfil(count)
    }
    try channel.port2.postMessage(bitwise: 1)
    try waitUntil("the message to be taken") { port.queuedByteCount == 0 }
    try place.place(port, .echo)
    #expect(try ended.wait() == 1)
    try channel.port2.postMessage(bitwise: 2)
    #expect(try channel.port2.receiveNumber() == 2)
  }

  @Test("3.6 A cancelled task stops waiting; no message is lost to it", arguments: Place.allCases)
  func cancellation(_ place: Place) async throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    var next = 0
    for round in 0..<50 {
      let taken = Promise<Int?>()
      let task = Task {
        var iterator = port.messages.makeAsyncIterator()
        taken.fulfil(try await iterator.next()?.load(as: Int.self))
      }
      if round % 3 == 0 { try settle() }
      task.cancel()
      // In every other round, nothing but the cancelling can end the wait.
      if round % 2 == 0, next == round { #expect(try taken.wait() == nil as Int?) }
      try puppet.post(round..<round + 1)
      // The task has it, or it is still there: one of the two.
      if let number = try taken.wait() {
        #expect(number == next)
        next += 1
      }
    }
    for number in next..<50 { #expect(try port.receiveNumber() == number) }
    if case .empty = try port.tryReceive() {} else { Issue.record("something came twice") }
  }

  @Test("3.6 A task that waits for a message is resumed by its cancelling alone", arguments: Place.allCases)
  func cancelledWhileWaiting(_ place: Place) throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    let ended = Promise<Int?>()
    // On the loop, so that it has come to its wait when the loop is free again.
    let task = Task(executorPreference: port.eventLoop) {
      var iterator = port.messages.makeAsyncIterator()
      ended.fulfil(try await iterator.next()?.load(as: Int.self))
    }
    for _ in 0..<2 { try settle(port.eventLoop) }
    #expect(ended.value == nil)
    task.cancel()
    #expect(try ended.wait() == nil as Int?)
    try puppet.post(1..<2)
    #expect(try port.receiveNumber() == 1)
  }

  @Test("3.6 A task that was cancelled before it waits for a message does not wait", arguments: Place.allCases)
  func cancelledBeforeWaiting(_ place: Place) throws {
    let puppet = try Puppet(place)
    let port = puppet.port
    let mayGoOn = Promise<Void>(), ended = Promise<Int?>()
    let task = Task(executorPreference: port.eventLoop) {
      try mayGoOn.wait()
      var iterator = port.messages.makeAsyncIterator()
      ended.fulfil(try await iterator.next()?.load(as: Int.self))
    }
    task.cancel()
    mayGoOn.fulfil()
    #expect(try ended.wait() == nil as Int?)
    try puppet.post(1..<2)
    #expect(try port.receiveNumber() == 1)
  }

  @Test("3.3 Several iterations share the messages: each message goes to one of them", arguments: Place.allCases)
  func twoIterators(_ place: Place) async throws {
    let port = try place.open(.pour, [3000])
    let shares = await withTaskGroup(of: [Int].self) { group in
      for _ in 0..<2 {
        group.addTask {
          var numbers: [Int] = []
          do {
            for try await event in port.messages { numbers.append(try event.load(as: Int.self)) }
          } catch { numbers.append(-1) }
          return numbers
        }
      }
      return await group.reduce(into: [[Int]]()) { $0.append($1) }
    }
    #expect(shares.joined().sorted() == Array(0..<3000))
    for share in shares { #expect(share == share.sorted()) }
  }

  @Test("3.6 A loop that is left keeps what it has not taken for the next one", arguments: Place.allCases)
  func breakAndGoOn(_ place: Place) async throws {
    let port = try place.open(.pour, [100])
    var numbers: [Int] = []
    for try await event in port.messages {
      numbers.append(try event.load(as: Int.self))
      if numbers.count == 40 { break }
    }
    numbers += try port.receiveNumbers(10)
    for try await event in port.messages { numbers.append(try event.load(as: Int.self)) }
    #expect(numbers == Array(0..<100))
  }

  @Test("4.4 The close event comes after the sequence has given the last message", arguments: Place.allCases)
  func closeAfterSequence(_ place: Place) async throws {
    let port = try place.open(.pour, [500])
    let order = Collected<Int>()
    port.onClose = { _ in order.append(-1) }
    for try await event in port.messages { order.append(try event.load(as: Int.self)) }
    try await order.wait(for: 501)
    #expect(order.all.filter { $0 >= 0 } == Array(0..<500) && order.count == 501)
  }

  @Test("5.1 A task may wait for its messages on the loop itself", arguments: Place.allCases)
  func onLoop(_ place: Place) async throws {
    let port = try place.open(.echo)
    let loop = port.eventLoop
    let sum = Promise<Int>()
    Task(executorPreference: loop) {
      var total = 0
      for number in 1...100 {
        try port.postMessage(bitwise: number)
        var iterator = port.messages.makeAsyncIterator()
        total += try await iterator.next()?.load(as: Int.self) ?? -10_000
        if !loop.isCurrent { total = -1_000_000 }
      }
      sum.fulfil(total)
    }
    #expect(try sum.wait() == 5050)
  }
}

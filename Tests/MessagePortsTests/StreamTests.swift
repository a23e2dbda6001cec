import Glibc
@testable import MessagePorts
import TestSupport
import Testing

/// Questions with any number of answers.
@Suite("Streams", .serialized, .timeLimit(.minutes(5)))
struct StreamTests {
  private func service(_ place: Place, options: ChannelOptions = ChannelOptions()) throws -> Connection {
    Connection(over: try place.open(.serve, options: options))
  }

  private func collect<Element>(_ stream: MessageStream<Element>) async -> (elements: [Element], error: (any Error)?) {
    var elements: [Element] = []
    do {
      for try await element in stream { elements.append(element) }
      return (elements, nil)
    } catch { return (elements, error) }
  }

  @Test("12.5 A stream's elements arrive in order, once each, and then its end", arguments: Place.allCases)
  func elements(_ place: Place) async throws {
    let connection = try service(place)
    for count in [0, 1, 2000] {
      let (elements, error) = await collect(connection.stream("count", count, of: Int.self))
      #expect(elements == Array(0..<count) && error == nil)
    }
    let stream = connection.stream("count", 3, of: Int.self)
    var iterator = stream.makeAsyncIterator()
    for number in 0..<3 { #expect(try await iterator.next() == number) }
    #expect(try await iterator.next() == nil)
    #expect(try await iterator.next() == nil)
    // To iterate again is to ask again.
    #expect(await collect(stream).elements == [0, 1, 2])
  }

  @Test("12.5 A stream ends when its writer says so, who can send nothing more", arguments: Place.allCases)
  func finished(_ place: Place) async throws {
    let connection = try service(place)
    let refused = Collected<String>()
    connection.on("refused", of: String.self) { text, _ in refused.append(text) }
    let (elements, error) = await collect(connection.stream("count and finish", 5, of: Int.self))
    #expect(elements == Array(0..<5) && error == nil)
    #expect(try await refused.wait(for: 1) == ["closed"])
  }

  @Test("12.5 A stream that fails delivers everything, and then the error", arguments: Place.allCases)
  func failed(_ place: Place) async throws {
    RequestService.register()
    let connection = try service(place)
    for count in [0, 3, 500] {
      let (elements, error) = await collect(connection.stream("count and refuse", count, of: Int.self))
      #expect(elements == Array(0..<count))
      #expect(error as? RequestService.Typed == .code(count))
    }
  }

  @Test("12.5 A stream whose writer is killed delivers everything, and then the reason", arguments: [0, 5, 5000])
  func killed(_ count: Int) async throws {
    let worker = try PeerProcess.spawn("serve")
    let (elements, error) = await collect(worker.connection.stream("count and fall", count, of: Int.self))
    #expect(elements == Array(0..<count))
    guard case .peerClosed(.peerExited(.signalled(SIGKILL))) = error as? PortError else {
      Issue.record("ended with \(String(describing: error))")
      return
    }
  }

  @Test("12.5 A stream that nobody handles fails, and so does one whose question is none", arguments: Place.allCases)
  func nobody(_ place: Place) async throws {
    let connection = try service(place)
    let unknown = await collect(connection.stream("film", 1, of: Int.self))
    #expect(unknown.error as? RequestError == .noHandler(name: "film"))
    let wrong = await collect(connection.stream("count", "many", of: Int.self))
    #expect(wrong.error is RemoteError)
    let element = await collect(connection.stream("count", 3, of: String.self))
    #expect((element.error as? PortError)?.code == .decodingFailed)
    // A request that is no stream's has no port.
    await #expect(throws: RemoteError.self) { try await connection.request("count", 3) }
    #expect(await collect(connection.stream("count", 3, of: Int.self)).elements == [0, 1, 2])
  }

  @Test("12.5 Elements of all sizes arrive whole", arguments: Place.allCases)
  func sizes(_ place: Place) async throws {
    let connection = try service(place)
    let sizes = [0, 1, 65_000, 65_536, 65_537, 131_072, 600_000, 3_000_000, 7]
    let (elements, error) = await collect(connection.stream("sizes", sizes, of: [UInt8].self))
    #expect(elements.map(\.count) == sizes && error == nil)
    #expect(elements.allSatisfy { bytes in bytes.allSatisfy { $0 == UInt8(truncatingIfNeeded: bytes.count) } })
    // With a window of the connection's own.
    let narrow = try service(place, options: ChannelOptions(queueLimitBytes: 4096))
    let (slow, slowError) = await collect(narrow.stream("sizes", [100, 4096, 20_000], of: [UInt8].self))
    #expect(slow.map(\.count) == [100, 4096, 20_000] && slowError == nil)
  }

  @Test("12.6 A writer waits when its reader lags, and hears that the reader has left", arguments: Place.allCases)
  func lagging(_ place: Place) async throws {
    let connection = try service(place)
    let poured = Collected<String>()
    connection.on("poured", of: String.self) { text, _ in poured.append(text) }
    var iterator: MessageStream<[UInt8]>.AsyncIterator? = connection.stream("pour", 16 << 10, of: [UInt8].self)
      .makeAsyncIterator()
    #expect(try await iterator?.next()?.count == 16 << 10)
    // It goes on until its window is full: by then it may have sent that much, and what was read.
    try await Task.sleep(for: .milliseconds(50))
    #expect(poured.all.isEmpty)
    iterator = nil
    let words = try await poured.wait(for: 1)[0].split(separator: " ", maxSplits: 1)
    let count = try #require(Int(words[0]))
    #expect((1...StreamRecord.windowBytes / (16 << 10) + 2).contains(count))
    #expect(words[1].contains("peerClosed") || words[1].contains("cancelled"))
  }

  @Test("12.5, 12.6 A reader that is cancelled ends the stream, and its writer hears of it", arguments: Place.allCases)
  func cancelledReader(_ place: Place) async throws {
    let connection = try service(place)
    let poured = Collected<String>()
    connection.on("poured", of: String.self) { text, _ in poured.append(text) }
    let began = Collected<Void>()
    let task = Task {
      for try await _ in connection.stream("pour", 100, of: [UInt8].self) { began.append(()) }
    }
    try await began.wait(for: 10)
    task.cancel()
    #expect(await outcome { try await task.value } == .cancelled)
    try await poured.wait(for: 1)
    try await eventually("the end of the request") { connection.requests.state.withLock { $0.asked.isEmpty } }
  }

  @Test("12.5 The end of the connection ends its streams", arguments: Place.allCases)
  func closedConnection(_ place: Place) async throws {
    let connection = try service(place)
    var iterator = connection.stream("pour", 100, of: [UInt8].self).makeAsyncIterator()
    _ = try await iterator.next()
    connection.close()
    var error: PortError.Code?
    do { while try await iterator.next() != nil {} } catch let failure as PortError { error = failure.code }
    #expect(error == .closed)
    #expect(await collect(connection.stream("count", 1, of: Int.self)).error != nil)
  }

  @Test("12.5 Streams go both ways at once", arguments: Place.allCases)
  func bothWays(_ place: Place) async throws {
    let connection = try service(place)
    let (numbers, continuation) = AsyncStream.makeStream(of: Int.self)
    var squares: [Int] = []
    continuation.yield(1)
    // Each answer leads to the next question.
    for try await square in connection.stream("squares", sending: numbers, of: Int.self) {
      squares.append(square)
      if squares.count == 100 { continuation.finish() } else { continuation.yield(squares.count + 1) }
    }
    #expect(squares == (1...100).map { $0 * $0 })
    let many = AsyncStream { continuation in
      for number in 0..<5000 { continuation.yield(number) }
      continuation.finish()
    }
    #expect(await collect(connection.stream("sum", sending: many, of: String.self)).elements == ["12497500"])
  }

  @Test("12.5 A stream of questions that fails, or is left unread, is heard of", arguments: Place.allCases)
  func endsOfQuestions(_ place: Place) async throws {
    RequestService.register()
    let connection = try service(place)
    let failing = AsyncThrowingStream<Int, any Error> { continuation in
      continuation.yield(1)
      continuation.finish(throwing: RequestService.Typed.code(5))
    }
    #expect(await collect(connection.stream("sum", sending: failing, of: String.self)).elements == ["code(5)"])
    // Endless; whoever answers takes one.
    let endless = AsyncStream { 7 }
    #expect(await collect(connection.stream("first", sending: endless, of: Int.self)).elements == [7])
  }

  @Test("12.4 Many streams at once, each with its own elements", arguments: Place.allCases)
  func many(_ place: Place) async throws {
    let connection = try service(place)
    let right = await withTaskGroup(of: Bool.self) { group in
      for count in 0..<100 {
        group.addTask { await collect(connection.stream("count", count, of: Int.self)).elements == Array(0..<count) }
      }
      return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
    }
    #expect(right == 100)
  }

  // MARK: What goes along

  @Test("12.7 Elements of all sizes take ports, descriptors and buffers along", arguments: Place.allCases)
  func parcels(_ place: Place) async throws {
    let connection = try service(place)
    let sizes = [0, 10, 65_537, 600_000, 1]
    var count = 0
    for try await event in connection.stream("parcels", sizes, of: [UInt8].self).events {
      let number = UInt64(count)
      #expect(event.element == [UInt8](repeating: UInt8(number), count: sizes[count]))
      try #require(event.ports.count == 1 && event.descriptors.count == 1 && event.buffers.count == 1)
      try await onThread {
        try event.ports[0].expect(number)
        try event.ports[0].expectEnd()
        #expect(try event.descriptors[0].readNumber() == number)
      }
      let original = try FrozenBuffer(copying: patternBytes(count: 1000, seed: number))
      #expect(try event.buffers[0].described() == MessageBuffer.frozen(original).described())
      count += 1
    }
    #expect(count == sizes.count)
    // Without anything, and as elements alone.
    var plain = connection.stream("count", 2, of: Int.self).events.makeAsyncIterator()
    let event = try #require(try await plain.next())
    #expect(event.element == 0 && event.ports.isEmpty && event.descriptors.isEmpty && event.buffers.isEmpty)
    #expect(await collect(connection.stream("parcels", sizes, of: [UInt8].self)).elements.map(\.count) == sizes)
  }

  @Test("12.7 What came with elements, and nobody has asked for, closes", arguments: Place.allCases)
  func unwanted(_ place: Place) async throws {
    let connection = try service(place)
    #expect(await collect(connection.stream("pipes", 20, of: Int.self)).elements == Array(0...20))
  }

  @Test("12.6, 12.7 A writer waits until the kernel takes more, and loses nothing", arguments: Place.allCases)
  func manyDescriptors(_ place: Place) async throws {
    let connection = try service(place)
    var count = 0
    for try await event in connection.stream("descriptors", 3000, of: Int.self).events {
      #expect(event.element == count && event.descriptors.count == 1)
      count += 1
      // So that it lags.
      if count == 1 { try await Task.sleep(for: .milliseconds(200)) }
    }
    #expect(count == 3000)
  }

  @Test("2.2, 12.7 What is refused stays the writer's, and the element is not sent", arguments: Place.allCases)
  func refusedParcels(_ place: Place) async throws {
    let connection = try service(place)
    for size in [10, 200_000] {
      var events: [StreamEvent<[UInt8]>] = []
      for try await event in connection.stream("refused parcels", size, of: [UInt8].self).events {
        events.append(event)
      }
      #expect(events.map(\.element) == [[7]])
      #expect(try events.first?.descriptors.first?.readNumber() == 5)
    }
  }

  @Test("9.1 Streams leave nothing behind, however they end")
  func nothingLeft() throws {
    let report = try LoneProcess.run("streams", [], within: patience)
    #expect(report == ["descriptors": 0])
  }
}

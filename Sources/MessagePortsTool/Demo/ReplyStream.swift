import Foundation
import MessagePorts

/// A question is answered by a stream. Whatever becomes of the server, the client hears how the stream has ended.
///
///     client ── give-me-a-stream {element, count} ──► server
///     client ◄──── element, element, …, the end ───── server
enum ReplyStream {
  // MARK: Messages

  struct Request: Codable {
    let element: Int
    let count: Int
    var ending = Ending.finishes
  }

  /// What the server does after the last element.
  enum Ending: String, Codable {
    case finishes
    case fails
    case exits
    case isKilled
    /// Sends nothing until it is told to begin, then on all its streams at once.
    case waitsForOthers
  }

  /// Arrives as itself: both sides have registered it.
  struct SoldOut: Error, Codable, Equatable {
    let element: Int
  }

  // MARK: The client

  static func play(_ run: DemoRun) async throws {
    RemoteError.register(SoldOut.self)
    let server = try run.spawn(.streamServer, as: "server")

    run.step("a stream of ten")
    let ten = await collect(Request(element: 42, count: 10), from: server, run) { element in
      run.output.line("got response data: \(element)")
    }
    run.output.line("stream ended")
    run.verify("a stream has as many elements as were asked for, and ends", ten.elements, tenElements)
    run.verify("its end is no error", ten.end, "finished")

    run.step("streams that end otherwise")
    let failing = await collect(Request(element: 42, count: 10, ending: .fails), from: server, run)
    run.verify("a server's error comes after the last element", failing.elements, tenElements)
    run.verify("it is the error that the server has thrown", failing.end, "\(SoldOut(element: 42))")

    let leaving = try run.spawn(.streamServer, as: "server that exits")
    let left = await collect(Request(element: 42, count: 10, ending: .exits), from: leaving, run)
    run.verify("what a server has sent before it exits is delivered", left.elements, tenElements)
    run.verify("and then, how it has exited", left.end, "\(PortError.peerClosed(.peerExited(.exited(0))))")

    let dying = try run.spawn(.streamServer, as: "server that is killed")
    let cut = await collect(Request(element: 42, count: 5, ending: .isKilled), from: dying, run)
    run.verify("there are five when the server is killed after five", cut.elements, Array(repeating: 42, count: 5))
    run.verify("and then, what killed it", cut.end, "\(PortError.peerClosed(.peerExited(.signalled(SIGKILL))))")

    var nobody = "finished"
    do { for try await _ in server.connection.stream("give-me-a-film", 42, of: Int.self) {} } catch {
      nobody = "\(error)"
    }
    run.verify("nobody handles what is not known", nobody, "\(RequestError.noHandler(name: "give-me-a-film"))")

    try await playManyStreams(run, server)
  }

  private static let tenElements = Array(repeating: 42, count: 10)

  /// Everything that comes until the stream ends, and how it ends.
  private static func collect(
    _ request: Request, from server: WorkerProcess, _ run: DemoRun,
    onElement: @escaping @Sendable (Int) -> Void = { _ in }
  ) async -> (elements: [Int], end: String) {
    let elements = SharedState<[Int]>([])
    let end: String
    do {
      try await within(demoPatience, "the end of a stream") {
        for try await element in server.connection.stream("give-me-a-stream", request, of: Int.self) {
          onElement(element)
          elements.withLock { $0.append(element) }
        }
      }
      end = "finished"
    } catch { end = "\(error)" }
    let all = elements.withLock { $0 }
    run.count(DemoTraffic(elements: all))
    return (all, end)
  }

  // MARK: Many streams at once

  static let streamCount = 1_000
  static let elementsPerStream = 20

  private static func playManyStreams(_ run: DemoRun, _ server: WorkerProcess) async throws {
    run.step("\(streamCount.grouped) streams at once")
    let claim = "\(streamCount.grouped) streams at once: each got its own elements, all of them, and its end"
    // A channel between two processes takes two descriptors in each of them.
    guard DescriptorLimit.raise() >= 2 * streamCount + 100 else {
      return run.notVerified(claim, because: "this process may have only \(DescriptorLimit.raise()) descriptors")
    }
    let connection = server.connection
    let asking = Task {
      try await withThrowingTaskGroup(of: [Int].self) { group in
        for element in 0..<streamCount {
          group.addTask {
            let request = Request(element: element, count: elementsPerStream, ending: .waitsForOthers)
            var elements: [Int] = []
            for try await next in connection.stream("give-me-a-stream", request, of: Int.self) { elements.append(next) }
            let areRight = elements == Array(repeating: element, count: elementsPerStream)
            return areRight ? elements : []
          }
        }
        return try await group.reduce(into: []) { $0.append($1) }
      }
    }
    let open = try await within(demoPatience, "how many streams the server has") {
      while true {
        let open = try await connection.request("open-streams", as: Int.self)
        run.progress("\(open) streams")
        if open == streamCount { return open }
        try await Task.sleep(for: .milliseconds(5))
      }
    }
    run.verify("the server had \(streamCount.grouped) streams open at once", open, streamCount)
    try connection.postMessage("begin")
    let streams = try await within(demoPatience, "the end of \(streamCount) streams") { try await asking.value }
    for elements in streams { run.count(DemoTraffic(elements: elements)) }
    let right = streams.count { !$0.isEmpty }
    run.verify(claim, right == streamCount, otherwise: "\(right) of \(streams.count) were right")
  }

  // MARK: The server

  static func playServer(_ parent: Connection) async throws {
    DescriptorLimit.raise()
    RemoteError.register(SoldOut.self)
    let (begun, beginning) = AsyncStream.makeStream(of: Never.self)
    let waiting = SharedState(0)
    parent.handle {
      $0.onStream("give-me-a-stream", of: Request.self) { request, writer in
        if request.ending == .waitsForOthers {
          waiting.withLock { $0 += 1 }
          // Ends for all at once.
          for await _ in begun {}
        }
        for _ in 0..<request.count { try await writer.send(request.element) }
        switch request.ending {
        case .fails: throw SoldOut(element: request.element)
        case .exits: exit(0)
        case .isKilled: kill(getpid(), SIGKILL)
        case .finishes, .waitsForOthers: break
        }
      }
      $0.onRequest("open-streams") { _ in waiting.withLock { $0 } }
      $0.on("begin") { _ in beginning.finish() }
    }
    _ = try await parent.untilClosed()
  }
}

import Foundation
import MessagePorts
import Synchronization

/// A request carries the port for its answers, however many there are; the stream ends when the channel does. Whatever
/// becomes of the server, the client hears of the end.
///
///     client ── give-me-a-stream {element, count}, with a port ──► server
///     client ◄──── element, element, …, close ──────────────────── server
enum ReplyStream {
  // MARK: Messages

  struct Request: Codable {
    let element: Int
    let count: Int
    var ending = Ending.closes
  }

  /// What the server does after the last element.
  enum Ending: String, Codable {
    case closes
    case dropsThePort
    case exits
    case isKilled
    /// Sends nothing until it is told to begin, then on all its streams in turn.
    case waitsForOthers
  }

  // MARK: The client

  static func play(_ run: DemoRun) async throws {
    let server = try run.spawn(.streamServer, as: "server")

    run.step("a stream of ten")
    let port = try request(Request(element: 42, count: 10), from: server)
    let elements = try await collect(port, run) { run.output.line("got response data: \($0)") }
    run.output.line("stream ended")
    run.verify("a stream has as many elements as were asked for, and ends", elements, tenElements)

    run.step("servers that do not close the stream")
    let dropped = try request(Request(element: 42, count: 10, ending: .dropsThePort), from: server)
    run.verify("it ends when the server lets go of the port", try await collect(dropped, run), tenElements)

    let leaving = try run.spawn(.streamServer, as: "server that exits")
    let left = try request(Request(element: 42, count: 10, ending: .exits), from: leaving)
    run.verify("it ends, complete, when the server exits", try await collect(left, run), tenElements)
    run.verify("the server had exited", try await leaving.exitStatus(within: .seconds(5)), .exited(0))

    let dying = try run.spawn(.streamServer, as: "server that is killed")
    let cut = try request(Request(element: 42, count: 5, ending: .isKilled), from: dying)
    let five = Array(repeating: 42, count: 5)
    run.verify("it ends after five when the server is killed after five", try await collect(cut, run), five)
    run.verify("the server was killed", try await dying.exitStatus(within: .seconds(5)), .signalled(SIGKILL))

    let channel = try MessageChannel()
    try server.connection.postMessage("give-me-a-film", Request(element: 42, count: 10), transfer: [channel.port2])
    run.verify("it ends, empty, when nobody handles the request", try await collect(channel.port1, run), [])

    try await playManyStreams(run, server)
  }

  private static let tenElements = Array(repeating: 42, count: 10)

  /// Sends a request, and returns the port on which the stream comes.
  private static func request(_ request: Request, from server: WorkerProcess) throws -> MessagePort {
    let channel = try MessageChannel()
    try server.connection.postMessage("give-me-a-stream", request, transfer: [channel.port2])
    return channel.port1
  }

  /// Everything that comes until the stream ends.
  private static func collect(
    _ port: MessagePort, _ run: DemoRun, onElement: @escaping @Sendable (Int) -> Void = { _ in }
  ) async throws -> [Int] {
    let (elements, traffic) = try await within(.seconds(10), "the end of a stream") {
      var elements: [Int] = []
      var traffic = DemoTraffic()
      for try await event in port.messages {
        let element = try event.decode(Int.self)
        onElement(element)
        elements.append(element)
        traffic.add(event)
      }
      return (elements, traffic)
    }
    run.count(traffic)
    return elements
  }

  // MARK: Many streams at once

  static let streamCount = 1_000
  static let elementsPerStream = 20

  private struct Many {
    var elements = Array(repeating: 0, count: streamCount)
    var wrongElements = 0
    var closes = 0
    var traffic = DemoTraffic()
  }

  private static func playManyStreams(_ run: DemoRun, _ server: WorkerProcess) async throws {
    run.step("\(streamCount.grouped) streams at once")
    let claim = "\(streamCount.grouped) streams at once: each got its own elements, all of them, and its end"
    // A channel between two processes takes two descriptors in each of them.
    guard DescriptorLimit.raise() >= 2 * streamCount + 100 else {
      return run.notVerified(claim, because: "this process may have only \(DescriptorLimit.raise()) descriptors")
    }
    let state = SharedState(Many())
    for element in 0..<streamCount {
      let channel = try MessageChannel()
      channel.port1.onMessage(of: Int.self) { received, event in
        state.withLock { state in
          state.elements[element] += 1
          if received != element { state.wrongElements += 1 }
          state.traffic.add(event)
        }
      }
      channel.port1.onClose = { _ in state.withLock { $0.closes += 1 } }
      let request = Request(element: element, count: elementsPerStream, ending: .waitsForOthers)
      try await post(request, to: server, with: channel.port2)
      run.progress("\(element + 1) requests")
    }
    try server.connection.postMessage("begin")
    let open = try await within(.seconds(10), "how many streams the server has") {
      try await server.connection.next("open-streams").decode(Int.self)
    }
    run.verify("the server had \(streamCount.grouped) streams open at once", open, streamCount)
    try await eventually(.seconds(20), "the end of \(streamCount) streams") {
      state.withLock { $0.closes } == streamCount
    }
    let result = state.withLock { $0 }
    run.count(result.traffic)
    let isRight = result.elements.allSatisfy { $0 == elementsPerStream } && result.wrongElements == 0
    let extremes = "\(result.elements.min() ?? 0) to \(result.elements.max() ?? 0) elements"
    run.verify(claim, isRight, otherwise: "\(extremes), \(result.wrongElements) of them another stream's")
  }

  /// The kernel limits how many ports may be under way: beyond that, waits for the server to take some.
  private static func post(_ request: Request, to server: WorkerProcess, with port: MessagePort) async throws {
    try await within(.seconds(10), "room for another port") {
      while true {
        do throws(PortError) {
          return try server.connection.postMessage("give-me-a-stream", request, transfer: [port])
        } catch .transferQueueFull {
          try await Task.sleep(for: .milliseconds(1))
        }
      }
    }
  }

  // MARK: The server

  static func playServer(_ parent: Connection) async throws {
    DescriptorLimit.raise()
    let waiting = SharedState<[(request: Request, port: MessagePort)]>([])
    parent.on("give-me-a-stream", of: Request.self) { request, event in
      guard let port = event.ports.first else { return }
      if request.ending == .waitsForOthers { return waiting.withLock { $0.append((request, port)) } }
      for _ in 0..<request.count { try? port.postMessage(request.element) }
      switch request.ending {
      case .closes: port.close()
      case .exits: exit(0)
      case .isKilled: kill(getpid(), SIGKILL)
      case .dropsThePort, .waitsForOthers: break
      }
    }
    parent.on("begin") { event in
      let streams = waiting.withLock { waiting in
        defer { waiting = [] }
        return waiting
      }
      try? event.connection.postMessage("open-streams", streams.count)
      for turn in 0..<(streams.map(\.request.count).max() ?? 0) {
        for (request, port) in streams where turn < request.count { try? port.postMessage(request.element) }
      }
      for (_, port) in streams { port.close() }
    }
    await parent.closed()
  }
}

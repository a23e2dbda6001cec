import MessagePorts
import TestSupport
import Testing

/// The numbers that a port's handler is given as messages, and its close.
final class Received: Sendable {
  enum Event: Sendable, Equatable {
    case message(Int)
    case close(CloseReason)
  }
  let events = Collected<Event>()

  init() {}

  /// Records everything that comes on `port`, and so starts it.
  init(on port: MessagePort) {
    port.onClose = closeHandler
    port.onMessage = messageHandler
  }

  var messageHandler: @Sendable (MessageEvent) -> Void {
    { [events] event in events.append(.message((try? event.load(as: Int.self)) ?? -1)) }
  }

  var closeHandler: @Sendable (CloseReason) -> Void {
    { [events] reason in events.append(.close(reason)) }
  }

  var numbers: [Int] { Self.numbers(of: events.all) }
  var closeCount: Int { events.all.count { if case .close = $0 { true } else { false } } }

  /// Waits for `count` messages.
  @discardableResult
  func wait(for count: Int) throws -> [Int] { Self.numbers(of: try events.wait(for: count, "messages")) }

  /// Waits for the close event; returns everything that came.
  @discardableResult
  func waitForClose() throws -> [Event] {
    try events.wait("close") { events in events.contains { if case .close = $0 { true } else { false } } }
  }

  private static func numbers(of events: [Event]) -> [Int] {
    events.compactMap { if case .message(let number) = $0 { number } else { nil } }
  }
}

extension MessagePort {
  /// Receives a number that comes soon.
  func receiveNumber() throws -> Int { try receive(timeout: patience).load(as: Int.self) }

  /// Receives `count` numbers.
  func receiveNumbers(_ count: Int) throws -> [Int] { try (0..<count).map { _ in try receiveNumber() } }

  func post(_ numbers: Range<Int>) throws {
    for number in numbers { try postMessage(bitwise: number) }
  }

  /// Whether the port can still be used in both directions with `peer`, which is the other end of its channel.
  func isUsable(with peer: MessagePort) throws -> Bool {
    try postMessage(bitwise: 4711)
    try peer.postMessage(bitwise: 4712)
    return try peer.receiveNumber() == 4711 && receiveNumber() == 4712
  }
}

/// A connection whose ends are both in this process.
func connectHere() async throws -> (client: Connection, server: Connection) {
  let listener = try Listener(path: freshPath())
  let client = try await Connection.connect(path: listener.path, timeout: patience)
  return (client, try await listener.accept(timeout: patience))
}

/// Runs what has been scheduled on a loop: returns once all that it was given before has run.
func settle(_ loop: EventLoop = .default) throws {
  let done = Promise<Void>()
  Task(executorPreference: loop) { done.fulfil() }
  try done.wait()
}

/// Lets an echo come back, so that whatever the far end did before it has been noticed here.
func settle(_ place: Place) throws {
  let port = try place.open(.echo)
  try port.postMessage(bitwise: 1)
  _ = try port.receiveNumber()
  try settle()
}

/// Which error of `PortError` a body throws, as its case's name.
func portError(_ body: () throws -> Void) -> String {
  do {
    try body()
    return "none"
  } catch let error as PortError {
    return error.caseName
  } catch {
    return "\(error)"
  }
}

extension PortError {
  var caseName: String {
    switch self {
    case .closed: "closed"
    case .detached: "detached"
    case .invalidTransfer(_, let problem): "invalidTransfer.\(problem)"
    case .tooManyPorts: "tooManyPorts"
    case .invalidDescriptor(_, let problem): "invalidDescriptor.\(problem)"
    case .invalidBuffer(_, let problem): "invalidBuffer.\(problem)"
    case .tooManyDescriptors: "tooManyDescriptors"
    case .messageTooLarge: "messageTooLarge"
    case .queueFull: "queueFull"
    case .transferQueueFull: "transferQueueFull"
    case .encodingFailed: "encodingFailed"
    case .decodingFailed: "decodingFailed"
    case .lockLimitExceeded: "lockLimitExceeded"
    case .system(let error): "system.\(error.errno)"
    case .timedOut: "timedOut"
    case .cancelled: "cancelled"
    case .peerClosed(let reason): "peerClosed.\(reason)"
    case .invalidOption: "invalidOption"
    case .halvesDiffer: "halvesDiffer"
    case .notWaitable(let problem): "notWaitable.\(problem)"
    }
  }
}

extension ForkedChild {
  /// Waits for its end, and expects that all its checks were right.
  consuming func expectSuccess(sourceLocation: SourceLocation = #_sourceLocation) {
    let isRight = succeeds()
    #expect(isRight, sourceLocation: sourceLocation)
  }
}

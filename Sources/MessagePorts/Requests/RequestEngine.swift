import SharedRing
import Synchronization

/// Both sides of a connection's requests. It does not refer to the connection, whose part it is.
///
/// Each request is answered exactly once, also one that was cancelled: only then does its number stop to count.
final class RequestEngine: Sendable {
  struct State: Sendable {
    var asked = RequestTable()
    var served = ServingTable()
  }
  let state = PerProcess { State() }
  /// Relaxed: all that matters is that no number comes twice.
  private let lastNumber = Atomic<UInt64>(0)

  /// Answers are heard, or never will be. Relaxed: it only saves a look.
  let isStarted = Atomic<Bool>(false)

  func nextNumber() -> UInt64 { lastNumber.wrappingAdd(1, ordering: .relaxed).newValue }

  /// Nothing will come any more, and nothing can be said.
  func end(_ reason: PortError) {
    let (waiters, served) = state.withLock { ($0.asked.end(reason), $0.served.end()) }
    for task in served.tasks { task.cancel() }
    for waiter in waiters { waiter.resume(.failed(reason)) }
  }

  /// Something has come that concerns a request. On the loop, or on the thread of whoever receives by hand.
  func take(_ envelope: NamedEnvelope, over connection: Connection, _ handlers: Connection.NamedHandlers?) {
    switch envelope.kind {
    case .message: preconditionFailure("a message is no request's")
    case .request: serve(envelope, over: connection, handlers)
    case .cancel: cancelServing(envelope.number, over: connection)
    case .reply: answer(envelope.number, .reply(envelope.body), over: connection)
    case .failure: answer(envelope.number, .failed(RequestFailure.error(from: envelope.body)), over: connection)
    }
  }

  func complain(_ what: String, over connection: Connection) {
    connection.onMessageError?(.undecodable(RequestViolation(description: what)))
  }
}

/// What no correct peer sends. The message is dropped, and the ports in it close.
struct RequestViolation: Error, CustomStringConvertible {
  let description: String
}

extension MessagePort {
  func postMessage(bytes: [UInt8], with cargo: MessageCargo?) throws(PortError) {
    guard let cargo else { return try postMessage(bytes: bytes) }
    try unsafe core.post(bytes.span.bytes, cargo.ports, cargo.freight)
  }

  /// Posts what has to get there, and waits for room if need be, whoever has been cancelled meanwhile. Gives up if the port
  /// closes, or the message cannot be posted at all.
  func postPatiently(_ bytes: [UInt8], with cargo: MessageCargo? = nil) async throws(PortError) {
    while true {
      do throws(PortError) {
        return try postMessage(bytes: bytes, with: cargo)
      } catch {
        switch error {
        case .queueFull: try await uncancelled { try await $0.waitForSpace(byteCount: bytes.count) }
        case .transferQueueFull: try await uncancelled { try await $0.waitForTransferSpace() }
        default: throw error
        }
      }
    }
  }

  /// Waits in a task of its own, so that nobody cancels it.
  private func uncancelled(_ wait: @escaping @Sendable (MessagePort) async throws -> Void) async throws(PortError) {
    let waiting = Task { try await wait(self) }
    do { try await waiting.value } catch { throw error as? PortError ?? .cancelled }
  }
}

extension EventLoop {
  /// How soon something is tried again of which nobody tells when it becomes possible.
  static let pauseNanoseconds: UInt64 = 10_000_000

  /// Runs `body` after that time; on another loop if this one was stopped.
  func afterPause(_ body: @escaping @Sendable () -> Void) {
    if afterOrNever(nanoseconds: Self.pauseNanoseconds, body) { return }
    EventLoop.default.after(nanoseconds: Self.pauseNanoseconds, body)
  }
}

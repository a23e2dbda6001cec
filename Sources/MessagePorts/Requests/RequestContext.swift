import Synchronization

/// Makes the bytes of a reply, wherever its caller runs.
typealias RequestHandler = nonisolated(nonsending) @Sendable (RequestContext) async throws -> [UInt8]

/// What a request's handler is given besides the question.
///
/// Thread safety: a value whose members may be used from any thread.
public struct RequestContext: Sendable {
  /// The request's name.
  public var name: String { request.envelope.name }
  /// The connection that it came by. The handler may ask the other side something in turn.
  public var connection: Connection { request.connection }
  /// The ports that came with it, in the order of the asker's list. Whatever the handler does not keep closes.
  public var ports: [MessagePort] { firstPort == 0 ? message.ports : Array(message.ports.dropFirst(firstPort)) }

  /// The descriptors that came with it. Whatever the handler does not keep closes.
  public var descriptors: [Descriptor] { message.descriptors }

  /// The buffers that came with it. Whatever the handler does not keep closes.
  public var buffers: [MessageBuffer] { message.buffers }

  /// What is passed on several times over costs one reference.
  private final class Request: Sendable {
    let envelope: NamedEnvelope
    let connection: Connection
    let hasCargo = Atomic<Bool>(false)
    let isAnswered = Atomic<Bool>(false)

    init(_ envelope: NamedEnvelope, _ connection: Connection) {
      (self.envelope, self.connection) = (envelope, connection)
    }
  }
  private let request: Request
  private var firstPort = 0

  /// The reply takes something along. Relaxed, as the next: it saves a look at the table, and concerns the handler's task alone.
  var hasCargo: Bool { request.hasCargo.load(ordering: .relaxed) }
  /// Relaxed: whoever does not see it looks into the table.
  var isAnswered: Bool { request.isAnswered.load(ordering: .relaxed) }
  func noteAnswered() { request.isAnswered.store(true, ordering: .relaxed) }

  var message: MessageEvent { request.envelope.body }
  var number: UInt64 { request.envelope.number }

  init(_ envelope: NamedEnvelope, over connection: Connection) { request = Request(envelope, connection) }

  /// Without the port that stands for the stream itself.
  var withoutFirstPort: RequestContext {
    var context = self
    context.firstPort = 1
    return context
  }

  /// The question's bytes, copied.
  public var bytes: [UInt8] { message.bytes }

  /// Calls `body` with the question's bytes, without copying them.
  public func withBytes<Result: ~Copyable, Failure: Error>(
    _ body: (RawSpan) throws(Failure) -> Result
  ) throws(Failure) -> Result { try message.withBytes(body) }

  /// Sends ports, descriptors and buffers along with the reply, behind those of earlier calls.
  ///
  /// They have gone once the reply is posted. If they cannot travel, or the handler throws, there is no reply, and they
  /// stay here; the asker is told. Without effect after the handler has returned.
  public func transfer(
    _ ports: [MessagePort] = [], descriptors: [Descriptor] = [], buffers: [MessageBuffer] = []
  ) {
    let freight = Freight(descriptors: descriptors, buffers: buffers)
    // What is too late is released without the lock.
    withExtendedLifetime((ports, freight)) {
      _ = connection.requests.state.withLock { $0.served.add(ports, freight, to: number) }
      request.hasCargo.store(true, ordering: .relaxed)
    }
  }
}

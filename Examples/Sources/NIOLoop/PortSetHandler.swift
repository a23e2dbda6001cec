import MessagePorts
import NIOCore

/// Takes the messages of a set's ports on a NIO event loop, and closes its channel once they have all come to their end.
///
/// It is in the pipeline of a channel that reads the set's descriptor.
final class PortSetHandler: ChannelInboundHandler {
  typealias InboundIn = ByteBuffer

  private let set: PortSet
  private let handle: (MessageEvent) -> Void

  init(_ set: PortSet, _ handle: @escaping (MessageEvent) -> Void) {
    self.set = set
    self.handle = handle
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) { takeSome(context) }

  /// NIO has read the descriptor, so it is not readable again before ``PortSet/nextReady()`` has found nothing.
  private func takeSome(_ context: ChannelHandlerContext) {
    for _ in 0..<64 {
      guard case .port(let port)? = try? set.nextReady() else {
        if set.count == 0 { context.close(promise: nil) }
        return
      }
      switch try? port.tryReceive() {
      case .message(let event): handle(event)
      case .empty: break
      case .closed, nil: set.remove(port)
      }
    }
    // Others of this loop have their turn.
    context.eventLoop.assumeIsolated().execute { self.takeSome(context) }
  }
}

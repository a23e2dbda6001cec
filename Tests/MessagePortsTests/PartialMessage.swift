@testable import MessagePorts
import SharedRing
import TestSupport
import Testing

/// A message in fragments, all of which were received but the last.
struct PartialMessage {
  let poster: MessagePort
  let receiver: MessagePort
  let byteCount: Int
  let header: RecordHeader

  /// Both are ends of one shared channel.
  init(from poster: MessagePort, to receiver: MessagePort, byteCount: Int, seed: UInt64) throws {
    (self.poster, self.receiver, self.byteCount) = (poster, receiver, byteCount)
    header = try poster.core.outgoing.state.withLock { lane in
      try unsafe patternBytes(count: byteCount, seed: seed).withUnsafeBytes { bytes in
        try unsafe lane.sending.producer.stage(
          bytes.bytes, policy: lane.sending.policy, contact: lane.sending.transport.channel!)
      }
    }
    guard case .empty = try receiver.tryReceive() else { throw Agent.Failure(description: "too early") }
    #expect(receiver.core.incoming.state.withLock { (try? $0.receiving.records.partial()) != nil })
  }

  /// The rest of the message is there.
  func complete() {
    poster.core.outgoing.state.withLock { lane in
      lane.sending.producer.publish(header)
      lane.sending.wakeReceiver()
    }
  }
}

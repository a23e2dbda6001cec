import DequeModule
import SharedRing

/// A message that waits in this process.
struct QueuedMessage: Sendable {
  let payload: MessagePayload
  /// What it carries, already as the objects that the receiver will get. Dropping the message closes them.
  let cargo: MessageCargo?

  var ports: [MessagePort] { cargo?.ports ?? [] }
  var freight: Freight { cargo?.freight ?? Freight() }

  /// What it counts for in a limit on unread data: the same here as in shared memory.
  var recordBytes: Int { RecordHeader.recordBytes(payloadBytes: payload.byteCount) }
}

/// The messages of a lane both of whose ends are in this process, or were when they were posted. A value; the lane's
/// lock guards it.
struct LocalQueue: Sendable {
  private(set) var messages = Deque<QueuedMessage>()
  /// What they count for, as ``QueuedMessage/recordBytes`` says.
  private(set) var byteCount = 0

  var isEmpty: Bool { messages.isEmpty }

  /// The ports that wait in it, inside messages.
  var ports: [MessagePort] { messages.flatMap(\.ports) }

  mutating func append(_ message: QueuedMessage) {
    byteCount += message.recordBytes
    messages.append(message)
  }

  mutating func popFirst() -> QueuedMessage? {
    guard let message = messages.popFirst() else { return nil }
    byteCount -= message.recordBytes
    return message
  }

  mutating func removeAll() -> [QueuedMessage] {
    defer { self = LocalQueue() }
    return Array(messages)
  }
}

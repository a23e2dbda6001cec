@testable import MessagePorts
import SharedRing

/// A message that should begin with an envelope; the same bytes as a stream's record, and as the reason of a failure.
enum EnvelopeFuzz {
  static func run(_ input: inout FuzzInput) {
    let bytes = Array(input.rest())
    guard let payload = unsafe MessagePayload(copying: bytes.span.bytes) else { return }
    let event = MessageEvent(payload: payload, cargo: nil)
    openEnvelope(event, bytes)
    openRecord(event, bytes)
    // Whatever they say, there is an error, and one that can be sent on.
    let error = RequestFailure.error(from: event)
    demand(!RequestFailure(thrown: error).envelope(1).isEmpty, "no envelope for \(error)")
  }

  private static func openEnvelope(_ event: MessageEvent, _ bytes: [UInt8]) {
    guard let envelope = NamedEnvelope.open(event) else { return }
    let name = envelope.name
    demand(name.utf8.count <= Connection.maximumNameBytes, "a name of \(name.utf8.count) bytes")
    switch envelope.kind {
    case .message: demand(envelope.number == 0, "a message with a number")
    case .request: break
    case .reply, .failure: demand(name.isEmpty, "an answer with a name")
    case .cancel: demand(name.isEmpty && envelope.body.byteCount == 0, "a cancellation with more than a number")
    }
    // There is one way to write it.
    let again = unsafe NamedEnvelope.make(
      envelope.kind, envelope.number, name: name, envelope.body.bytes.span.bytes)
    demand(again == bytes, "\(bytes) became \(again ?? [])")
  }

  private static func openRecord(_ event: MessageEvent, _ bytes: [UInt8]) {
    guard let record = StreamRecord.open(event) else { return }
    let again = unsafe StreamRecord.make(record.kind, element: record.element, record.body.bytes.span.bytes)
    demand(again == bytes, "\(bytes) became \(again)")
    // Parts are put together within the limit, whatever their numbers.
    var parts = StreamParts(limitBytes: 64)
    var added = 0
    while parts.add(record), added < 100 { added += 1 }
    demand(added * record.body.byteCount <= 64, "\(added) parts of \(record.body.byteCount) bytes")
    demand(parts.take(record.element).count == added * record.body.byteCount, "other bytes than were added")
  }

  static var seeds: [[UInt8]] {
    let names = ["", "a", "żółw 🐢", String(repeating: "n", count: 100), String(repeating: "é", count: 512)]
    var seeds = names.compactMap { name in unsafe NamedEnvelope.make(name: name, [1, 2, 3].span.bytes) }
    seeds += names.compactMap { name in
      unsafe NamedEnvelope.make(.request, 0x0102_0304_0506_0708, name: name, [1, 2, 3].span.bytes)
    }
    for kind in NamedEnvelope.Kind.allCases {
      seeds.append(NamedEnvelope.make(kind, .max, RawSpan()) ?? [])
      seeds.append(unsafe NamedEnvelope.make(kind, 1, name: "a", [1].span.bytes) ?? [])
    }
    for failure in [.noHandler("a"), .cancelled, RequestFailure(thrown: PortError.closed)] as [RequestFailure] {
      let envelope = failure.envelope(1)
      seeds += [envelope, Array(envelope[10...])]
    }
    for kind in StreamRecord.Kind.allCases {
      seeds.append(unsafe StreamRecord.make(kind, element: 3, [1, 2, 3].span.bytes))
      seeds.append(StreamRecord.make(kind, RawSpan()))
    }
    return seeds + [[], [0], [5, 0, 1], [1, 4], [0xff, 0xff, 1], [2, 0, 0xc3, 0x28], [0, 0x50, 1], [0, 0x10, 1]]
  }
}

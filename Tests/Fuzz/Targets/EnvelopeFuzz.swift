@testable import MessagePorts
import SharedRing

/// A message that should begin with a channel name.
enum EnvelopeFuzz {
  static func run(_ input: inout FuzzInput) {
    let bytes = Array(input.rest())
    guard let payload = unsafe MessagePayload(copying: bytes.span.bytes) else { return }
    guard let (name, body) = NamedEnvelope.open(MessageEvent(payload: payload, cargo: nil)) else { return }
    demand(name.utf8.count <= Connection.maximumNameBytes, "a name of \(name.utf8.count) bytes")
    demand(body.byteCount == bytes.count - 2 - name.utf8.count, "\(body.byteCount) bytes behind \(name)")
    // There is one way to write it.
    let again = unsafe NamedEnvelope.make(name: name, body.bytes.span.bytes)
    demand(again == bytes, "\(bytes) became \(again ?? [])")
  }

  static var seeds: [[UInt8]] {
    ["", "a", "żółw 🐢", String(repeating: "n", count: 100), String(repeating: "é", count: 512)].compactMap { name in
      unsafe NamedEnvelope.make(name: name, [1, 2, 3].span.bytes)
    } + [[], [0], [5, 0, 1], [1, 4], [0xff, 0xff, 1], [2, 0, 0xc3, 0x28]]
  }
}

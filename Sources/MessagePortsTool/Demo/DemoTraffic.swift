import MessagePorts

/// Messages that were received on the channels that a program is about, as their receivers have counted them.
struct DemoTraffic: Codable, Hashable, Sendable {
  private(set) var messages = 0
  private(set) var bytes = 0

  mutating func add(_ message: MessageEvent) {
    messages += 1
    bytes += message.byteCount
  }

  static func += (total: inout DemoTraffic, part: DemoTraffic) {
    total.messages += part.messages
    total.bytes += part.bytes
  }
}

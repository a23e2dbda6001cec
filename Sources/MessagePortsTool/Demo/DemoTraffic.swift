import MessagePorts

/// Messages received on a program's channels, as their receivers counted them.
struct DemoTraffic: Codable, Hashable, Sendable {
  private(set) var messages = 0
  private(set) var bytes = 0

  mutating func add(_ message: MessageEvent) {
    messages += 1
    bytes += message.byteCount
  }

  init() {}

  /// Elements of a stream.
  init(elements: [Int]) {
    messages = elements.count
    bytes = elements.count * MemoryLayout<Int>.size
  }

  static func += (total: inout DemoTraffic, part: DemoTraffic) {
    total.messages += part.messages
    total.bytes += part.bytes
  }
}

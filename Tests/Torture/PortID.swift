/// One end of a channel of the torture, wherever it is.
struct PortID: Hashable, Codable, Sendable, CustomStringConvertible {
  let rawValue: UInt32

  init(channel: UInt32, end: Int) { rawValue = channel * 2 + UInt32(end) }
  init(rawValue: UInt32) { self.rawValue = rawValue }

  var channel: UInt32 { rawValue / 2 }
  var end: Int { Int(rawValue % 2) }
  var peer: PortID { PortID(rawValue: rawValue ^ 1) }
  var description: String { "\(channel).\(end)" }
}

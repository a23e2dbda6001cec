/// What a figure measures. The raw value is its name in the results.
public enum Metric: String, Codable, Sendable, CaseIterable {
  case pollingRoundTrip = "rtt_poll_ns"
  case sleepingRoundTrip = "rtt_sleep_ns"
  case sleepingRoundTripOnOneCore = "rtt_sleep_onecore_ns"
  case messages = "oneway_msgs_per_s"
  case bytes = "oneway_bytes_per_s"
  case inPlace = "inplace_bytes_per_s"
  case codable = "codable_msgs_per_s"
  case requests = "requests_per_s"
  case stream = "stream_bytes_per_s"
  case creation = "create_per_s"
  case transfer = "transfer_reply_per_s"
  case pipelinedTransfer = "transfer_pipelined_per_s"
  case descriptor = "descriptor_reply_per_s"
  case pipelinedDescriptor = "descriptor_pipelined_per_s"
  case deathNotice = "death_notice_ns"
  case memory = "idle_port_bytes"
  case manyPorts = "cost_vs_one_port"
  case instructions = "instructions_per_msg"

  public var unit: String {
    switch self {
    case .pollingRoundTrip, .sleepingRoundTrip, .sleepingRoundTripOnOneCore, .deathNotice: "ns"
    case .messages, .codable, .requests, .creation, .transfer, .pipelinedTransfer, .descriptor, .pipelinedDescriptor:
      "1/s"
    case .bytes, .inPlace, .stream: "B/s"
    case .memory: "B"
    case .manyPorts: "1"
    case .instructions: "instructions"
    }
  }

  /// Both sides are to sleep while they wait, and could do otherwise: a run in which they did not says nothing. On one
  /// processor, whoever is woken may run at once, and the other find its answer there when it runs again.
  var isOfSleepers: Bool { self == .sleepingRoundTrip }

  var isRate: Bool { unit.hasSuffix("/s") }

  /// Whether `a` is the better figure.
  func isBetter(_ a: Double, than b: Double) -> Bool { isRate ? a > b : a < b }
}

public enum Tier: String, Codable, Sendable { case fast, port, limit, peer }

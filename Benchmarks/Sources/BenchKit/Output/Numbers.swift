import Foundation

/// Numbers as people read them.
enum Numbers {
  static func text(_ value: Double?, unit: String) -> String {
    guard let value, value.isFinite else { return "–" }
    switch unit {
    case "ns" where value >= 10_000: return "\(significant(value / 1000)) µs"
    case "ns": return "\(significant(value)) ns"
    case "1/s": return scaled(value, "/s")
    case "B/s": return scaled(value, "B/s")
    case "B": return "\(Int(value.rounded())) B"
    case "1": return String(format: value < 0.1 ? "%.2g" : "%.2f", value)
    default: return significant(value)
    }
  }

  private static func scaled(_ value: Double, _ unit: String) -> String {
    for (factor, prefix) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] where value >= factor {
      return "\(significant(value / factor)) \(prefix)\(unit)"
    }
    return "\(significant(value)) \(unit)"
  }

  static func significant(_ value: Double) -> String {
    value >= 100
      ? String(format: "%.0f", value) : value >= 10 ? String(format: "%.1f", value) : String(format: "%.2f", value)
  }

  static func size(_ bytes: Int?) -> String {
    guard let bytes else { return "" }
    return bytes < 1024 ? "\(bytes) B" : bytes < 1 << 20 ? "\(bytes >> 10) KiB" : "\(bytes >> 20) MiB"
  }
}

/// Numbers for people to read.
enum Format {
  static func limit(_ limit: Limit) -> String { limit.number?.grouped ?? "unlimited" }

  static func limitBytes(_ limit: Limit) -> String { limit.number.map(bytes) ?? "unlimited" }

  /// In the largest unit that gives at least one, rounded down; below ten, with one decimal.
  static func bytes(_ count: UInt64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    let index = count == 0 ? 0 : (UInt64.bitWidth - 1 - count.leadingZeroBitCount) / 10
    let whole = count >> (10 * index)
    guard index > 0, whole < 10 else { return "\(whole) \(units[index])" }
    let tenths = ((count >> (10 * (index - 1))) & 1023) * 10 / 1024
    return tenths == 0 ? "\(whole) \(units[index])" : "\(whole).\(tenths) \(units[index])"
  }
}

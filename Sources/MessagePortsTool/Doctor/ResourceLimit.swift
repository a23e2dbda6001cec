/// A limit of this process, and how far the process may raise it.
package struct ResourceLimit: Codable, Hashable, Sendable {
  package var soft: Limit
  package var hard: Limit

  package init(soft: Limit, hard: Limit) {
    self.soft = soft
    self.hard = hard
  }
}

/// A number, or `"unlimited"` in JSON, where no number stands for it.
package enum Limit: Hashable, Sendable, Codable {
  case finite(UInt64)
  case unlimited

  package var number: UInt64? {
    if case .finite(let number) = self { number } else { nil }
  }

  package init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if let number = try? container.decode(UInt64.self) {
      self = .finite(number)
      return
    }
    let word = try container.decode(String.self)
    guard word == "unlimited" else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "\(word) is no limit")
    }
    self = .unlimited
  }

  package func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .finite(let number): try container.encode(number)
    case .unlimited: try container.encode("unlimited")
    }
  }
}

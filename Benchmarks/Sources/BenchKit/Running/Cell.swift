/// Figures that belong beside each other: one metric, one size, measured in turns.
public struct Cell: Sendable {
  var metric: Metric
  var size: Int?
  /// For the progress and the table.
  var title: String
  var contenders: [Contender]
  var limit: LimitRule
  /// Whether the distance between the processors matters.
  var dependsOnDistance = true
  /// The values are divided by the first contender's of the same repetition and variant.
  var isRelative = false
}

/// What gives figures.
enum Contender: Sendable {
  case ours(OurCase)
  case program(Program)

  var name: String {
    switch self {
    case .ours(let ours): "\(ours.tier.rawValue)\(ours.variant.isEmpty ? "" : " (\(ours.variant))")"
    case .program(let program): program.name
    }
  }
}

struct OurCase: Sendable {
  static let who = "swift-message-ports"

  var tier: Tier
  var variant = ""
  var job: Job
  /// Keeps both processors from halting.
  var awake = false
  /// What the figure includes.
  var note: String
  /// Instead of the cell's.
  var size: Int?
}

/// What a figure is held against.
enum LimitRule: Sendable {
  /// The best that anybody reached in the cell: these, which do nothing else, or whoever was better.
  case best([String])
  /// A bounced cache line, and the bytes copied there and back at the speed of bare copying; or whoever was better.
  case bounceAndCopies
  case fixed(Double, String)
}

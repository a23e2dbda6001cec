import MessagePorts
import MessagePortsMacros

@MessageValue
struct Place: Equatable { var x: Double, y: Double, label: String }

/// Of each kind of property, one.
@MessageValue
struct Properties: Codable, Equatable, Sendable {
  let id: Int64
  var name: String
  var flag = true
  var maybe: Int?
  var filled: Int? = 5
  var unwrapped: String!
  var twice: Int??
  var alias: Perhaps
  var (left, right) = (1, 2)
  var a, b: UInt8
  var c = "c", d: [String: [Place]], e: [Place?]
  var watched: Int { didSet { name = "watched" } }
  var `default`: Int
  var `in`: Place
  var `two words`: Int
  private var hidden = 7
  fileprivate(set) var bytes: [UInt8] = [1, 2]
  @available(swift, introduced: 6) var attributed = 9
  var entries = 10
  var writer = 11
  var computed: Int { a.hashValue }
  var both: Int {
    get { 1 }
    set { name = "\(newValue)" }
  }
  static let shared = 12
  static var other: Int { 13 }

  typealias Perhaps = Int?

  static func example(_ maybe: Int?) -> Properties {
    Properties(
      id: -5, name: "n", maybe: maybe, filled: maybe, unwrapped: maybe.map { "\($0)" }, twice: .some(3), alias: maybe,
      a: 1, b: 2, d: ["x": [Place(x: 1, y: 2, label: "p")]], e: [nil, Place(x: 3, y: 4, label: "")], watched: 1,
      default: 2, in: Place(x: 5, y: 6, label: "q"), two: 3)
  }

  private init(
    id: Int64, name: String, maybe: Int?, filled: Int?, unwrapped: String?, twice: Int??, alias: Int?, a: UInt8,
    b: UInt8, d: [String: [Place]], e: [Place?], watched: Int, default: Int, in place: Place, two: Int
  ) {
    (self.id, self.name, self.maybe, self.filled, self.unwrapped) = (id, name, maybe, filled, unwrapped)
    (self.twice, self.alias, self.a, self.b, self.d, self.e) = (twice, alias, a, b, d, e)
    (self.watched, self.default, self.in, self.`two words`) = (watched, `default`, place, two)
  }
}

/// The compiler leaves out what is computed late.
@MessageValue
struct Late: Equatable {
  var one = 1
  lazy var two = one * 2

  static func == (one: Late, other: Late) -> Bool { one.one == other.one }
}

/// Keys that are renamed, in another order, and left out.
@MessageValue
struct Renamed: Equatable {
  var one: Int
  var two: Int?
  var left = 3
  lazy var late = 4
  let fixed = 5, typed: Int = 6
  var quoted: String

  private enum CodingKeys: String, CodingKey {
    case quoted = "a \"quoted\"\tkey"
    case two = "zwei"
    case fixed, typed
    case one = "eins"
  }

  static func == (one: Renamed, other: Renamed) -> Bool {
    (one.one, one.two, one.left, one.quoted) == (other.one, other.two, other.left, other.quoted)
  }
}

@MessageValue
struct Numbered: Equatable {
  var one: Int
  var two: String

  enum CodingKeys: Int, CodingKey { case two = 2, one = 1 }
}

@MessageValue
struct Named: Equatable {
  var one: Int
  var two: String

  enum CodingKeys: CodingKey { case one, two }
}

@MessageValue
struct Nothing: Equatable {}

@MessageValue
struct Constant: Equatable {
  let one = 1

  enum CodingKeys: CodingKey { case one }
}

@MessageValue
struct NoKeys: Equatable {
  var one = 1

  enum CodingKeys: CodingKey {}
}

// What has a raw value is that, wherever it says so.

@MessageValue
struct Number: RawRepresentable, Equatable { var rawValue: Int }

@MessageValue
struct Options: OptionSet, Equatable { let rawValue: UInt16 }

protocol Identifier: RawRepresentable {}

@MessageValue
struct UserID: Identifier, Equatable { var rawValue: String }

@MessageValue
struct Later: Equatable { var text: String }

extension Later: RawRepresentable {
  var rawValue: String { text }
  init?(rawValue: String) {
    if rawValue.isEmpty { return nil }
    text = rawValue
  }
}

import MessageCoding

/// Any value of the data model that JSON and the binary format share. It decodes itself from whatever is there, and so
/// makes a coder look at all parts of a message.
enum Tree: Codable, Equatable, Sendable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  case string(String)
  case array([Tree])
  case object([String: Tree])

  struct Key: CodingKey {
    let stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  init(from decoder: any Decoder) throws {
    if let container = try? decoder.container(keyedBy: Key.self) {
      var entries: [String: Tree] = [:]
      for key in container.allKeys { entries[key.stringValue] = try container.decode(Tree.self, forKey: key) }
      self = .object(entries)
    } else if var container = try? decoder.unkeyedContainer() {
      var items: [Tree] = []
      while !container.isAtEnd { items.append(try container.decode(Tree.self)) }
      self = .array(items)
    } else {
      let container = try decoder.singleValueContainer()
      if container.decodeNil() {
        self = .null
      } else if let value = try? container.decode(Bool.self) {
        self = .bool(value)
      } else if let value = try? container.decode(Int.self) {
        self = .int(value)
      } else if let value = try? container.decode(Double.self) {
        self = .double(value)
      } else {
        self = .string(try container.decode(String.self))
      }
    }
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .null:
      var container = encoder.singleValueContainer()
      try container.encodeNil()
    case .bool(let value): try value.encode(to: encoder)
    case .int(let value): try value.encode(to: encoder)
    case .double(let value): try value.encode(to: encoder)
    case .string(let value): try value.encode(to: encoder)
    case .array(let items):
      var container = encoder.unkeyedContainer()
      for item in items { try container.encode(item) }
    case .object(let entries):
      var container = encoder.container(keyedBy: Key.self)
      for (key, value) in entries.sorted(by: { $0.key < $1.key }) {
        try container.encode(value, forKey: Key(stringValue: key))
      }
    }
  }
}

struct Position: Codable, Equatable, Sendable {
  var x: Double
  var y: Double
}

struct Item: Codable, Equatable, Sendable {
  var id: Int
  var name: String
  var price: Double
  var active: Bool
  var position: Position

  static let example = Item(id: 123_456, name: "kettle", price: 12.5, active: true, position: Position(x: 1.5, y: -2.5))
}

struct Optionals: Codable, Equatable, Sendable {
  var number: Int?
  var text: String?
  var list: [Int?]
  var nested: Int??
  var item: Item?
}

enum Event: Codable, Equatable, Sendable {
  case moved(id: Int, to: Position)
  case removed(Int)
  case cleared
}

enum Colour: String, Codable, Sendable {
  case red, green
}

indirect enum Expression: Codable, Equatable, Sendable {
  case number(Double)
  case sum(Expression, Expression)
}

/// A list as long as the message is deep.
final class Link: Codable {
  var next: Link?

  init(length: Int) {
    if length > 1 { next = Link(length: length - 1) }
  }

  var length: Int {
    var (count, link) = (1, self)
    while let next = link.next { (count, link) = (count + 1, next) }
    return count
  }

  deinit {
    // One object after another, rather than each by the one before, which would take a stack of its own.
    while let last = next, isKnownUniquelyReferenced(&next) {
      next = last.next
      last.next = nil
    }
  }
}

struct ManyNumbers: Codable, Equatable, Sendable {
  var int8: Int8
  var int16: Int16
  var int32: Int32
  var int64: Int64
  var int128: Int128
  var int: Int
  var uint8: UInt8
  var uint16: UInt16
  var uint32: UInt32
  var uint64: UInt64
  var uint128: UInt128
  var uint: UInt
  var float: Float
  var double: Double
  var bool: Bool

  static let smallest = ManyNumbers(
    int8: .min, int16: .min, int32: .min, int64: .min, int128: .min, int: .min, uint8: 0, uint16: 0, uint32: 0,
    uint64: 0, uint128: 0, uint: 0, float: -.greatestFiniteMagnitude, double: -.infinity, bool: false)
  static let largest = ManyNumbers(
    int8: .max, int16: .max, int32: .max, int64: .max, int128: .max, int: .max, uint8: .max, uint16: .max,
    uint32: .max, uint64: .max, uint128: .max, uint: .max, float: .infinity, double: .leastNonzeroMagnitude, bool: true)
}

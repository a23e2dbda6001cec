import Foundation
import MessageCoding

/// The default coder, asked for values of many types: the first byte says which, the others are the message.
enum CoderFuzz {
  private static let coder = BinaryMessageCoder(maximumNestingDepth: 64, maximumMessageBytes: 1 << 16)

  static func run(_ input: inout FuzzInput) {
    let type = types[input.below(types.count)]
    let bytes = Array(input.rest())
    decode(type, bytes)
    for type in directTypes { compare(type, bytes) }
  }

  /// A value that reads itself is the one that `Codable` makes, or both refuse the message.
  private static func compare<Value: MessageValue & SendableMetatype>(_ type: Value.Type, _ bytes: [UInt8]) {
    let (direct, other) = (readDirectly(type, bytes), decodeCodable(type, bytes))
    demand((direct == nil) == (other == nil), "\(bytes): \(direct as Any), and by Codable \(other as Any)")
    guard let direct, let other else { return }
    // Sets and dictionaries have no order: descriptions have to do for values that are not equal to themselves.
    demand(isSame(direct, other), "\(bytes): \(direct), and by Codable \(other)")
    guard let written = try? coder.encode(direct) else { return }
    demand(decodeCodable(type, written).map { isSame(direct, $0) } ?? false, "\(direct) was written as \(written)")
  }

  private static func readDirectly<Value: MessageValue>(_ type: Value.Type, _ bytes: [UInt8]) -> Value? {
    do { return try unsafe coder.decode(type, from: bytes.span.bytes) } catch {
      demand(error is DecodingError, "\(error)")
      return nil
    }
  }

  private static func decodeCodable<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) -> Value? {
    try? unsafe coder.decode(type, from: bytes.span.bytes)
  }

  private static func isSame<Value>(_ one: Value, _ other: Value) -> Bool {
    func sorted(_ value: Value) -> [Character] { "\(value)".sorted() }
    return sorted(one) == sorted(other)
  }

  private static let directTypes: [any (MessageValue & SendableMetatype).Type] = [
    Int.self, UInt8.self, Int128.self, UInt128.self, Bool.self, Double.self, Float.self, String.self, [Int].self,
    [UInt8].self, [Double?].self, [[UInt16]].self, [String: Int].self, [Int: String].self, Set<String>.self, Int??.self,
    [Bool: Double].self, Part.self, [Part].self,
  ]

  private struct Part: MessageValue {
    var number: Int8, text: String, flag: Bool?, fraction: Double?, list: [Int32?], words: [String: [Part]]

    func write(to writer: inout ValueWriter) {
      writer.writeEntries { entries in
        entries.write(number, forKey: "number")
        entries.write(text, forKey: "text")
        entries.write(flag, forKey: "flag")
        entries.write(fraction, forKey: "fraction")
        entries.write(list, forKey: "list")
        entries.write(words, forKey: "words")
      }
    }

    init(number: Int8, text: String, flag: Bool?, fraction: Double?, list: [Int32?], words: [String: [Part]]) {
      (self.number, self.text, self.flag) = (number, text, flag)
      (self.fraction, self.list, self.words) = (fraction, list, words)
    }

    init(from reader: inout ValueReader) throws {
      self = try reader.readEntries { entries in
        Part(
          number: try entries.read(forKey: "number"), text: try entries.read(forKey: "text"),
          flag: try entries.read(forKey: "flag"), fraction: try entries.read(forKey: "fraction"),
          list: try entries.read(forKey: "list"), words: try entries.read(forKey: "words"))
      }
    }
  }

  /// What decodes can be encoded again and means the same.
  private static func decode<Value: Codable & SendableMetatype>(_ type: Value.Type, _ bytes: [UInt8]) {
    do {
      let value = try unsafe coder.decode(type, from: bytes.span.bytes)
      guard let encoded = try? coder.encode(value) else { return }  // deeper, or longer, than it may be
      let again = try unsafe coder.decode(type, from: encoded.span.bytes)
      let encodedAgain = try coder.encode(again)
      // Sets and dictionaries have no order.
      demand(encodedAgain.count == encoded.count, "\(encoded) became \(encodedAgain)")
    } catch {
      demand(error is DecodingError, "\(error)")
    }
  }

  private static let types: [any (Codable & SendableMetatype).Type] = [
    Int.self, UInt8.self, Int128.self, Bool.self, Double.self, String.self, Data.self, Date.self, UUID.self,
    Decimal.self,
    URL.self, [Int].self, [UInt8].self, [Double].self, [String].self, [Int?].self, [Bool].self, [String: Int].self,
    [Int: String].self, Set<String>.self, Int??.self, [String: [Float?]].self, Shape.self, [Shape].self, Tree.self,
    Everything.self, Chain.self, Colour.self, [Colour: Data].self, [[[UInt16]]].self,
  ]

  private enum Colour: String, Codable, CodingKeyRepresentable { case red, green }

  private enum Shape: Codable {
    case nothing
    case circle(radius: Double)
    case polygon([Int16], name: String?)
  }

  private indirect enum Tree: Codable {
    case leaf(Int)
    case node([Tree])
    case named(String, Tree)
  }

  private final class Chain: Codable {
    var next: Chain?
    var value: Int
    init(length: Int) {
      value = length
      next = length > 0 ? Chain(length: length - 1) : nil
    }
  }

  private struct Everything: Codable {
    var number = -5, small: Int8 = 1, large = UInt128.max, fraction: Float = 0.5, text = "text", flag = true
    var maybe: Int?
    var list = [1, 2, 300], bytes = Data([1, 2, 3]), words = ["a": ["b"]], shape = Shape.circle(radius: 1),
      tree = Tree.leaf(1)
    var date = Date(timeIntervalSince1970: 0), id = UUID(uuid: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16))
    var amount = Decimal(12.5), link = URL(string: "https://swift.org/a?b#c")
  }

  static var seeds: [[UInt8]] {
    let values: [any Codable] = [
      5, 200 as UInt8, Int128.min, true, 0.25, "żółw", Data([1, 2, 3]), Date(timeIntervalSince1970: 1), UUID(),
      Decimal(string: "-12.75")!,
      URL(string: "https://swift.org")!, [1, 2, 3_000_000], [1, 2] as [UInt8], [1.5, 2],
      ["a", String(repeating: "b", count: 80)],
      [1, nil] as [Int?], [true, false], ["a": 1, "b": 2], [1: "a"], Set(["x", "y"]), Optional(Optional(3)),
      ["k": [1, nil]] as [String: [Float?]],
      Shape.polygon([1, -2], name: "p"), [Shape.nothing, .circle(radius: 2)],
      Tree.node([.leaf(1), .named("n", .leaf(2))]), Everything(), Chain(length: 5), Colour.red,
      [Colour.green: Data([9])], [[[1, 2], []]] as [[[UInt16]]],
      Part(number: 1, text: "t", flag: true, fraction: 0.5, list: [1, nil], words: ["w": []]),
    ]
    return values.enumerated().compactMap { index, value in
      (try? coder.encode(value)).map { [UInt8(index % types.count)] + $0 }
    }
  }
}

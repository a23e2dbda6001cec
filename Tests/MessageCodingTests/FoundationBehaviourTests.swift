import Foundation
import MessageCoding
import Testing

/// A type to decode, by both coders from the same value.
struct Target: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// Dictionaries and sets have another order each time, and so report another error first.
  let isOrdered: Bool
  let outcomes: @Sendable (Tree) throws -> (binary: String, json: String)

  init<T: Decodable & SendableMetatype>(_ type: T.Type, isOrdered: Bool = true) {
    testDescription = "\(type)"
    self.isOrdered = isOrdered
    outcomes = { tree in
      let (bytes, data) = (try coder.encode(tree), try JSONEncoder().encode(tree))
      return (outcome { try decode(type, bytes) }, outcome { try JSONDecoder().decode(type, from: data) })
    }
  }
}

struct Simple: Codable {
  var number: Int
  var text: String?
}

struct Outer: Codable {
  var simple: Simple
  var list: [Simple]
  var byName: [String: Simple]?
}

@Suite("Behaviour of Foundation's coders")
struct FoundationBehaviourTests {
  static let targets: [Target] = [
    .init(Int.self), .init(Int8.self), .init(UInt.self), .init(UInt64.self), .init(Double.self), .init(Float.self),
    .init(Bool.self), .init(String.self), .init(Int?.self), .init(String?.self), .init([Int].self), .init([Int?].self),
    .init([UInt8].self), .init([Double].self), .init([String].self), .init([String: Int].self, isOrdered: false),
    .init([Int: Int].self, isOrdered: false),
    .init([String: Int?].self, isOrdered: false), .init(Simple.self), .init(Simple?.self), .init([Simple].self),
    .init(Outer.self),
    .init(Event.self), .init(Colour.self), .init(Position.self), .init(Expression.self), .init(Optionals.self),
    .init(Date.self), .init(UUID.self), .init(Set<Int>.self, isOrdered: false), .init([[Int]].self),
  ]

  static let trees: [Tree] = [
    .null, .bool(true), .int(0), .int(1), .int(-1), .int(300), .int(.max), .int(.min), .double(1.5), .double(-0.25),
    .double(1e300), .double(1e18), .string(""), .string("red"), .string("7"), .array([]), .array([.int(1), .int(2)]),
    .array([.int(1), .null]), .array([.int(300)]), .array([.double(0.5), .int(1)]), .array([.string("a"), .int(1)]),
    .array([.array([.int(1)]), .array([.bool(false)])]), .object([:]), .object(["a": .int(1)]),
    .object(["a": .int(1), "b": .null]), .object(["1": .int(2)]), .object(["number": .int(1)]),
    .object(["number": .int(1), "text": .null]),
    .object(["number": .int(1), "text": .string("t"), "more": .array([])]),
    .object(["number": .string("1")]), .object(["number": .null]), .object(["number": .double(1.5)]),
    .object(["text": .string("t")]), .object(["x": .int(1), "y": .double(2)]), .object(["x": .int(1)]),
    .array([.object(["number": .int(1)]), .object(["number": .bool(true)])]),
    .object(["simple": .object(["number": .int(1)]), "list": .array([])]),
    .object(["simple": .object(["number": .int(1)]), "list": .array([.object(["number": .int(1)]), .object([:])])]),
    .object(["simple": .object(["text": .string("t")]), "list": .array([])]),
    .object([
      "simple": .object(["number": .int(1)]), "list": .array([]),
      "byName": .object(["n": .object(["number": .string("")])]),
    ]),
    .object(["cleared": .object([:])]), .object(["removed": .object(["_0": .int(3)])]),
    .object(["moved": .object([:])]),
    .object(["cleared": .object([:]), "removed": .object([:])]), .object(["unknown": .object([:])]),
    .object(["moved": .object(["id": .int(1), "to": .object(["x": .int(1), "y": .null])])]),
    .object(["sum": .object(["_0": .object(["number": .object(["_0": .int(1)])]), "_1": .null])]),
    .object(["list": .array([.null, .int(1)])]), .object(["list": .array([.string("")]), "number": .null]),
  ]

  @Test("Decoding ends with the same value, or the same error at the same place, as with JSON", arguments: targets)
  func sameOutcome(_ target: Target) throws {
    for tree in Self.trees {
      var (binary, json) = try target.outcomes(tree)
      if !target.isOrdered { (binary, json) = (isValue(binary), isValue(json)) }
      // JSON does not say where a number is that does not fit; and it has a type mismatch for a Boolean that is null, but
      // a missing value for all other types.
      if json.hasPrefix("dataCorrupted") { (binary, json) = (kind(binary), kind(json)) }
      if target.testDescription == "Bool" && tree == .null { json = "valueNotFound at " }
      #expect(binary == json, "from \(tree)")
    }
  }

  private func isValue(_ outcome: String) -> String { outcome.hasPrefix("value ") ? "value" : "error" }

  private func kind(_ outcome: String) -> String { String(outcome.prefix { $0 != " " }) }

  @Test("Values without a representation in JSON are kept")
  func beyondJSON() throws {
    #expect(throws: EncodingError.self) { try JSONEncoder().encode(Double.nan) }
    #expect(try copy(Double.nan).isNaN)
  }

  @Test("A double that is too large for a float is refused, infinity is not")
  func floatRange() throws {
    #expect(corruption { try decode(Float.self, try coder.encode(1e300)) } != nil)
    #expect(try decode(Float.self, try coder.encode(Double.infinity)) == .infinity)
    #expect(try decode(Float.self, try coder.encode(0.1)) == 0.1)
    #expect(corruption { try decode(Float.self, try coder.encode(UInt128.max)) } != nil)
    #expect(try decode(Double.self, try coder.encode(UInt64.max)) == 0x1p64)
    #expect(corruption { try decode(Int.self, try coder.encode(Double.nan)) } != nil)
  }

  @Test("What encodes nothing is refused as a message, and an empty container as a part, as with JSON")
  func nothingEncoded() throws {
    struct Nothing: Encodable { func encode(to encoder: any Encoder) {} }
    #expect(throws: EncodingError.self) { try coder.encode(Nothing()) }
    #expect(throws: EncodingError.self) { try JSONEncoder().encode(Nothing()) }
    #expect(try decode(Tree.self, try coder.encode([Nothing()])) == .array([.object([:])]))
    #expect(try JSONDecoder().decode(Tree.self, from: JSONEncoder().encode([Nothing()])) == .array([.object([:])]))
  }
}

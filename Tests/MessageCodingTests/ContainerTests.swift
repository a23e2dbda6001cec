import Foundation
import MessageCoding
import Testing

/// A value that encodes itself in an unusual way, which JSON does as well.
struct Encoding: Encodable, Sendable, CustomTestStringConvertible {
  let testDescription: String
  let body: @Sendable (any Encoder) throws -> Void

  init(_ description: String, _ body: @escaping @Sendable (any Encoder) throws -> Void) {
    (testDescription, self.body) = (description, body)
  }

  func encode(to encoder: any Encoder) throws { try body(encoder) }
}

private typealias Key = Tree.Key
private let (a, b, c, d) = (Key("a"), Key("b"), Key("c"), Key("d"))

extension Tree.Key {
  init(_ text: String) { self.init(stringValue: text) }
}

@Suite("Containers")
struct ContainerTests {
  static let encodings: [Encoding] = [
    .init("two keyed containers of one value share it") {
      var first = $0.container(keyedBy: Key.self)
      try first.encode(1, forKey: a)
      var second = $0.container(keyedBy: Key.self)
      try second.encode("x", forKey: b)
      try first.encode(2, forKey: c)
    },
    .init("nested containers in order") {
      var outer = $0.container(keyedBy: Key.self)
      var inner = outer.nestedContainer(keyedBy: Key.self, forKey: a)
      try inner.encode(1, forKey: b)
      var list = outer.nestedUnkeyedContainer(forKey: c)
      try list.encode(2)
      var listed = list.nestedContainer(keyedBy: Key.self)
      try listed.encodeNil(forKey: a)
      var innermost = list.nestedUnkeyedContainer()
      try innermost.encode("x")
      try list.encode(3)
      try outer.encode(true, forKey: d)
    },
    .init("nested containers left empty") {
      var outer = $0.container(keyedBy: Key.self)
      _ = outer.nestedContainer(keyedBy: Key.self, forKey: a)
      _ = outer.nestedUnkeyedContainer(forKey: b)
    },
    .init("two nested containers in turns") {
      var outer = $0.container(keyedBy: Key.self)
      var first = outer.nestedContainer(keyedBy: Key.self, forKey: a)
      var second = outer.nestedUnkeyedContainer(forKey: b)
      for number in 0..<300 {
        try first.encode("\(number)", forKey: Key("\(number)"))
        try second.encode(number)
        if number % 50 == 0 { try outer.encode(number, forKey: Key("outer \(number)")) }
      }
    },
    .init("parts of closed containers, several levels deep") {
      var outer = $0.unkeyedContainer()
      var first = outer.nestedContainer(keyedBy: Key.self)
      var second = outer.nestedContainer(keyedBy: Key.self)
      try second.encode(Item.example, forKey: a)
      var deep = first.nestedUnkeyedContainer(forKey: a)
      try second.encode(2, forKey: b)
      try deep.encode(Item.example)
      var deeper = deep.nestedContainer(keyedBy: Key.self)
      try outer.encode(4)
      try deeper.encode([1: 2], forKey: c)
      try deep.encode("late")
      try first.encode([1.5], forKey: d)
      try second.encode("last", forKey: c)
    },
    .init("super encoders used at once") {
      var outer = $0.container(keyedBy: Key.self)
      try outer.encode(1, forKey: a)
      try Item.example.encode(to: outer.superEncoder())
      try [1, 2].encode(to: outer.superEncoder(forKey: b))
      try "x".encode(to: outer.superEncoder(forKey: c))
      try outer.encode(2, forKey: d)
    },
    .init("super encoders used late, in another order, or never") {
      var outer = $0.unkeyedContainer()
      let (first, second) = (outer.superEncoder(), outer.superEncoder())
      _ = outer.superEncoder()
      let fourth = outer.superEncoder()
      try outer.encode("after")
      try [Item.example].encode(to: fourth)
      try "second".encode(to: second)
      try Item.example.encode(to: first)
    },
    .init("a super encoder that becomes a single value of another type") {
      var outer = $0.container(keyedBy: Key.self)
      let inner = outer.superEncoder()
      try outer.encode("x", forKey: a)
      var container = inner.singleValueContainer()
      try container.encode(Item.example)
    },
    .init("super encoders in super encoders, used from the outside in and late") {
      var outer = $0.container(keyedBy: Key.self)
      let first = outer.superEncoder(forKey: a)
      let second = outer.superEncoder(forKey: b)
      var inFirst = first.container(keyedBy: Key.self)
      var inSecond = second.unkeyedContainer()
      let third = inFirst.superEncoder()
      let fourth = inSecond.superEncoder()
      try inFirst.encode(1, forKey: c)
      try inSecond.encode(2)
      try [String: Int]().encode(to: third)
      var inFourth = fourth.unkeyedContainer()
      try inFourth.encode(Item.example)
      try inFirst.encode(3, forKey: d)
      try inFourth.encode(4)
    },
    .init("a part that fails and is replaced") {
      struct Failure: Error {}
      var outer = $0.container(keyedBy: Key.self)
      try? outer.encode(
        Encoding("fails") {
          var container = $0.container(keyedBy: Key.self)
          try container.encode([Item.example], forKey: Key("only in what fails"))
          _ = container.nestedContainer(keyedBy: Key.self, forKey: Key("this as well"))
          throw Failure()
        }, forKey: a)
      try outer.encode("instead", forKey: a)
    },
    .init("single values inside of single values") {
      var container = $0.singleValueContainer()
      try container.encode(
        Encoding("inner") {
          var container = $0.singleValueContainer()
          try container.encode([Int?.none, 3])
        })
    },
  ]

  @Test("Values that use encoders in unusual ways are encoded as by JSON", arguments: encodings)
  func sameAsJSON(_ encoding: Encoding) throws {
    let expected = try JSONDecoder().decode(Tree.self, from: JSONEncoder().encode(encoding))
    #expect(try decode(Tree.self, try coder.encode(encoding)) == expected)
    // As a part, with something before and behind it.
    let wrapped = try coder.encode([Encoding("first") { try "x".encode(to: $0) }, encoding, encoding])
    #expect(try decode(Tree.self, wrapped) == .array([.string("x"), expected, expected]))
  }

  /// JSON is no model for this one: Foundation's encoder traps.
  @Test("Nothing is left of a part that fails, in a container that is not the last one either")
  func failureOutOfOrder() throws {
    struct Failure: Error {}
    let value = Encoding("fails late") {
      var outer = $0.container(keyedBy: Key.self)
      var list = outer.nestedUnkeyedContainer(forKey: a)
      try outer.encode(1, forKey: b)
      for position in 0..<2 {
        try list.encode(position)
        try? list.encode(
          Encoding("fails") {
            var container = $0.unkeyedContainer()
            try container.encode(Item.example)
            _ = container.superEncoder()
            throw Failure()
          })
      }
    }
    let expected = Tree.object(["a": .array([.int(0), .int(1)]), "b": .int(1)])
    #expect(try decode(Tree.self, try coder.encode(value)) == expected)
    #expect(try decode([Tree].self, try coder.encode([value, value])) == [expected, expected])
  }

  class Base: Codable {
    var name = ""

    init() {}
  }

  final class Derived: Base {
    var number = 0

    enum Key: CodingKey { case number }

    override init() { super.init() }

    required init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: Key.self)
      number = try container.decode(Int.self, forKey: .number)
      try super.init(from: container.superDecoder())
    }

    override func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: Key.self)
      try container.encode(number, forKey: .number)
      try super.encode(to: container.superEncoder())
    }
  }

  @Test("A class and its superclass are kept, in containers of their own")
  func inheritance() throws {
    let value = Derived()
    (value.name, value.number) = ("n", 3)
    let result = try copy(value)
    #expect(result.name == "n" && result.number == 3)
  }

  @Test("The super decoder of a missing key decodes nil")
  func missingSuper() throws {
    struct Parent: Decodable {
      let outcome: String

      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Tree.Key.self)
        outcome = MessageCodingTests.outcome { try Int(from: container.superDecoder()) }
        #expect(try Int?(from: container.superDecoder(forKey: Tree.Key("k"))) == nil)
      }
    }
    #expect(try decode(Parent.self, try coder.encode(["a": 1])).outcome == "valueNotFound at super")
  }

  @Test("Integer keys are kept, as keys of containers and of dictionaries")
  func integerKeys() throws {
    struct Numbered: Codable, Equatable {
      var first: Int
      var second: String

      enum CodingKeys: Int, CodingKey { case first = 1, second = 7 }
    }
    #expect(try copy(Numbered(first: 1, second: "2")) == Numbered(first: 1, second: "2"))
    #expect(try copy([-3: "a", .max: "b"]) == [-3: "a", .max: "b"])
  }

  @Test("Keys are found in every order, also when others are missing or additional")
  func keyOrder() throws {
    struct Reader: Decodable {
      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Tree.Key.self)
        var random = SeededRandom(state: 1)
        for number in Array(0..<40).shuffled(using: &random) {
          let key = Tree.Key("key \(number)")
          #expect(container.contains(key) == (number < 20))
          #expect(try container.decodeIfPresent(Int.self, forKey: key) == (number < 20 ? number : nil))
        }
        #expect(Set(container.allKeys.map(\.stringValue)) == Set((0..<20).map { "key \($0)" }))
      }
    }
    let entries = Dictionary(uniqueKeysWithValues: (0..<20).map { ("key \($0)", $0) })
    _ = try decode(Reader.self, try coder.encode(entries))
  }

  @Test("Coding paths lead to the value, when encoding and when decoding")
  func paths() throws {
    struct Probe: Codable {
      init() {}

      init(from decoder: any Decoder) throws {
        #expect(decoder.codingPath.map(\.stringValue) == ["list", "Index 1", "k"])
        #expect(decoder.codingPath[1].intValue == 1)
        throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "reached"))
      }

      func encode(to encoder: any Encoder) throws {
        #expect(encoder.codingPath.map(\.stringValue) == ["list", "Index 1", "k"])
        var container = encoder.container(keyedBy: Tree.Key.self)
        #expect(container.codingPath.count == 3)
        let nested = container.nestedUnkeyedContainer(forKey: Tree.Key("n"))
        #expect(nested.codingPath.map(\.stringValue) == ["list", "Index 1", "k", "n"])
        #expect(container.superEncoder().codingPath.last?.stringValue == "super")
      }
    }
    let bytes = try coder.encode(["list": [["j": Probe?.none], ["k": Probe()]]])
    #expect(corruption { try decode([String: [[String: Probe?]]].self, bytes) } == "reached")
    struct Wrong: Decodable { var x: [String: [Bool]] }
    let wrong = try coder.encode(["x": ["y": [Tree.bool(true), .int(1)]]])
    #expect(outcome { try decode(Wrong.self, wrong) } == "typeMismatch at x/y/Index 1")
  }

  @Test("A container that is decoded in part leaves the others where they are")
  func partialDecoding() throws {
    struct Reader: Decodable {
      init(from decoder: any Decoder) throws {
        var container = try decoder.unkeyedContainer()
        #expect(container.count == 4 && container.currentIndex == 0)
        var peek = container
        #expect(try peek.decode(Int.self) == 1)
        #expect(throws: DecodingError.self) { try container.decode(String.self) }
        #expect(try container.decode(Int.self) == 1)
        var nested = try container.nestedUnkeyedContainer()
        #expect(try nested.decode(Int.self) == 2)
        #expect(try !container.decodeNil())
        let keyed = try container.nestedContainer(keyedBy: Tree.Key.self)
        #expect(try keyed.decodeNil(forKey: Tree.Key("k")))
        #expect(try container.decodeNil())
        #expect(container.isAtEnd && container.currentIndex == 4)
        #expect(outcome { try container.decode(Int.self) } == "valueNotFound at Index 4")
        #expect(try nested.decode(Int.self) == 3)
      }
    }
    _ = try decode(
      Reader.self, try coder.encode(Tree.array([.int(1), .array([.int(2), .int(3)]), .object(["k": .null]), .null])))
  }
}

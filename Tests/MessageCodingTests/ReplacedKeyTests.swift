import Foundation
import MessageCoding
import Testing

/// A class whose subclass encodes a key again, and what else asks for a second container.
@Suite("Keys that are encoded again")
struct ReplacedKeyTests {
  class Animal: Codable {
    enum CodingKeys: CodingKey { case name, legs, tags }
    var name = "animal", legs = 4, tags = ["a": [1, 2]]

    init() {}
    required init(from decoder: any Decoder) throws {
      let container = try decoder.container(keyedBy: CodingKeys.self)
      (name, legs) = (try container.decode(String.self, forKey: .name), try container.decode(Int.self, forKey: .legs))
      tags = try container.decode([String: [Int]].self, forKey: .tags)
    }
    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(name, forKey: .name)
      try container.encode(legs, forKey: .legs)
      try container.encode(tags, forKey: .tags)
    }
  }

  final class Bird: Animal {
    enum More: CodingKey { case wings, legs, tags }
    override func encode(to encoder: any Encoder) throws {
      try super.encode(to: encoder)
      var container = encoder.container(keyedBy: More.self)
      try container.encode(2, forKey: .wings)
      try container.encode(["b": [3, 4, 5]], forKey: .tags)
      try container.encode(2, forKey: .legs)
    }
  }

  struct Seen: Codable, Equatable {
    var name: String, legs: Int, tags: [String: [Int]], wings: Int
    static let bird = Seen(name: "animal", legs: 2, tags: ["b": [3, 4, 5]], wings: 2)
  }

  @Test("The last value of a key counts, as with Foundation's coders")
  func lastOneCounts() throws {
    #expect(try JSONDecoder().decode(Seen.self, from: try JSONEncoder().encode(Bird())) == .bird)
    let bytes = try coder.encode(Bird())
    #expect(try decode(Seen.self, bytes) == .bird)
    #expect(try decode(Bird.self, bytes).legs == 2)
    // Nothing is left of the first ones: it is the message of a value that has each key once.
    #expect(bytes.count == (try coder.encode(Seen.bird)).count)
    let sorting = BinaryMessageCoder(sortsKeys: true)
    #expect(try sorting.encode(Bird()) == sorting.encode(Seen.bird))
  }

  @Test("What is around such a value, before and behind it, stays as it is")
  func surroundings() throws {
    struct Cage<Bird: Encodable>: Encodable { var number = 7, birds: [Bird], byName: [String: Bird], last = "x" }
    struct SeenCage: Decodable { var number: Int, birds: [Seen], byName: [String: Seen], last: String }
    let seen = try decode(
      SeenCage.self, try coder.encode(Cage(birds: [Bird(), Bird()], byName: ["a": Bird()])))
    #expect((seen.number, seen.last) == (7, "x"))
    #expect(seen.birds == [.bird, .bird])
    #expect(seen.byName == ["a": .bird])
  }

  @Test("Containers inside of what is replaced, and of what stays, are written to their places")
  func nestedContainers() throws {
    struct Value: Encodable {
      func encode(to encoder: any Encoder) throws {
        typealias Key = Tree.Key
        var first = encoder.container(keyedBy: Key.self)
        var replaced = first.nestedContainer(keyedBy: Key.self, forKey: Key("a"))
        try replaced.encode("gone", forKey: Key("x"))
        var kept = first.nestedUnkeyedContainer(forKey: Key("b"))
        try kept.encode(1)
        let unused = first.superEncoder(forKey: Key("c"))
        var second = encoder.container(keyedBy: Key.self)
        try second.encode("new", forKey: Key("a"))
        // Back to containers that are closed by now, inside of the entry that is replaced and of others.
        try replaced.encode("gone as well", forKey: Key("y"))
        try kept.encode(2)
        var late = unused.container(keyedBy: Key.self)
        try late.encode(3, forKey: Key("z"))
        var again = unused.container(keyedBy: Key.self)
        try again.encode(4, forKey: Key("z"))
        try again.encode(5, forKey: Key("last"))
        try second.encode(6, forKey: Key("d"))
      }
    }
    struct Seen: Decodable, Equatable { var a: String, b: [Int], c: [String: Int], d: Int }
    let expected = Seen(a: "new", b: [1, 2], c: ["z": 4, "last": 5], d: 6)
    #expect(try decode(Seen.self, try coder.encode(Value())) == expected)
    #expect(try decode([Seen].self, try coder.encode([Value(), Value()])) == [expected, expected])
  }

  @Test("Asking twice for a container, without a key in both, changes nothing", arguments: [1, 3, 30])
  func differentKeys(count: Int) throws {
    struct Value: Encodable {
      let count: Int
      func encode(to encoder: any Encoder) throws {
        for index in 0..<count {
          var container = encoder.container(keyedBy: Tree.Key.self)
          try container.encode(index, forKey: Tree.Key("key \(index)"))
        }
      }
    }
    let expected = Dictionary(uniqueKeysWithValues: (0..<count).map { ("key \($0)", $0) })
    #expect(try decode([String: Int].self, try coder.encode(Value(count: count))) == expected)
  }

  @Test("Many keys that are encoded again take time in proportion to their number")
  func manyKeys() throws {
    struct Value: Encodable {
      let count: Int
      func encode(to encoder: any Encoder) throws {
        for round in 0..<3 {
          var container = encoder.container(keyedBy: Tree.Key.self)
          for index in 0..<count { try container.encode(round, forKey: Tree.Key("\(index)")) }
        }
      }
    }
    let decoded = try decode([String: Int].self, try coder.encode(Value(count: 20_000)))
    #expect(decoded.count == 20_000 && decoded.values.allSatisfy { $0 == 2 })
  }
}

import Foundation
import MessageCoding
import Synchronization
import Testing

@Suite("Limits")
struct LimitTests {
  @Test(
    "The depth is that of containers: the limit itself is accepted, one more is refused", arguments: [0, 1, 2, 9, 512])
  func depth(limit: Int) throws {
    let limited = BinaryMessageCoder(maximumNestingDepth: limit)
    let generous = BinaryMessageCoder(maximumNestingDepth: 10_000)
    if limit > 0 {
      #expect(try copy(Link(length: limit), limited).length == limit)
    } else {
      #expect(try copy(5, limited) == 5)
    }
    let tooDeep = Link(length: limit + 1)
    let error = #expect(throws: EncodingError.self) { try limited.encode(tooDeep) }
    #expect("\(try #require(error))".contains("more than \(limit) containers deep"))
    let bytes = try generous.encode(tooDeep)
    #expect(try decode(Link.self, bytes, generous).length == limit + 1)
    #expect(
      corruption { try decode(Link.self, bytes, limited) }
        == "The message is nested more than \(limit) containers deep.")
  }

  @Test("Arrays of numbers count as containers, too")
  func depthOfArrays() throws {
    let limited = BinaryMessageCoder(maximumNestingDepth: 1)
    #expect(try copy([1], limited) == [1])
    #expect(throws: EncodingError.self) { try limited.encode([[1]]) }
    #expect(corruption { try decode([[Int]].self, try coder.encode([[1]]), limited) } != nil)
    let none = BinaryMessageCoder(maximumNestingDepth: 0)
    #expect(throws: EncodingError.self) { try none.encode([1]) }
    #expect(corruption { try decode([Int].self, try coder.encode([1]), none) } != nil)
    #expect(corruption { try decode([String: Int].self, try coder.encode(["a": 1]), none) } != nil)
  }

  @Test("Nested containers and super encoders count, although nothing else is called for them")
  func depthOfNestedContainers() throws {
    struct Nested: Encodable {
      let depth: Int
      var usesSuper = false

      func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: Tree.Key.self)
        for _ in 1..<depth {
          container =
            usesSuper
            ? container.superEncoder().container(keyedBy: Tree.Key.self)
            : container.nestedContainer(keyedBy: Tree.Key.self, forKey: Tree.Key("k"))
        }
      }
    }
    let limit = BinaryMessageCoder.defaultMaximumNestingDepth
    for usesSuper in [false, true] {
      #expect(try coder.encode(Nested(depth: limit, usesSuper: usesSuper)).count > limit)
      #expect(throws: EncodingError.self) { try coder.encode(Nested(depth: limit + 1, usesSuper: usesSuper)) }
      #expect(throws: EncodingError.self) { try coder.encode(Nested(depth: 100_000, usesSuper: usesSuper)) }
    }
  }

  @Test("An object that contains itself is refused")
  func cycle() throws {
    let link = Link(length: 2)
    link.next?.next = link
    defer { link.next = nil }
    #expect(throws: EncodingError.self) { try coder.encode(link) }
  }

  @Test("At the default depth, recursive types fit into a stack of 512 KiB, optimized or not")
  func stackUse() async throws {
    let depth = BinaryMessageCoder.defaultMaximumNestingDepth
    @Sendable func nest(_ depth: Int) -> Expression {
      (1..<depth / 2).reduce(.number(0)) { sum, _ in .sum(sum, .number(1)) }
    }
    @Sendable func tree(_ depth: Int) -> Tree { (1..<depth).reduce(.array([])) { tree, _ in .array([tree]) } }
    @Sendable func folder(_ depth: Int) -> Folder {
      (1..<depth / 2).reduce(Folder()) { folder, _ in Folder(size: 1, inner: ["name": folder]) }
    }
    let outcomes = Mutex<[String]>([])
    await withCheckedContinuation { continuation in
      let thread = Thread {
        let results = [
          outcome { try copy(Link(length: depth)).length },
          outcome { try copy(nest(depth)) == nest(depth) },
          outcome { try copy(tree(depth)) == tree(depth) },
          outcome { try copy(folder(depth)) == folder(depth) },
          outcome { try decode(Link.self, message(Self.keyedBomb(depth: 100_000))) },
          outcome { try decode(Tree.self, message(Self.unkeyedBomb(depth: 100_000))) },
        ]
        outcomes.withLock { $0 = results.map { $0.hasPrefix("value") ? $0 : "refused" } }
        continuation.resume()
      }
      thread.stackSize = 512 << 10
      thread.start()
    }
    #expect(
      outcomes.withLock { $0 }
        == ["value \(depth)", "value true", "value true", "value true", "refused", "refused"])
  }

  /// A dictionary of its own type, and an optional one: what derived code needs most of the stack for.
  struct Folder: Codable, Equatable {
    var size: Int?
    var inner: [String: Folder?]?
  }

  @Test(
    "The size is that of the message: the limit itself is accepted, one less is refused",
    arguments: [1, 2, 10, 100, 5000])
  func size(length: Int) throws {
    let values: [any (Codable & Sendable)] = [
      String(repeating: "x", count: length), [String](repeating: "ab", count: length),
      [Int](repeating: 1, count: length),
      ["key": [UInt8](repeating: 1, count: length)], Array(repeating: Item.example, count: length), Data(count: length),
      Array(repeating: Int?.some(1000), count: length), [String(repeating: "k", count: min(length, 1024)): 1],
    ]
    func check<T: Codable>(_ value: T) throws {
      let bytes = try coder.encode(value)
      let exact = BinaryMessageCoder(maximumMessageBytes: bytes.count)
      #expect(try exact.encode(value) == bytes)
      _ = try decode(T.self, bytes, exact)
      for limit in Set([bytes.count - 1, bytes.count / 2, 1]) {
        let tooSmall = BinaryMessageCoder(maximumMessageBytes: limit)
        let error = #expect(throws: EncodingError.self) { try tooSmall.encode(value) }
        #expect("\(try #require(error))".contains("longer than \(limit) bytes"))
        #expect(corruption { try decode(T.self, bytes, tooSmall) }?.contains("the limit is \(limit)") == true)
      }
    }
    for value in values { try check(value) }
  }

  static func keyedBomb(depth: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    // From the outside in: each container has one entry, "next", and the rest of the message in it.
    for level in 0..<depth {
      bytes += [0xC4] + littleEndian(UInt32((depth - level - 1) * 10))
      if level < depth - 1 { bytes += [4] + Array("next".utf8) }
    }
    return bytes
  }

  static func unkeyedBomb(depth: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    for level in 0..<depth {
      let inner = (depth - level - 1) * 9
      bytes += [0xC5] + littleEndian(UInt32(inner + 4)) + littleEndian(level == depth - 1 ? 0 : 1)
    }
    return bytes
  }

  @Test("The messages of these tests that are too deep are otherwise valid")
  func bombsAreValid() throws {
    let depth = BinaryMessageCoder.defaultMaximumNestingDepth
    #expect(try decode(Link.self, message(Self.keyedBomb(depth: depth))).length == depth)
    let expected = (1..<depth).reduce(Tree.array([])) { tree, _ in .array([tree]) }
    #expect(try decode(Tree.self, message(Self.unkeyedBomb(depth: depth))) == expected)
  }
}

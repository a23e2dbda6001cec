import MessageCoding
import Testing

@Suite("Whole messages")
struct WholeMessageTests {
  private struct First: Decodable { var a: Int }
  private struct Nothing: Decodable { init(from decoder: any Decoder) {} }

  @Test("A malformed part that nobody reads is refused, before and behind what is read")
  func malformedParts() throws {
    let bad: [[UInt8]] = [
      [0xFE], [0xFF], [0xE5, 1, 0, 0, 0, 1], unkeyed([[1]], count: 2), unkeyed([[1]], count: 0), [0xC3, 9, 0, 0, 0],
    ]
    for part in bad {
      for entries in [[("a", [1]), ("x", part)], [("x", part), ("a", [1])]] {
        #expect(corruption { try decode(First.self, message(keyed(entries))) } != nil)
        #expect(corruption { try decode(Nothing.self, message(keyed(entries))) } != nil)
      }
    }
  }

  @Test("A reserved form is skipped, and is not decoded")
  func reservedForms() throws {
    for tag in Array(0xC6...0xCF) + Array(0xDC...0xDF) + Array(0xEC...0xFD) as [UInt8] {
      let form = [tag] + littleEndian(3) + [1, 2, 3]
      #expect(try decode(First.self, message(keyed([("x", form), ("a", [1])]))).a == 1)
      #expect(try decode(First.self, message(keyed([("a", [1]), ("x", form)]))).a == 1)
      #expect(corruption { try decode(First.self, message(keyed([("a", form)]))) } != nil)
    }
  }

  @Test("Keys are equal if their bytes are, also in an index")
  func canonicalKeys() throws {
    let (composed, decomposed) = ("\u{E9}", "e\u{301}")
    var entries = (0..<2000).map { ("\($0)", [UInt8(1)]) }
    entries += [(composed, [2]), (decomposed, [3])]
    struct Reader: Decodable {
      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Tree.Key.self)
        for _ in 0..<100 {
          #expect(try container.decode(Int.self, forKey: Tree.Key("e\u{301}")) == 3)
          #expect(try container.decode(Int.self, forKey: Tree.Key("\u{E9}")) == 2)
        }
        #expect(container.allKeys.count == 2002)
      }
    }
    _ = try decode(Reader.self, message(keyed(entries)))
  }

  @Test("A key beyond the limit is refused, when encoding and when decoding")
  func longKeys() throws {
    let limited = BinaryMessageCoder(maximumKeyBytes: 3)
    #expect(try copy(["abc": 1], limited) == ["abc": 1])
    #expect(throws: EncodingError.self) { try limited.encode(["abcd": 1]) }
    for limit in [0, 1, 3, 252, 253, 254, 255, 1000] {
      let limited = BinaryMessageCoder(maximumKeyBytes: limit)
      let (key, tooLong) = (String(repeating: "k", count: limit), String(repeating: "k", count: limit + 1))
      #expect(try copy([[key: [key: [1]]]], limited) == [[key: [key: [1]]]])
      for value in [
        [[tooLong: [key: [1]]]], [[key: [tooLong: [1]]]], [[:], [key: [:]], [key: [key: [], tooLong: [2]]]],
      ] {
        let error = #expect(throws: EncodingError.self) { try limited.encode(value) }
        #expect("\(try #require(error))".contains("longer than \(limit) bytes"))
      }
    }
    struct Reader: Decodable { var abcd: Int }
    #expect(corruption { try decode(Reader.self, try coder.encode(["abcd": 1]), limited) } != nil)
  }

  @Test("Sorted, equal dictionaries are the same bytes")
  func sorted() throws {
    let sorting = BinaryMessageCoder(sortsKeys: true)
    let keys = (0..<50).map { "\($0)" }
    var (one, other) = ([String: [String: Int]](minimumCapacity: 500), [String: [String: Int]]())
    for key in keys { one[key] = ["x": 1, "y": 2] }
    for key in keys.reversed() { other[key] = ["y": 2, "x": 1] }
    #expect(try sorting.encode(one) == sorting.encode(other))
    #expect(try copy(one, sorting) == one)
  }

  @Test("What encodes nothing counts as the container that it becomes")
  func emptyAtLimit() throws {
    struct Nothing: Encodable { func encode(to encoder: any Encoder) {} }
    let limited = BinaryMessageCoder(maximumNestingDepth: 1)
    #expect(throws: EncodingError.self) { try limited.encode([Nothing()]) }
  }
}

import Foundation
import MessageCoding
import MessagePortsFoundation
import Testing

/// Values that write and read themselves, beside what `Codable` makes of them.
@Suite("Direct values")
struct DirectTests {
  private func direct<T: MessageValue>(
    _ type: T.Type, _ bytes: [UInt8], _ coder: BinaryMessageCoder = coder
  ) throws -> T {
    try unsafe coder.decode(type, from: bytes.span.bytes)
  }

  /// `coder.encode` of the `Codable` conformance: the compiler prefers the other one where it knows of it.
  private func encodeCodable<T: Encodable>(_ value: T, _ coder: BinaryMessageCoder = coder) throws -> [UInt8] {
    try coder.encode(value)
  }

  /// Each way reads what each way writes, and both write the same, if `T` has an order.
  private func check<T: MessageValue & Equatable>(_ value: T, isOrdered: Bool = true) throws {
    let (own, other) = (try coder.encode(value), try encodeCodable(value))
    #expect(own.count == other.count)
    if isOrdered { #expect(own == other) }
    for bytes in [own, other] {
      #expect(try direct(T.self, bytes) == value)
      #expect(try decode(T.self, bytes) == value)
    }
  }

  @Test("Where a dictionary's key or value is nil, and may not be, it is refused as with Codable")
  func nilInDictionary() throws {
    func bytes<T: Encodable>(_ value: T) throws -> [UInt8] { try encodeCodable(value) }
    let malformed = try [
      bytes(["a": nil] as [String: Int?]), bytes([1: nil] as [Int: Int?]), bytes([1.5, nil] as [Double?]),
      bytes([nil, 1.5] as [Double?]), bytes([nil, nil] as [Double?]),
    ]
    for bytes in malformed {
      #expect(throws: DecodingError.self) { _ = try direct([String: Int].self, bytes) }
      #expect(throws: DecodingError.self) { _ = try direct([Int: Int].self, bytes) }
      #expect(throws: DecodingError.self) { _ = try direct([Double: Double].self, bytes) }
      #expect(throws: DecodingError.self) { _ = try decode([Double: Double].self, bytes) }
    }
    #expect(try direct([Double: Double?].self, bytes([1.5, nil] as [Double?])) == [1.5: nil])
  }

  @Test("Strings that have room in themselves are read and refused as longer ones are, whatever is behind them")
  func shortStrings() throws {
    for length in 1...17 {
      let plain = String(repeating: "a", count: length)
      for behind in [[], ["b"], [String(repeating: "ą", count: 20)]] {
        try check([plain] + behind)
        let bytes = try coder.encode([plain] + behind)
        let start = try #require(bytes.firstIndex(of: UInt8(ascii: "a")))
        for place in start..<start + length {
          var (other, malformed) = (bytes, bytes)
          other[place] = 0
          let expected = plain.utf8.enumerated().map { $0.offset == place - start ? 0 : $0.element }
          #expect(try direct([String].self, other).first.map { Array($0.utf8) } == expected)
          malformed[place] = 0xFF
          #expect(throws: DecodingError.self) { _ = try direct([String].self, malformed) }
          #expect(throws: DecodingError.self) { _ = try decode([String].self, malformed) }
        }
      }
    }
  }

  @Test("The bytes of a direct value are those of its Codable conformance, and each way reads both")
  func bothWays() throws {
    try check(true)
    try check(false)
    for number in [0, 1, -1, 127, 128, -128, -129, 32_768, -32_769, 1 << 31, 1 << 40, .max, .min] as [Int] {
      try check(number)
      try check(Int128(number))
      try check(Optional(number))
    }
    try check(Int8.min)
    try check(Int16.min)
    try check(Int32.min)
    try check(Int64.min)
    try check(Int128.min)
    try check(UInt8.max)
    try check(UInt16.max)
    try check(UInt32.max)
    try check(UInt64.max)
    try check(UInt.max)
    try check(UInt128.max)
    try check(1.5)
    try check(-Float.infinity)
    for length in [0, 1, 15, 16, 63, 64, 255, 3000] { try check(String(repeating: "ą", count: length)) }
    try check(Int?.none)
    try check([String]())
    try check(["a", "", "b"])
    try check([[1, 2], [], [3]] as [[UInt16]])
    try check([UInt8](0...255))
    try check([1.5, 2])
    try check([1.5, 2] as [Float])
    try check([1, 2, -3] as [Int8])
    try check([1, 2, -3] as [Int16])
    try check([1, 2, -3] as [Int32])
    try check([1, 2, -3] as [Int64])
    try check([1, 2, 3] as [UInt])
    try check([1, 2, 3] as [UInt32])
    try check([1, 2, 3] as [UInt64])
    try check([1, 2, -3])
    try check([1, -2] as [Int128])
    try check([true, false])
    try check([1, nil] as [Int?])
    try check(Set(["x", "y", "z"]), isOrdered: false)
    try check(["one": 1, "two": 2], isOrdered: false)
    try check([1: "one", -2: "two"], isOrdered: false)
    try check([Suit.hearts: 1, .spades: 2], isOrdered: false)
    try check([Grade.low: 1, .high: 2], isOrdered: false)
    try check([1.5: [UInt8(1)]] as [Double: [UInt8]], isOrdered: false)
    try check([UInt8(1): "a"] as [UInt8: String], isOrdered: false)
    try check(Grade.high)
    try check(Suit.spades)
    try check(Place(x: 1, y: 2, label: "p"))
    try check(Figure.nothing)
    try check(Figure.circle(radius: 2))
    try check(Figure.polygon([1], name: nil))
    try check(Nest(depth: 9))
    try check([Place(x: 1, y: 2, label: "p"), Place(x: 3, y: 4, label: "")])
    try check(Whole.example, isOrdered: false)
    var whole = Whole.example
    (whole.twice, whole.maybe, whole.note) = (.some(nil), nil, "n")
    let bytes = try coder.encode(whole)
    #expect(bytes.count == (try encodeCodable(whole)).count)
    whole.twice = nil
    #expect(try direct(Whole.self, bytes) == whole)
    #expect(try decode(Whole.self, bytes) == whole)
  }

  @Test("Bytes are read as they are, in whatever form they came")
  func byteStrings() throws {
    struct Blob: MessageValue, Equatable {
      var bytes: [UInt8]
      init(_ bytes: [UInt8]) { self.bytes = bytes }
      init(from decoder: any Decoder) throws { bytes = try [UInt8](from: decoder) }
      func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(bytes)
      }
      func write(to writer: inout ValueWriter) { unsafe writer.write(bytes: bytes.span.bytes) }
      init(from reader: inout ValueReader) throws {
        bytes = try reader.readBytes { span in unsafe span.withUnsafeBytes { unsafe [UInt8]($0) } }
      }
    }
    for count in [0, 1, 300, 1 << 20] { try check(Blob([UInt8](repeating: 7, count: count))) }
    for count in [0, 1, 300, 1 << 20] { try check([Data(repeating: 7, count: count)]) }
    // One by one, and in several runs.
    let one = message(unkeyed([[1], [0xD5, 200], [3]], count: 3))
    #expect(try direct(Blob.self, one) == Blob([1, 200, 3]))
    let runs = message(
      unkeyed([[0xE5] + littleEndian(2) + [1, 2], [3], [0xE1] + littleEndian(1) + [4, 0]], count: 4))
    #expect(try direct(Blob.self, runs) == Blob([1, 2, 3, 4]))
    #expect(try direct([Int].self, runs) == [1, 2, 3, 4])
    #expect(try direct([Double?].self, runs) == [1, 2, 3, 4])
    #expect(try decode([Int].self, runs) == [1, 2, 3, 4])
  }

  private struct Wanted: MessageValue, Equatable {
    var a: Int, b: Int?, c: String
    func write(to writer: inout ValueWriter) {}
    init(from reader: inout ValueReader) throws {
      let parts = try reader.readEntries { entries -> (Int, Int?, String) in
        (try entries.read(forKey: "a"), try entries.read(forKey: "b"), try entries.read(forKey: "c"))
      }
      (a, b, c) = parts
    }
  }

  private func compare<T: MessageValue>(_ type: T.Type, _ bytes: [UInt8], _ coder: BinaryMessageCoder = coder) -> String
  {
    let own = outcome { try direct(type, bytes, coder) }
    #expect(own == outcome { try decode(type, bytes, coder) }, "\(bytes)")
    return own
  }

  @Test("Keys that are missing, additional, in another order or there twice are as with Codable")
  func keys() throws {
    let (a, b, c): ((String, [UInt8]), (String, [UInt8]), (String, [UInt8])) =
      (("a", [1]), ("b", [2]), ("c", [0x81, 0x78]))
    let x: (String, [UInt8]) = ("x", keyed([("y", [1])]))
    let other: (String, [UInt8]) = ("a", [9])
    for entries in [
      [a, b, c], [a, c], [c, b, a], [x, a, b, c], [a, x, c, x], [b, c], [a, b], [], [a, ("b", [0xC0]), c],
      [("a", [0xC0]), c], [a, b, ("c", [1])], [a, other, c], [other, a, b, c], [c, a, other], [a, b, c, ("c", [1])],
      [a, ("b", [0x81, 0x78]), c], [a, ("bb", [2]), ("", [3]), c], [a, c, ("x", [0xFE])], [("x", [0xE5]), a, c],
    ] { _ = compare(Wanted.self, message(keyed(entries))) }
    #expect(compare(Wanted.self, message(keyed([b, c]))) == "keyNotFound a at ")
    #expect(compare([Wanted].self, message(unkeyed([keyed([a, b])], count: 1))) == "keyNotFound c at Index 0")
    #expect(compare(Wanted.self, message(keyed([a, b, ("c", [1])]))) == "typeMismatch at c")
    let twice = message(keyed([("k", [1]), ("k", [0x81, 0x78]), ("l", [2])]))
    #expect(try direct([String: Int].self, twice) == ["k": 1, "l": 2])
    #expect(try decode([String: Int].self, twice) == ["k": 1, "l": 2])
    #expect(compare([Int: Int].self, message(keyed([("k", [1])]))).contains("typeMismatch"))
    #expect(compare([Suit: Int].self, message(keyed([("diamonds", [1])]))).contains("dataCorrupted"))
    #expect(compare([Grade: Int].self, message(unkeyed([[1]], count: 1))).contains("dataCorrupted"))
  }

  @Test("Of the keys that tell cases apart, one is there, among any others")
  func oneKey() throws {
    let nothing: (String, [UInt8]) = ("nothing", keyed([])), other: (String, [UInt8]) = ("other", keyed([("y", [1])]))
    let circle: (String, [UInt8]) = ("circle", keyed([("radius", [2])])), invalid: (String, [UInt8]) = ("x", [0xFE])
    for entries in [
      [nothing], [circle], [other, circle], [circle, other], [other, nothing, other], [nothing, nothing],
      [circle, circle], [], [other], [circle, nothing], [nothing, other, circle], [invalid, circle], [circle, invalid],
      [("circle", [0xC0])], [("circle", [1])], [("circle", keyed([]))], [("nothing", [0xC0])], [("nothing", [1])],
    ] {
      _ = compare(Figure.self, message(keyed(entries)))
      _ = compare([Figure].self, message(unkeyed([keyed(entries), keyed([nothing])], count: 2)))
      _ = compare(Figure.self, message(keyed(entries)), BinaryMessageCoder(maximumKeyBytes: 5))
    }
    #expect(compare(Figure.self, message(keyed([other, circle, other]))) == "value circle(radius: 2.0)")
    #expect(compare(Figure.self, message(keyed([circle, nothing]))) == "typeMismatch at ")
    #expect(compare(Figure.self, message(keyed([other]))) == "typeMismatch at ")
    let long = message([0xC4, 11, 0, 0, 0, 0xFF, 7, 0, 0, 0] + Array("nothing".utf8) + keyed([]))
    _ = compare(Figure.self, long)
  }

  @Test("A value with a raw value is that, also where its entries are offered")
  func rawValue() throws {
    struct Named: MessageValue, RawRepresentable, Equatable {
      var rawValue: String
      func write(to writer: inout ValueWriter) {
        writer.writeEntries(of: self) { entries in entries.write(rawValue, forKey: "rawValue") }
      }
      init(rawValue: String) { self.rawValue = rawValue }
      init(from reader: inout ValueReader) throws {
        try self.init(fromEntriesOf: &reader) { entries in
          Named(rawValue: try entries.read(forKey: "rawValue"))
        }
      }
    }
    try check(Named(rawValue: "n"))
    try check([Named(rawValue: "")])
  }

  @Test("An error that a value catches leaves the other keys readable")
  func caught() throws {
    struct Lenient: MessageValue {
      var a: Int?, b: Int
      func write(to writer: inout ValueWriter) {}
      init(from reader: inout ValueReader) throws {
        let parts = try reader.readEntries { entries in
          (try? entries.read([[Int]].self, forKey: "a").first?.first, try entries.read(Int.self, forKey: "b"))
        }
        (a, b) = parts
      }
    }
    let inner = unkeyed([unkeyed([[0x81, 0x78], [1]], count: 2)], count: 1)
    #expect(try direct(Lenient.self, message(keyed([("a", inner), ("b", [5])]))).b == 5)
    #expect(corruption { try direct(Lenient.self, message(keyed([("a", [0xFE]), ("b", [5])]))) } != nil)
  }

  @Test("A value that writes nothing, or reads nothing, is a container without entries, or skipped")
  func nothing() throws {
    struct Nothing: MessageValue {
      func write(to writer: inout ValueWriter) {}
      init() {}
      init(from reader: inout ValueReader) {}
    }
    #expect(try coder.encode([Nothing(), Nothing()]) == encodeCodable([Nothing(), Nothing()]))
    #expect(try direct([Nothing].self, message(unkeyed([[1], [0x81, 0x78], keyed([])], count: 3))).count == 3)
    #expect(corruption { try direct(Nothing.self, message([0xFE])) } != nil)
    for bytes in [[], message([]), [0], [0, 1]] { _ = compare(Nothing.self, bytes) }
  }

  @Test("The limits are the coder's: depth, keys, and size, both ways", arguments: [0, 1, 2, 9, 512])
  func limits(limit: Int) throws {
    let limited = BinaryMessageCoder(maximumNestingDepth: limit)
    let generous = BinaryMessageCoder(maximumNestingDepth: 10_000)
    if limit > 0 {
      let nest = Nest(depth: limit - 1)
      #expect(try direct(Nest.self, try limited.encode(nest), limited) == nest)
    }
    #expect(throws: EncodingError.self) { try limited.encode(Nest(depth: limit)) }
    let bytes = try generous.encode(Nest(depth: limit))
    #expect(
      corruption { try direct(Nest.self, bytes, limited) }
        == "The message is nested more than \(limit) containers deep.")
    let small = BinaryMessageCoder(maximumMessageBytes: limit + 10)
    let text = String(repeating: "x", count: limit)
    #expect(throws: EncodingError.self) { try small.encode([text, text]) }
    #expect(corruption { try direct([String].self, try coder.encode([text, text]), small) } != nil)
    let short = BinaryMessageCoder(maximumKeyBytes: limit)
    #expect(throws: EncodingError.self) { try short.encode([text + "x": 1]) }
    #expect(corruption { try direct([String: Int].self, try coder.encode([text + "x": 1]), short) } != nil)
    #expect(try direct([String: Int].self, try short.encode([text: 1]), short) == [text: 1])
    if limit < 5 {
      let place = Place(x: 1, y: 2, label: "p")
      #expect(throws: EncodingError.self) { try short.encode(place) }
      #expect(corruption { try direct(Place.self, try coder.encode(place), short) } != nil)
    }
  }

  @Test("Whatever is done to a message, both ways make the same value of it, or none")
  func hostile() throws {
    var random = SeededRandom(state: 42)
    let originals = [
      try coder.encode(Whole.example), try coder.encode(Place(x: 1, y: 2, label: "p")),
      try coder.encode(Nest(depth: 5)), try coder.encode([Figure.polygon([1, 2], name: "n"), .nothing]),
      try coder.encode(["a": [1, 2], "b": []]), try coder.encode([1.5, 2]), try coder.encode([1: "x"]),
    ]
    func same<T: MessageValue & Equatable>(_ type: T.Type, _ bytes: [UInt8]) {
      let (own, other) = (try? direct(type, bytes), try? decode(type, bytes))
      if own != other, "\(own as Any)" != "\(other as Any)" { Issue.record("\(type) \(bytes)") }  // NaN
    }
    func all(_ bytes: [UInt8]) {
      same(Whole.self, bytes)
      same(Place.self, bytes)
      same(Nest.self, bytes)
      same([Figure].self, bytes)
      same([String: [Int]].self, bytes)
      same([Double?].self, bytes)
      same([Int: String].self, bytes)
      same(Set<String>.self, bytes)
      same([UInt8].self, bytes)
    }
    for original in originals {
      for end in original.indices { all(Array(original[..<end])) }
      for _ in 0..<1500 {
        var bytes = original
        for _ in 0..<Int.random(in: 1...3, using: &random) {
          let index = bytes.indices.randomElement(using: &random)!
          switch Int.random(in: 0..<4, using: &random) {
          case 0: bytes[index] = UInt8.random(in: 0...255, using: &random)
          case 1: bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &random)
          case 2: bytes[index] = [0xC0, 0xC4, 0xC5, 0xE3, 0xD3, 0x80, 0, 1].randomElement(using: &random)!
          default: bytes.swapAt(index, bytes.indices.randomElement(using: &random)!)
          }
        }
        all(bytes)
      }
    }
  }

  @Test("Entries in the order of their keys, if the coder is to sort them")
  func sorted() throws {
    let sorting = BinaryMessageCoder(sortsKeys: true)
    #expect(try sorting.encode(Whole.example).count == encodeCodable(Whole.example, sorting).count)
    #expect(try sorting.encode(["b": 1, "a": 2, "c": 3]) == encodeCodable(["b": 1, "a": 2, "c": 3], sorting))
  }
}

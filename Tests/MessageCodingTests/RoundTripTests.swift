import Foundation
import MessageCoding
import Testing

/// One value, with its type hidden so that values of different types go into one table.
struct RoundTrip: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let isKept: @Sendable () throws -> Bool

  init<T: Codable & Equatable & Sendable & SendableMetatype>(_ value: T, _ name: String? = nil) {
    testDescription = "\(T.self): \(name ?? String(String(describing: value).prefix(60)))"
    isKept = { try copy(value) == value }
  }
}

@Suite("Round trips")
struct RoundTripTests {
  static let primitives: [RoundTrip] = [
    .init(true), .init(false), .init(""), .init("a"), .init("żółw 🐢"),
    .init(String(repeating: "x", count: 63)), .init(String(repeating: "x", count: 64)),
    .init(String(repeating: "é", count: 100_000), "long"), .init("\0"),
    .init(0), .init(-1), .init(127), .init(128), .init(-128), .init(-129), .init(Int.max), .init(Int.min),
    .init(Int16.max), .init(Int32.min), .init(UInt64.max), .init(UInt32.max), .init(UInt8.max), .init(Int8.min),
    .init(Int128.max), .init(Int128.min), .init(UInt128.max), .init(UInt128(UInt64.max) + 1),
    .init(0.0), .init(-0.0), .init(Double.pi), .init(Double.infinity), .init(Float.leastNonzeroMagnitude),
    .init(Float16(1.5)), .init(Int?.none), .init(Int?.some(3)), .init(Int??.some(.some(4))),
  ]

  static let collections: [RoundTrip] = [
    .init([Int]()), .init([1, -2, 300]), .init([UInt8](0...255)), .init([Int8.min, 0, .max]), .init([Int16.min, .max]),
    .init([UInt16.max]), .init([Int32.min, 7]), .init([UInt32.max, 0]), .init([Int64.min]), .init([UInt64.max]),
    .init([UInt.max]), .init([1.5, -.infinity]), .init([Float(0.1)]), .init([Int128.max, 1]), .init([true, false]),
    .init(["a", "", "ccc"]), .init([[1], [], [2, 3]]), .init([Int?.some(1), nil, 3]), .init([[Double?]]([[nil], []])),
    .init(Set([1, 2, 3])), .init(ContiguousArray([1.0, 2.0])),
    .init(["a": 1, "": 2]), .init([1: "one", -7: "minus"]), .init([1.5: true]), .init([Colour.red: 1]),
    .init([UInt8(3): [Position(x: 0, y: 0)]]), .init([String: Int]()), .init(1..<5), .init(CollectionOfOne(3).first),
    .init(Array(repeating: Item.example, count: 100), "100 items"),
  ]

  static let types: [RoundTrip] = [
    .init(Item.example), .init(ManyNumbers.smallest), .init(ManyNumbers.largest),
    .init(Optionals(number: nil, text: nil, list: [], nested: nil, item: nil)),
    .init(Optionals(number: 1, text: "t", list: [1, nil], nested: 5, item: .example)),
    .init(Event.moved(id: 7, to: Position(x: 1, y: 2))), .init(Event.removed(3)), .init(Event.cleared),
    .init([Event.cleared, .removed(1)]), .init(Colour.green), .init([Colour.green, .red]),
    .init(Expression.sum(.sum(.number(1), .number(2)), .number(3))),
    .init(Tree.object(["a": .array([.null, .int(1), .double(0.5)]), "b": .object([:])])),
  ]

  static let foundation: [RoundTrip] = [
    .init(Data()), .init(Data([1, 2, 3])), .init(Data(repeating: 0xFF, count: 10_000)),
    .init(Data([9, 1, 2, 9])[1...2]), .init(Date(timeIntervalSinceReferenceDate: 12_345.678)), .init(Date.distantPast),
    .init(UUID(uuid: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16))),
    .init(Decimal(string: "-1234567890.0987654321")!), .init(URL(string: "https://swift.org/a?b=c#d")!),
    .init(URL(string: "b", relativeTo: URL(string: "https://swift.org/a/"))!), .init(["k": Data([1])]),
    .init(DateComponents(year: 2024, month: 2)), .init(IndexSet([1, 2, 9])), .init(CharacterSet(charactersIn: "ab")),
    .init(Locale(identifier: "de_DE")), .init(TimeZone(identifier: "UTC")!), .init([Date?.none, .distantFuture]),
    .init(Measurement(value: 3, unit: UnitLength.meters)),
  ]

  @Test("A value of a type of the standard library is equal after encoding and decoding", arguments: primitives)
  func primitivesAreKept(_ value: RoundTrip) throws { #expect(try value.isKept()) }

  @Test("A collection is equal after encoding and decoding", arguments: collections)
  func collectionsAreKept(_ value: RoundTrip) throws { #expect(try value.isKept()) }

  @Test("A value of a type with derived conformances is equal after encoding and decoding", arguments: types)
  func typesAreKept(_ value: RoundTrip) throws { #expect(try value.isKept()) }

  @Test("A value of a type of Foundation is equal after encoding and decoding", arguments: foundation)
  func foundationAreKept(_ value: RoundTrip) throws { #expect(try value.isKept()) }

  @Test("A NaN keeps its bits")
  func nan() throws {
    let value = Double(nan: 0x1234, signaling: false)
    #expect(try copy(value).bitPattern == value.bitPattern)
    #expect(try copy([value])[0].bitPattern == value.bitPattern)
  }

  @Test("Keys of any length and text are found again", arguments: [0, 1, 7, 8, 15, 16, 254, 255, 256, 1022])
  func keys(length: Int) throws {
    let value = [String(repeating: "k", count: length): 1, "ż" + String(repeating: "l", count: length): 2]
    #expect(try copy(value) == value)
  }

  @Test("An integer decodes as every type of integer that can represent it, in an array as well")
  func widths() throws {
    func check<From: FixedWidthInteger & Codable & Sendable, To: FixedWidthInteger & Codable & Sendable>(
      _ number: From, _ type: To.Type
    ) throws {
      let (one, many) = (try coder.encode(number), try coder.encode([number]))
      if let expected = To(exactly: number) {
        #expect(try decode(To.self, one) == expected)
        #expect(try decode([To].self, many) == [expected])
        #expect(try decode([To?].self, many) == [expected])
      } else {
        #expect(corruption { try decode(To.self, one) } == "The number is not representable in \(To.self).")
        #expect(outcome { try decode([To].self, many) } == "dataCorrupted at Index 0")
      }
    }
    func checkAll<From: FixedWidthInteger & Codable & Sendable>(_ number: From) throws {
      try check(number, Int8.self)
      try check(number, Int16.self)
      try check(number, Int32.self)
      try check(number, Int64.self)
      try check(number, Int.self)
      try check(number, Int128.self)
      try check(number, UInt8.self)
      try check(number, UInt16.self)
      try check(number, UInt32.self)
      try check(number, UInt64.self)
      try check(number, UInt.self)
      try check(number, UInt128.self)
    }
    for number in [0, 1, -1, 127, 128, 255, 256, -128, -129, 65_535, 65_536, -40_000, .max, .min] {
      try checkAll(number)
    }
    for number in [UInt64.max, 1 << 63] { try checkAll(number) }
    for number in [Int128.min, .max, -1] { try checkAll(number) }
    for number in [UInt8.max, 1] { try checkAll(number) }
    try checkAll(UInt128.max)
  }

  @Test("Arrays of numbers take what their elements take, plus 14 bytes and the version")
  func packing() throws {
    #expect(try coder.encode([UInt8](repeating: 7, count: 1000)).count == 1 + 14 + 1000)
    #expect(try coder.encode([Double](repeating: 7, count: 1000)).count == 1 + 14 + 8000)
    #expect(try coder.encode([Int](repeating: 7, count: 1000)).count == 1 + 14 + 8000)
    #expect(try coder.encode(Data(repeating: 7, count: 1000)).count == 1 + 14 + 1000)
    #expect(try coder.encode(Item.example).count < 96)
  }

  @Test("Numbers given in several sequences, contiguous and not, are one container of numbers")
  func runs() throws {
    struct Mixed: Codable, Equatable {
      var numbers: [Int]

      init(numbers: [Int]) { self.numbers = numbers }

      init(from decoder: any Decoder) throws {
        var container = try decoder.unkeyedContainer()
        numbers = []
        while !container.isAtEnd { numbers.append(try container.decode(Int.self)) }
      }

      func encode(to encoder: any Encoder) throws {
        var container = encoder.unkeyedContainer()
        try container.encode(contentsOf: numbers.map(Int16.init))
        try container.encode(contentsOf: [Double]())
        try container.encode(-5)
        try container.encode(contentsOf: numbers.lazy.map { UInt8($0) })
        try container.encode(contentsOf: numbers.map(Double.init))
        #expect(container.count == 3 * numbers.count + 1)
      }
    }
    #expect(try copy(Mixed(numbers: [1, 2, 3])).numbers == [1, 2, 3, -5, 1, 2, 3, 1, 2, 3])
  }
}

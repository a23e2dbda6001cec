import Foundation
import MessageCoding
import Testing

/// Decodes as one type and says how that ended; anything but a value or a `DecodingError` is recorded as an issue.
struct Attempt: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let isDecoded: @Sendable ([UInt8]) -> Bool

  init<T: Decodable & SendableMetatype>(_ type: T.Type) {
    testDescription = "\(type)"
    isDecoded = { bytes in
      do {
        _ = try decode(type, bytes)
        return true
      } catch is DecodingError {
        return false
      } catch {
        Issue.record("\(type) from \(bytes) threw \(error)")
        return false
      }
    }
  }
}

/// A valid message and the attempt that decodes it.
struct Sample: Sendable, CustomTestStringConvertible {
  let bytes: [UInt8]
  let attempt: Attempt
  var testDescription: String { "\(attempt.testDescription), \(bytes.count) bytes" }

  init<T: Codable & SendableMetatype>(_ value: T) {
    bytes = (try? coder.encode(value)) ?? []
    attempt = Attempt(T.self)
  }
}

@Suite("Hostile input")
struct HostileInputTests {
  static let samples: [Sample] = [
    .init(Item.example), .init([Item.example, .example]), .init(ManyNumbers.largest), .init([1, 2, 3]),
    .init([UInt8]([1, 2, 3])), .init(Data([4, 5, 6])), .init(["a": [1.5], "bb": []]), .init([1: "x", 2: "y"]),
    .init(Optionals(number: 1, text: "text", list: [1, nil], nested: 5, item: .example)),
    .init(Event.moved(id: 300, to: Position(x: 1, y: 2))),
    .init(Expression.sum(.number(1), .sum(.number(2), .number(3)))),
    .init(Tree.object(["a": .array([.null, .string("żółw"), .double(0.5)]), "b": .object(["": .bool(true)])])),
    .init(String(repeating: "long ", count: 20)), .init(Decimal(12)), .init(URL(string: "https://swift.org")!),
    .init(["key": Set([1000, 2000])]), .init([Int?.some(1), nil]), .init(Link(length: 4)),
  ]

  static let attempts: [Attempt] = [
    .init(Tree.self), .init(Item.self), .init([Int].self), .init([UInt8].self), .init(Data.self),
    .init([String: Tree].self), .init([Tree?].self), .init(Event.self), .init(Link.self), .init(Expression.self),
    .init(String.self), .init(Decimal.self), .init([Int: Double].self), .init(Set<String>.self), .init(Optionals.self),
  ]

  @Test("A message that ends too early is refused, wherever it ends", arguments: samples)
  func truncation(_ sample: Sample) {
    #expect(sample.attempt.isDecoded(sample.bytes))
    for length in 0..<sample.bytes.count {
      let bytes = Array(sample.bytes[..<length])
      #expect(!sample.attempt.isDecoded(bytes), "\(length) bytes")
      for attempt in Self.attempts { _ = attempt.isDecoded(bytes) }
    }
  }

  @Test("A message with any one bit changed is a value or an error", arguments: samples)
  func bitFlips(_ sample: Sample) {
    var refused = 0
    for bit in 0..<sample.bytes.count * 8 {
      var bytes = sample.bytes
      bytes[bit / 8] ^= 1 << (bit % 8)
      if !sample.attempt.isDecoded(bytes) { refused += 1 }
      _ = Self.attempts[0].isDecoded(bytes)
    }
    // All bits of the version at least.
    #expect(refused >= 8)
  }

  @Test("Random bytes are a value or an error", arguments: 0..<8)
  func randomBytes(part: Int) {
    let seed: UInt64 = 0x5EED_0000 + UInt64(part)
    print("Random bytes of part \(part) are from seed \(seed).")
    var random = SeededRandom(state: seed)
    let tags: [UInt8] = [
      0x00, 0x7F, 0x80, 0x81, 0xBF, 0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xD0, 0xD4, 0xDB, 0xE0, 0xE5, 0xEB, 0xFF,
    ]
    var decoded = 0
    for round in 0..<25_000 {
      var bytes: [UInt8] = [round % 50 == 0 ? UInt8.random(in: 0...255, using: &random) : 0xB1]
      let count = Int.random(in: 0...40, using: &random)
      while bytes.count < count {
        switch Int.random(in: 0..<4, using: &random) {
        case 0: bytes.append(UInt8.random(in: 0...255, using: &random))
        case 1: bytes.append(tags.randomElement(using: &random)!)
        case 2: bytes += littleEndian(UInt32.random(in: 0...30, using: &random))
        default:
          // A container that takes the rest, so that decoding goes deeper.
          let rest = UInt32(max(0, count - bytes.count - 5))
          bytes += [Bool.random(using: &random) ? 0xC4 : 0xC5] + littleEndian(rest)
        }
      }
      for attempt in 0..<2 {
        let index = attempt * round % Self.attempts.count
        if Self.attempts[index].isDecoded(bytes) { decoded += 1 }
      }
    }
    // Some are values: otherwise, decoding never got far.
    #expect(decoded > 100)
  }

  @Test("A count or length that is larger than the message is refused, before memory is reserved for it")
  func countBombs() {
    struct Counted: Decodable {
      init(from decoder: any Decoder) throws {
        let container = try decoder.unkeyedContainer()
        Issue.record("The container claims \(container.count ?? -1) items.")
      }
    }
    for count in [2, 100, 1 << 16, 1 << 31, UInt32.max] {
      let numbers = littleEndian(count)
      let bombs: [[UInt8]] = [
        unkeyed([[0x01]], count: count),
        unkeyed([], count: count),
        [0xC5] + numbers + numbers,
        [0xC3] + numbers + [0x61],
        [0xC4] + numbers + [0x01, 0x61, 0x01],
        unkeyed([[0xE5] + numbers + [0x01]], count: count),
        unkeyed([[0xE3] + numbers + [0x01]], count: count),
        unkeyed([[0xE4] + numbers], count: count),
        [0xC4] + littleEndian(6) + [0xFF] + numbers + [0x01],
      ]
      for (index, bomb) in bombs.enumerated() {
        for attempt in Self.attempts {
          #expect(!attempt.isDecoded(message(bomb)), "bomb \(index), \(count), \(attempt)")
        }
      }
      for bomb in bombs[0...2] { #expect(throws: DecodingError.self) { try decode(Counted.self, message(bomb)) } }
    }
  }

  @Test("An unkeyed container that has more items than its count is refused")
  func excessItems() {
    for attempt in [Attempt([Int].self), Attempt([UInt8].self), Attempt(Data.self), Attempt(Tree.self)] {
      #expect(attempt.isDecoded(message(unkeyed([[1], [2]]))))
      #expect(!attempt.isDecoded(message(unkeyed([[1], [2]], count: 1))))
      #expect(!attempt.isDecoded(message(unkeyed([[1], [2]], count: 0))))
      #expect(!attempt.isDecoded(message(unkeyed([[0xE5, 2, 0, 0, 0, 1, 2]], count: 1))))
      #expect(!attempt.isDecoded(message(unkeyed([[0xE5, 0, 0, 0, 0], [1]], count: 1))))
      #expect(attempt.isDecoded(message(unkeyed([[0xE5, 2, 0, 0, 0, 1, 2], [3]], count: 3))))
    }
  }

  @Test("Runs outside of unkeyed containers, and reserved tags anywhere, are refused")
  func reservedTags() {
    let run: [UInt8] = [0xE5, 1, 0, 0, 0, 1]
    for attempt in Self.attempts {
      #expect(!attempt.isDecoded(message(run)))
      #expect(!attempt.isDecoded(message(keyed([("a", run)]))))
      for tag in Array(0xC6...0xCF) + Array(0xDC...0xDF) + Array(0xE0...0xFF) as [UInt8] {
        #expect(!attempt.isDecoded(message([tag])))
      }
    }
    for tag in Array(0xC6...0xCF) + Array(0xDC...0xDF) + Array(0xEC...0xFF) as [UInt8] {
      #expect(!Attempt(Tree.self).isDecoded(message(unkeyed([[tag, 1, 0, 0, 0, 1]], count: 1))))
    }
  }

  @Test("Many keys, looked up in any order, take time in proportion to their number")
  func manyKeys() throws {
    struct Reader: Decodable {
      init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: Tree.Key.self)
        for key in container.allKeys.reversed() {
          #expect(try container.decode(Int.self, forKey: key) == key.stringValue.utf8.count)
          #expect(!container.contains(Tree.Key(key.stringValue + "?")))
        }
      }
    }
    try expectProportionalTime { count in
      let entries = (0..<count).map { number in
        let key = String(number, radix: 36)
        return (key, [UInt8(key.utf8.count)])
      }
      let bytes = message(keyed(entries))
      return { _ = try decode(Reader.self, bytes) }
    }
  }

  @Test("An error for each item of a long array takes time in proportion to their number")
  func manyErrors() throws {
    try expectProportionalTime { count in
      let bytes = try coder.encode([String](repeating: "x", count: count))
      return { _ = try decode([Tree].self, bytes) }
    }
  }

  /// Expects that eight times as many take about eight times as long, rather than sixty-four times.
  ///
  /// This is the time that the thread has had a processor, which does not depend on what else is running.
  private func expectProportionalTime(_ prepare: (Int) throws -> () throws -> Void) throws {
    func seconds(_ count: Int) throws -> Double {
      let body = try prepare(count)
      var (start, end) = (timespec(), timespec())
      _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start)
      try body()
      _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
      return Double(end.tv_sec - start.tv_sec) + Double(end.tv_nsec - start.tv_nsec) / 1e9
    }
    let (few, many) = (try seconds(1500), try seconds(12_000))
    #expect(many < few * 24, "\(few) s, then \(many) s")
  }

  @Test("A key that is there twice is found, and fails nothing")
  func repeatedKeys() throws {
    let bytes = message(keyed([("a", [1]), ("a", [2]), ("b", [3]), ("a", [4])]))
    #expect(try decode([String: Int].self, bytes).keys.sorted() == ["a", "b"])
    struct Reader: Decodable { var a, b: Int }
    #expect(try decode(Reader.self, bytes).b == 3)
  }
}

import Foundation
import MessageCoding
import Testing

@Suite("Data")
struct ByteStringTests {
  struct Letter: Codable, Equatable {
    var name = "letter"
    var contents: Data
    var maybe: Data?
    var all: [Data] = []
    var byName: [String: Data] = [:]
  }

  /// Decodes itself as a single value, which is another way to ask for one.
  struct Wrapped: Codable, Equatable {
    var contents: Data
    init(_ contents: Data) { self.contents = contents }
    init(from decoder: any Decoder) throws { contents = try decoder.singleValueContainer().decode(Data.self) }
    func encode(to encoder: any Encoder) throws {
      var container = encoder.singleValueContainer()
      try container.encode(contents)
    }
  }

  static func data(_ count: Int) -> Data { Data((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }) }

  @Test(
    "Data of any length, and wherever it is, comes back", arguments: [0, 1, 100, 114, 115, 116, 128, 129, 1000, 70_000])
  func roundTrip(count: Int) throws {
    let data = Self.data(count)
    let letter = Letter(contents: data, maybe: data, all: [data, Data(), data], byName: ["a": data, "b": Data([1])])
    #expect(try copy(letter) == letter)
    #expect(try copy(Wrapped(data)) == Wrapped(data))
    #expect(try copy(data) == data)
    #expect(try copy(Data([1, 2, 3]) + data.dropFirst()) == Data([1, 2, 3]) + data.dropFirst())
    #expect(try coder.encode(data) == coder.encode([UInt8](data)))
  }

  @Test("Data in a value is copied, and does not decode itself byte by byte")
  func copying() throws {
    struct Plain: Codable { var contents: [UInt8] }
    let count = 4 << 20
    let letter = try coder.encode(Letter(contents: Self.data(count)))
    let wrapped = try coder.encode(Wrapped(Self.data(count)))
    let plain = try coder.encode(Plain(contents: [UInt8](repeating: 7, count: count)))
    // The bytes of an array are copied: the measure for what that takes here, on this machine, now.
    let measure = try seconds { _ = try decode(Plain.self, plain) }
    #expect(try seconds { _ = try decode(Letter.self, letter) } < measure * 10 + 0.01)
    #expect(try seconds { _ = try decode(Wrapped.self, wrapped) } < measure * 10 + 0.01)
    let encodingMeasure = try seconds { _ = try coder.encode(Plain(contents: [UInt8](repeating: 7, count: count))) }
    let data = Letter(contents: Self.data(count))
    #expect(try seconds { _ = try coder.encode(data) } < encodingMeasure * 10 + 0.01)
  }

  @Test("Bytes that are not one run, numbers that are no bytes, and arrays that lie decode as they did")
  func otherForms() throws {
    let numbers = [Int](repeating: 200, count: 1000)
    #expect(try decode(Data.self, try coder.encode(numbers)) == Data(repeating: 200, count: 1000))
    #expect(corruption { try decode(Data.self, try coder.encode([Int](repeating: 256, count: 1000))) } != nil)
    let inParts = message(unkeyed([run(0xE5, 300), run(0xE5, 300)], count: 600))
    #expect(try decode(Data.self, inParts) == Data(repeating: 9, count: 600))
    for count: UInt32 in [0, 299, 301] {
      #expect(corruption { try decode(Data.self, message(unkeyed([run(0xE5, 300)], count: count))) } != nil)
    }
    let tooDeep = BinaryMessageCoder(maximumNestingDepth: 1)
    #expect(try decode(Data.self, try coder.encode(Self.data(1000)), tooDeep) == Self.data(1000))
    #expect(corruption { try decode([Data].self, try coder.encode([Self.data(1000)]), tooDeep) } != nil)
  }

  @Test("A type that looks like Data, and is another, decodes itself")
  func namesake() throws {
    let bytes = try coder.encode(ByteStringTests.data(1000))
    #expect(try decode(Namesakes.Data.self, bytes).sum == ByteStringTests.data(1000).reduce(0) { $0 + Int($1) })
  }

  private func run(_ tag: UInt8, _ count: Int) -> [UInt8] {
    [tag] + littleEndian(UInt32(count)) + [UInt8](repeating: 9, count: count)
  }

  private func seconds(_ body: () throws -> Void) rethrows -> Double {
    var (start, end) = (timespec(), timespec())
    _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start)
    try body()
    _ = unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end)
    return Double(end.tv_sec - start.tv_sec) + Double(end.tv_nsec - start.tv_nsec) / 1e9
  }
}

enum Namesakes {
  struct Data: Decodable {
    var sum = 0
    init(from decoder: any Decoder) throws {
      var container = try decoder.unkeyedContainer()
      while !container.isAtEnd { sum += Int(try container.decode(UInt8.self)) }
    }
  }
}

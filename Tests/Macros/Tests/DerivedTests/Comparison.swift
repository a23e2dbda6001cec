import MessagePorts
import Testing

let coder = BinaryMessageCoder()

func readDirectly<T: MessageValue>(_ type: T.Type, _ bytes: [UInt8]) throws -> T {
  try unsafe coder.decode(type, from: bytes.span.bytes)
}

/// By the conformance that the compiler derives: nothing else is known of `T`.
func readCodable<T: Decodable>(_ type: T.Type, _ bytes: [UInt8]) throws -> T {
  try unsafe coder.decode(type, from: bytes.span.bytes)
}

func encodeCodable<T: Encodable>(_ value: T) throws -> [UInt8] { try coder.encode(value) }

/// Both ways write the same bytes, and each reads what the other has written; whatever is done to the bytes, both make the
/// same value of them, or none.
func check<T: MessageValue & Equatable>(_ value: T, at location: SourceLocation = #_sourceLocation) throws {
  let bytes = try encodeCodable(value)
  #expect(try coder.encode(value) == bytes, sourceLocation: location)
  #expect(try readDirectly(T.self, bytes) == value, sourceLocation: location)
  #expect(try readCodable(T.self, bytes) == value, sourceLocation: location)
  var random = SeededRandom(state: 1)
  for end in bytes.indices { compare(T.self, Array(bytes[..<end]), location) }
  for _ in 0..<500 {
    var bytes = bytes
    for _ in 0..<Int.random(in: 1...2, using: &random) {
      let index = bytes.indices.randomElement(using: &random)!
      bytes[index] = Bool.random(using: &random) ? bytes[index] ^ 1 : UInt8.random(in: 0...255, using: &random)
    }
    compare(T.self, bytes, location)
  }
}

private func compare<T: MessageValue & Equatable>(_ type: T.Type, _ bytes: [UInt8], _ location: SourceLocation) {
  let (direct, codable) = (try? readDirectly(type, bytes), try? readCodable(type, bytes))
  // NaN is not equal to itself.
  if direct != codable, "\(direct as Any)" != "\(codable as Any)" {
    Issue.record("\(type) \(bytes): \(direct as Any), by Codable \(codable as Any)", sourceLocation: location)
  }
}

/// What both ways make of a message with these entries: a value, or the same error at the same place.
@discardableResult
func read<T: MessageValue>(
  _ type: T.Type, _ value: [UInt8], at location: SourceLocation = #_sourceLocation
) -> String {
  let bytes = [0xB1] + value
  let direct = outcome { try readDirectly(type, bytes) }
  #expect(direct == outcome { try readCodable(type, bytes) }, "\(type) \(value)", sourceLocation: location)
  return direct
}

private func outcome<T>(_ body: () throws -> T) -> String {
  func path(_ context: DecodingError.Context) -> String {
    context.codingPath.map(\.stringValue).joined(separator: "/")
  }
  do {
    return "\(try body())"
  } catch DecodingError.keyNotFound(let key, let context) {
    return "keyNotFound \(key.stringValue) at \(path(context))"
  } catch DecodingError.typeMismatch(_, let context) {
    return "typeMismatch at \(path(context))"
  } catch DecodingError.valueNotFound(_, let context) {
    return "valueNotFound at \(path(context))"
  } catch DecodingError.dataCorrupted(let context) {
    return "dataCorrupted at \(path(context))"
  } catch {
    return "other error: \(error)"
  }
}

/// A keyed container, as the format has it.
func keyed(_ entries: (String, [UInt8])...) -> [UInt8] {
  let body = entries.flatMap { [UInt8($0.0.utf8.count)] + Array($0.0.utf8) + $0.1 }
  return [0xC4] + littleEndian(body.count) + body
}

/// An unkeyed container with one item.
func item(_ value: [UInt8]) -> [UInt8] { [0xC5] + littleEndian(value.count + 4) + littleEndian(1) + value }

private func littleEndian(_ number: Int) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) } }

/// SplitMix64: the same numbers from the same seed, everywhere.
struct SeededRandom: RandomNumberGenerator {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}

import MessageCoding

let coder = BinaryMessageCoder()

func decode<T: Decodable>(_ type: T.Type, _ bytes: [UInt8], _ coder: BinaryMessageCoder = coder) throws -> T {
  try unsafe coder.decode(type, from: bytes.span.bytes)
}

/// The value after encoding and decoding.
func copy<T: Codable>(_ value: T, _ coder: BinaryMessageCoder = coder) throws -> T {
  try decode(T.self, try coder.encode(value), coder)
}

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

/// What decoding ended with: the value, or the case and path of the error.
func outcome<T>(_ body: () throws -> T) -> String {
  func path(_ context: DecodingError.Context) -> String {
    context.codingPath.map(\.stringValue).joined(separator: "/")
  }
  do {
    return "value \(try body())"
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

/// The description of a `dataCorrupted` error, or nil if decoding ended otherwise.
func corruption<T>(_ body: () throws -> T) -> String? {
  do {
    _ = try body()
    return nil
  } catch DecodingError.dataCorrupted(let context) {
    return context.debugDescription
  } catch {
    return nil
  }
}

// Parts of messages, as the format has them.

func littleEndian(_ number: UInt32) -> [UInt8] {
  (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
}

func message(_ value: [UInt8]) -> [UInt8] { [0xB1] + value }

func keyed(_ entries: [(String, [UInt8])]) -> [UInt8] {
  let body = entries.flatMap { [UInt8($0.0.utf8.count)] + Array($0.0.utf8) + $0.1 }
  return [0xC4] + littleEndian(UInt32(body.count)) + body
}

func unkeyed(_ items: [[UInt8]], count: UInt32? = nil) -> [UInt8] {
  let body = items.flatMap { $0 }
  return [0xC5] + littleEndian(UInt32(body.count + 4)) + littleEndian(count ?? UInt32(items.count)) + body
}
